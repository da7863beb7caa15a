"""The event log's database for `WorkflowTracker` and the views, which old programs construct themselves.

All objects of a process that name the same database share one engine. Disposing it closes its idle connections only;
the next statement opens new ones.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from eventsourcing.popo import POPOFactory
from eventsourcing.utils import Environment
from sqlalchemy import Engine

from biomeroworker.config import Settings
from biomeroworker.eventlog.database import connect
from biomeroworker.eventlog.store.recorder import SQLRecorder

_lock = threading.Lock()
#: By process and URL: a connection must not be used on both sides of a fork.
_engines: dict[tuple[int, str], Engine] = {}


class Datastore:
    """The database of an application, under the name that eventsourcing_sqlalchemy has for it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine


class LogFactory(POPOFactory):
    """The infrastructure of an application: ``factory.datastore.engine`` is the engine of the event log."""

    def __init__(self, env: Environment, engine: Engine) -> None:
        super().__init__(env)
        self.datastore = Datastore(engine)


def database_url(env: Mapping[str, str] | None = None) -> str:
    """The URL of the event log: ``SQLALCHEMY_URL`` of ``env``, then of the environment, then of the configuration."""
    return (env or {}).get("SQLALCHEMY_URL") or os.environ.get("SQLALCHEMY_URL") or Settings.load().database_url


def shared_engine(url: str) -> Engine:
    """The engine of this process for a database."""
    with _lock:
        key = os.getpid(), url
        if key not in _engines:
            _engines[key] = connect(url)
        return _engines[key]


def forget_engine(url: str) -> None:
    """Close the idle connections; the next `shared_engine` makes a new engine."""
    with _lock:
        engine = _engines.pop((os.getpid(), url), None)
    if engine is not None:
        engine.dispose()


def open_recorder(env: Mapping[str, str] | None = None) -> SQLRecorder:
    """The recorder of a database. Its tables are made unless ``CREATE_TABLE`` of ``env`` is a word for no."""
    recorder = SQLRecorder(shared_engine(database_url(env)))
    if str((env or {}).get("CREATE_TABLE", "yes")).lower() not in ("n", "no", "f", "false", "off", "0"):
        recorder.create()
    return recorder


def recorder_of(args: tuple[Any, ...], options: Mapping[str, Any]) -> SQLRecorder:
    """The recorder for an application's constructor arguments: a recorder, or an environment, or nothing."""
    given = args[0] if args else options.get("recorder", options.get("env"))
    return given if isinstance(given, SQLRecorder) else open_recorder(given)
