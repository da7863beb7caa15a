"""The tables: the events, the read tables, and our own tables.

Names and columns of `workflowtracker_events` and of the ``biomero_*`` tables are a contract with existing databases
and dashboards. Times are UTC, in columns without a time zone; they do not depend on the time zone of the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

_Serial = BigInteger().with_variant(Integer, "sqlite")

#: Attribute of a SQLite engine's dialect: the events table has its ids as 16 bytes, as biomero 2.8 made it.
BINARY_IDS = "biomero_binary_ids"


class AggregateId(TypeDecorator[UUID]):
    """An aggregate's id, given as UUID or text: a UUID in PostgreSQL; in SQLite 32 hexadecimal digits or 16 bytes."""

    impl = Uuid
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """What the column is declared as."""
        return dialect.type_descriptor(CHAR(32) if dialect.name == "sqlite" else Uuid())

    def process_bind_param(self, value: UUID | str | None, dialect: Dialect) -> Any:
        """The value as the column has it."""
        if value is None:
            return None
        one = value if isinstance(value, UUID) else UUID(value)
        if dialect.name != "sqlite":
            return one
        return one.bytes if getattr(dialect, BINARY_IDS, False) else one.hex

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        """The id that the column has."""
        if value is None or isinstance(value, UUID):
            return value
        return UUID(bytes=value) if isinstance(value, bytes) else UUID(value)


metadata = MetaData()

#: The row of `TRACKING` that is ours.
APPLICATION = "WorkflowTracker"

EVENTS = Table(
    "workflowtracker_events",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("originator_id", AggregateId, nullable=False),
    Column("originator_version", BigInteger, nullable=False),
    Column("topic", Text, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Index("workflowtracker_events_aggregate_idx", "originator_id", "originator_version", unique=True),
    sqlite_autoincrement=True,
)

#: The last event that is projected to the read tables, and the version of the projections.
TRACKING = Table(
    "biomeroworker_tracking",
    metadata,
    Column("application_name", String(32), primary_key=True),
    Column("notification_id", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
)

#: The supervisor that executes a run, and the end of its lease (seconds since 1970 by the clock of the database).
LEASES = Table(
    "biomeroworker_lease",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("holder", String, nullable=False),
    Column("until", Float, nullable=False),
)

#: Notifications about ended runs, one for each channel, recorded in the transaction of the terminal event. Times are
#: seconds since 1970 by the clock of the database; until ``until``, a row is claimed by its ``holder``.
OUTBOX = Table(
    "biomeroworker_outbox",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("run_id", Uuid, nullable=False),
    Column("channel", String(16), nullable=False),
    Column("recorded", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("holder", String, nullable=False),
    Column("until", Float, nullable=False),
    Column("closed", Float),
    Column("outcome", Text, nullable=False),  # closed row: the result; open row: the last error
    Index("biomeroworker_outbox_once", "run_id", "channel", unique=True),
    Index(
        "biomeroworker_outbox_open",
        "due",
        postgresql_where=text("closed IS NULL"),
        sqlite_where=text("closed IS NULL"),
    ),
    sqlite_autoincrement=True,
)

#: Ended runs whose folder on the cluster was removed (at ``swept``), or is to be removed (next attempt at ``due``).
CLEANUP = Table(
    "biomeroworker_swept",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("swept", Float),
    Column("due", Float, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("problem", Text, nullable=False),
)

#: Jobs of cancelled runs that may still be on a cluster, by the attempt's name, which is the job's name.
PENDING_CANCELS = Table(
    "biomeroworker_owed_cancel",
    metadata,
    Column("name", String, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("since", DateTime, nullable=False),  # UTC: no job of the run is older
)

#: Tables whose content exists nowhere else. A change of one needs a revision in `biomeroworker.eventlog.migrations`.
OWN_TABLES = (TRACKING, LEASES, OUTBOX, CLEANUP, PENDING_CANCELS)


@dataclass(frozen=True)
class Views:
    """The read tables, which can be made again from the events."""

    jobs: Table
    job_progress: Table
    workflow_progress: Table
    task_execution: Table
    runs: Table
    tasks: Table

    def all(self) -> tuple[Table, ...]:
        """All read tables."""
        return (self.jobs, self.job_progress, self.workflow_progress, self.task_execution, self.runs, self.tasks)


def define_views(meta: MetaData, prefix: str = "", *, temporary: bool = False) -> Views:
    """Define the read tables, or with ``prefix`` and ``temporary`` copies of them for a rebuild."""
    prefixes = ["TEMPORARY"] if temporary else []
    indexes = (
        []
        if temporary
        else [
            Index("biomeroworker_run_created", "started"),
            Index("biomeroworker_run_user", "user"),
            # supervisors query these every few seconds, so ended runs must not be read
            Index(
                "biomeroworker_run_open",
                "run_id",
                postgresql_where=text("ended IS NULL AND carried"),
                sqlite_where=text("ended IS NULL AND carried"),
            ),
        ]
    )
    return Views(
        jobs=Table(
            f"{prefix}biomero_job_view",
            meta,
            Column("slurm_job_id", Integer, primary_key=True, autoincrement=False),
            Column("user", Integer, nullable=False),
            Column("group", Integer, nullable=False),
            Column("task_id", Uuid),
            prefixes=prefixes,
        ),
        job_progress=Table(
            f"{prefix}biomero_job_progress_view",
            meta,
            Column("slurm_job_id", Integer, primary_key=True, autoincrement=False),
            Column("status", String, nullable=False),
            Column("progress", String),
            prefixes=prefixes,
        ),
        workflow_progress=Table(
            f"{prefix}biomero_workflow_progress_view",
            meta,
            Column("workflow_id", Uuid, primary_key=True),
            Column("status", String),
            Column("progress", String),
            Column("user", Integer),
            Column("group", Integer),
            Column("name", String),
            Column("task", String),
            Column("main_task_name", String),
            Column("start_time", DateTime, nullable=False),
            prefixes=prefixes,
        ),
        task_execution=Table(
            f"{prefix}biomero_task_execution",
            meta,
            Column("task_id", Uuid, primary_key=True),
            Column("task_name", String, nullable=False),
            Column("task_version", String),
            Column("user_id", Integer),
            Column("group_id", Integer),
            Column("status", String, nullable=False),
            Column("start_time", DateTime, nullable=False),
            Column("end_time", DateTime),
            Column("error_type", String),
            prefixes=prefixes,
        ),
        runs=Table(
            f"{prefix}biomeroworker_run",
            meta,
            Column("run_id", Uuid, primary_key=True),
            Column("name", String, nullable=False),
            Column("workflow", String, nullable=False),
            Column("state", String, nullable=False),
            Column("paused", Boolean, nullable=False),
            Column("pause_reason", Text, nullable=False),
            Column("cancel_requested", Boolean, nullable=False),
            Column("user", Integer, nullable=False),
            Column("group", Integer, nullable=False),
            Column("attempt", Integer, nullable=False),
            Column("job_id", BigInteger),
            Column("started", DateTime, nullable=False),
            Column("modified", DateTime, nullable=False),
            Column("ended", DateTime),
            Column("message", Text, nullable=False),
            Column("carried", Boolean, nullable=False),
            *indexes,
            prefixes=prefixes,
        ),
        tasks=Table(
            f"{prefix}biomeroworker_task",
            meta,
            Column("task_id", Uuid, primary_key=True),
            Column("run_id", Uuid, nullable=False),
            Column("name", String, nullable=False),
            Column("status", String),
            Column("progress", String),
            Column("job_id", Integer),
            *([] if temporary else [Index("biomeroworker_task_run", "run_id")]),
            prefixes=prefixes,
        ),
    )


VIEWS = define_views(metadata)
