"""SQLAlchemy sessions on the log's read tables, for programs that query them by class."""

from __future__ import annotations

import threading
from typing import ClassVar

from sqlalchemy import Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from biomero.compat.applications import database_url, forget_engine, shared_engine
from biomeroworker.eventlog.store.recorder import SQLRecorder


class EngineManager:
    """One engine and a session for each thread, until `close_engine`. No client uses or closes it.

    Examples
    --------
    >>> topic = EngineManager.create_scoped_session("sqlite://")
    >>> with EngineManager.get_session() as session:
    ...     session.query(JobView).all()
    []
    >>> EngineManager.close_engine()
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _url: ClassVar[str] = ""
    _engine: ClassVar[Engine | None] = None
    _sessions: ClassVar[scoped_session[Session] | None] = None

    @classmethod
    def create_scoped_session(cls, sqlalchemy_url: str | None = None) -> str:
        """Make sessions for this database (by default the configured one), with its tables if it has none yet.

        Returns
        -------
        The place of their class.
        """
        url = sqlalchemy_url or database_url()
        with cls._lock:
            if cls._engine is None or url != cls._url:
                cls._dispose()
                engine = shared_engine(url)
                SQLRecorder(engine).create()
                cls._url, cls._engine, cls._sessions = url, engine, scoped_session(sessionmaker(engine))
        return f"{cls.__module__}:{cls.__name__}"

    @classmethod
    def get_session(cls) -> Session:
        """The session of the calling thread."""
        if cls._sessions is None:
            cls.create_scoped_session()
        assert cls._sessions is not None
        return cls._sessions()

    @classmethod
    def commit(cls) -> None:
        """Commit this thread's session; on a fault it is rolled back, and the fault raised."""
        try:
            cls.get_session().commit()
        except BaseException:
            cls.rollback()
            raise

    safe_commit = commit

    @classmethod
    def rollback(cls) -> None:
        """Roll this thread's session back."""
        cls.get_session().rollback()

    @classmethod
    def remove_session(cls) -> None:
        """End this thread's session."""
        if cls._sessions is not None:
            cls._sessions.remove()

    @classmethod
    def close_engine(cls) -> None:
        """End all of them."""
        with cls._lock:
            cls._dispose()

    @classmethod
    def _dispose(cls) -> None:
        if cls._sessions is not None:
            cls._sessions.remove()
        if cls._engine is not None:
            forget_engine(cls._url)
        cls._engine = cls._sessions = None
