"""The schema version of a log's database: read it, refuse a newer one, migrate an older one.

Three groups of tables are in the database. Our own (`OWN_TABLES`) hold what exists nowhere else; alembic's revisions in
`biomeroworker.eventlog.migrations` change them. The read tables are made again from the events when their version
(`projections.handlers.VERSION`) changes. The table of events never changes.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, String, column, func, inspect, null, select, table
from sqlalchemy.exc import DBAPIError

from biomeroworker import __version__
from biomeroworker.errors import ConfigError
from biomeroworker.eventlog.projections import handlers
from biomeroworker.eventlog.tables import APPLICATION, TRACKING, metadata

logger = logging.getLogger(__name__)

#: Alembic's table, of one row: the revision of the database.
VERSION_TABLE = "biomeroworker_schema"
#: Alembic's folder.
SCRIPTS = Path(__file__).parents[1] / "migrations"
#: The revision of databases in which no revision is recorded.
FIRST_REVISION = "0001"

_RECORDED = select(column("version_num", String)).select_from(table(VERSION_TABLE))

#: SQLSTATE of PostgreSQL: undefined_table, insufficient_privilege, read_only_sql_transaction.
_UNDEFINED_TABLE, _NO_PRIVILEGE, _READ_ONLY = "42P01", "42501", "25006"
#: Alembic keeps the migration that it runs in variables of its modules.
_alembic = threading.Lock()


class SchemaState(NamedTuple):
    """What is in a database."""

    views: int | None = None  #: version of the read tables; None where this product has never opened the database
    revision: str | None = None  #: of `OWN_TABLES`; None: not recorded
    tables: int = 0  #: how many of the tables in `tables.metadata` exist

    @property
    def is_complete(self) -> bool:
        """Whether all tables are there as this version uses them, whether their revision is recorded or not."""
        revision = self.revision or FIRST_REVISION
        return (self.views, revision, self.tables) == (handlers.VERSION, latest_revision(), len(metadata.tables))

    @property
    def is_current(self) -> bool:
        """Whether opening has nothing to do."""
        return self.is_complete and self.revision is not None


@functools.cache
def _revisions(scripts: Path) -> tuple[str, ...]:
    """The revisions of a folder of alembic's, oldest first."""
    return tuple(sorted(path.stem.removeprefix("revision_") for path in scripts.glob("versions/revision_*.py")))


def latest_revision() -> str:
    """The revision that this version of the product uses."""
    return _revisions(SCRIPTS)[-1]


def read(connection: Connection) -> SchemaState:
    """What is in the database; one statement where all is as it should be.

    Raises
    ------
    ConfigError
        A newer version of the product has migrated the database.
    """
    for query in _queries(connection.dialect.name):
        try:
            row = connection.execute(query).one_or_none()
        except DBAPIError as error:
            if not (_sqlstate(error) in (_UNDEFINED_TABLE, _NO_PRIVILEGE) or "no such table" in str(error.orig)):
                raise
            connection.rollback()
        else:
            state = SchemaState(*row) if row is not None else SchemaState()
            _refuse_newer(state.revision)
            return state
    return SchemaState()


def migrate(connection: Connection) -> None:
    """Bring `OWN_TABLES` to the latest revision, inside the caller's transaction, which must hold the lock for it.

    Raises
    ------
    ConfigError
        A newer version of the product has migrated the database.
    """
    if inspect(connection).has_table(VERSION_TABLE):
        found = connection.execute(_RECORDED).scalar_one_or_none()
        _refuse_newer(found)
        if found == latest_revision():
            return
    from alembic import command  # slow to import, and rarely needed
    from alembic.config import Config

    config = Config(attributes={"configure": {"connection": connection, "version_table": VERSION_TABLE}})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    with _alembic:
        command.upgrade(config, "head")


def refused_change(error: DBAPIError) -> bool:
    """Whether the database refuses a change of tables to this account, or all changes."""
    code = getattr(error.orig, "sqlite_errorcode", 0)
    return _sqlstate(error) in (_NO_PRIVILEGE, _READ_ONLY) or code & 0xFF == sqlite3.SQLITE_READONLY


def open_unchanged(state: SchemaState, error: DBAPIError) -> None:
    """Go on with a database in which this account may not change tables, if nothing has to be changed.

    Raises
    ------
    ConfigError
        Tables are missing, or are those of an earlier version.
    """
    if not state.is_complete:
        raise ConfigError(
            f"the tables of the event log are missing or of an earlier version, and the database account may not "
            f"change them ({str(error.orig).strip().partition(chr(10))[0]}); open the log once with an account that "
            f"may create and alter tables: set [ANALYTICS] sqlalchemy_url and run `biomeroworker runs`"
        ) from None
    logger.info("the database account may not create tables: the schema version (%s) is not recorded", FIRST_REVISION)


def _refuse_newer(revision: str | None) -> None:
    if revision is not None and revision not in _revisions(SCRIPTS):
        raise ConfigError(
            f"a newer version of biomeroworker has migrated the database of the event log to schema {revision}; this "
            f"version ({__version__}) knows schema {latest_revision()} at most. Install the newer version again, or "
            f"restore the backup of the database from before the upgrade"
        )


@functools.cache
def _queries(dialect: str) -> tuple[Select[Any], Select[Any]]:
    """The statement for a `SchemaState`, and one for a database whose version table is missing or not readable."""
    query = select(TRACKING.c.version).where(TRACKING.c.application_name == APPLICATION)
    tables = _count_tables(dialect)
    return query.add_columns(_RECORDED.scalar_subquery(), tables), query.add_columns(null(), tables)


def _count_tables(dialect: str) -> ColumnElement[int]:
    """How many of our tables exist, as a column: tables that were deleted are made again."""
    if dialect == "postgresql":
        return func.num_nonnulls(*(func.to_regclass(name) for name in metadata.tables))
    found = select(func.count()).select_from(table("sqlite_master")).where(column("type", String) == "table")
    return found.where(column("name", String).in_(metadata.tables)).scalar_subquery()


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None)
