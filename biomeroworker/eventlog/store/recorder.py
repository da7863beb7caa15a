"""Records events and updates the read tables in the same transaction.

This prevents an event without its row, a row without its event, and an event that is projected twice. A write locks the
position of the read tables, inserts its events, projects all events after the position, updates the position, and
commits once. So event numbers are in commit order, no event is skipped, and a process that is killed leaves no partial
change. The next write also projects events that another program has inserted without projecting them.

The row with the position serialises the writers of one database for the milliseconds of a write; readers do not wait.
Existing programs lock the whole table of events. An INSERT conflicts with that lock, so both can write to one database.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn
from uuid import UUID

from eventsourcing.persistence import (
    ApplicationRecorder,
    DatetimeAsISO,
    DecimalAsStr,
    IntegrityError,
    JSONTranscoder,
    Notification,
    StoredEvent,
    UUIDAsHex,
)
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Float,
    MetaData,
    Select,
    Update,
    and_,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import IntegrityError as DatabaseIntegrityError

from biomeroworker.eventlog.database import allow_long
from biomeroworker.eventlog.mapper import EVENT_NAME, class_topic
from biomeroworker.eventlog.projections import handlers
from biomeroworker.eventlog.projections.row_cache import RowCache
from biomeroworker.eventlog.store import fence, outbox_rows, schema
from biomeroworker.eventlog.tables import APPLICATION, EVENTS, TRACKING, VIEWS, Views, define_views, metadata

logger = logging.getLogger(__name__)

#: Number of events that are projected together when there are many.
BATCH_EVENTS = 2000

#: For up to so many events, one statement reads all their rows: events of one change, not of a long history.
_READ_TOGETHER_EVENTS = 50

#: Key of the advisory lock for making and migrating tables. It is a lock of the transaction, not of the session, so
#: that it also works through a connection pooler.
_CREATE_LOCK_KEY = 0x62696F6D


class SQLRecorder(ApplicationRecorder):
    """Records events and updates the read tables, with SQLAlchemy, in PostgreSQL or SQLite."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._transcoder = JSONTranscoder()
        for transcoding in (UUIDAsHex(), DecimalAsStr(), DatetimeAsISO()):
            self._transcoder.register(transcoding)

    # -- making -------------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Make and migrate the tables; one statement where nothing is to do.

        All changes are one transaction: processes that open the same database wait for each other, and a process that
        is killed leaves the database as it was. The read tables of a database of another version are made again from
        the events.

        Raises
        ------
        ConfigError
            A newer version has migrated the database, or this account may not make the changes that are needed.
        """
        with self.engine.connect() as connection:
            state = schema.read(connection)
        if state.is_current:
            return
        try:
            with self.writing() as connection:
                allow_long(connection)
                if connection.dialect.name == "postgresql":
                    connection.execute(select(func.pg_advisory_xact_lock(_CREATE_LOCK_KEY)))
                schema.migrate(connection)
                self._make_read_tables(connection)
        except DBAPIError as error:
            if not schema.refused_change(error):
                raise
            schema.open_unchanged(state, error)

    def _make_read_tables(self, connection: Connection) -> None:
        """Make the missing tables; fill the read tables again if they are of another version."""
        query = select(TRACKING.c.version).where(TRACKING.c.application_name == APPLICATION)
        if connection.execute(query).scalar_one_or_none() == handlers.VERSION:
            metadata.create_all(connection)
            return
        metadata.drop_all(connection, tables=[VIEWS.runs, VIEWS.tasks])  # those of biomero never change
        metadata.create_all(connection)
        connection.execute(delete(TRACKING))
        connection.execute(
            insert(TRACKING).values(application_name=APPLICATION, notification_id=0, version=handlers.VERSION)
        )
        for view in VIEWS.all():
            connection.execute(delete(view))
        count = self._catch_up(connection, VIEWS, 0)
        if count:
            logger.info("made the read tables from %d events", count)

    def rebuild(self) -> int:
        """Make the read tables again from all events, in temporary tables, and replace the rows in one commit.

        Readers see the old rows until the new ones are complete. The tables are not dropped, so their grants and the
        views of dashboards on them remain.

        Returns
        -------
        the number of events
        """
        temporary = MetaData()
        copies = define_views(temporary, "rebuilt_", temporary=True)
        count, position = 0, 0
        with self.engine.connect() as connection:
            try:
                with connection.begin():
                    temporary.create_all(connection, checkfirst=False)
                while True:
                    with connection.begin():
                        allow_long(connection)
                        events = self._after(connection, position)
                        self._project(connection, copies, events)
                    count += len(events)
                    if not events:
                        break
                    position = events[-1].id
                with self._writing(connection):
                    allow_long(connection)
                    self._position(connection)
                    count += self._catch_up(connection, copies, position)
                    for live, copy in zip(VIEWS.all(), copies.all(), strict=True):
                        connection.execute(delete(live))
                        connection.execute(insert(live).from_select(copy.columns.keys(), select(copy)))
            finally:
                with connection.begin():
                    temporary.drop_all(connection, checkfirst=True)
        return count

    def catch_up(self) -> int:
        """Bring the read tables up to events that a program without read tables recorded; returns their number."""
        with self.writing() as connection:
            return self._catch_up(connection, VIEWS, self._position(connection))

    # -- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes."""
        with self.engine.connect() as connection, self._writing(connection):
            yield connection

    @contextmanager
    def _writing(self, connection: Connection) -> Iterator[None]:
        """A transaction that takes the write lock of SQLite at its start: an upgrade of a read lock could deadlock."""
        connection.info["writes"] = True
        try:
            with connection.begin():
                yield
        finally:
            connection.info.pop("writes", None)

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> list[int]:
        """Insert events, project them, and commit.

        Raises
        ------
        eventsourcing.persistence.IntegrityError
            Another process has recorded an event of the same aggregate first.
        """
        if not stored_events:
            return []
        with self.writing() as connection:
            position = self._position(connection, fenced=True)
            numbers = self._insert(connection, stored_events)
            notices = outbox_rows.post(connection, stored_events)
            if numbers == list(range(position + 1, position + 1 + len(numbers))):
                # no other event came between, so the events to project need not be read
                self._project(connection, VIEWS, stored_events, self._moved_to(numbers[-1]), *notices)
            else:
                for notice in notices:
                    connection.execute(notice)
                self._catch_up(connection, VIEWS, position)
        return numbers

    def _insert(self, connection: Connection, stored_events: Sequence[StoredEvent]) -> list[int]:
        """Insert the events with one statement; returns their numbers in the same order."""
        rows = [
            {
                "originator_id": stored.originator_id,
                "originator_version": stored.originator_version,
                "topic": stored.topic,
                "state": stored.state,
            }
            for stored in stored_events
        ]
        statement = insert(EVENTS).returning(EVENTS.c.id, sort_by_parameter_order=True)
        try:
            return [int(number) for number in connection.execute(statement, rows).scalars()]
        except DatabaseIntegrityError as error:
            subjects = ", ".join(sorted({str(stored.originator_id) for stored in stored_events}))
            raise IntegrityError(f"{subjects}: another process has recorded an event first") from error

    def _moved_to(self, position: int) -> Update:
        return update(TRACKING).where(TRACKING.c.application_name == APPLICATION).values(notification_id=position)

    def _position(self, connection: Connection, *, fenced: bool = False) -> int:
        """The position of the read tables; the row is locked until the end of the transaction.

        Raises
        ------
        biomeroworker.eventlog.store.fence.LeaseLost
            If ``fenced``: another supervisor has the lease of the run that this thread records.
        """
        query = select(TRACKING.c.notification_id, fence.holder_column() if fenced else null())
        query = query.where(TRACKING.c.application_name == APPLICATION).with_for_update()
        position, holder = connection.execute(query).one()
        if fenced:
            fence.verify(holder)
        return int(position)

    def _catch_up(self, connection: Connection, views: Views, position: int) -> int:
        """Project all events after ``position``. For the live tables, the position is recorded too."""
        count = 0
        while events := self._after(connection, position):
            self._project(connection, views, events)
            position = events[-1].id
            count += len(events)
            if len(events) < BATCH_EVENTS:
                break
        if count and views is VIEWS:
            connection.execute(self._moved_to(position))
        return count

    def _after(self, connection: Connection, position: int) -> list[Notification]:
        query = select(EVENTS).where(EVENTS.c.id > position).order_by(EVENTS.c.id).limit(BATCH_EVENTS)
        return _notifications(connection, query)

    def _project(
        self, connection: Connection, views: Views, events: Sequence[StoredEvent], *statements: Executable
    ) -> None:
        rows = RowCache(connection, views)
        facts = []
        for event in events:
            assert isinstance(event.originator_id, UUID)
            topic, attributes = self.decode(event)
            facts.append((topic, event.originator_id, attributes))
        if len(facts) <= _READ_TOGETHER_EVENTS:
            rows.fetch(*handlers.affected_rows(facts))
        for fact in facts:
            handlers.project(rows, *fact)
        rows.flush(*statements)

    def decode(self, event: StoredEvent) -> tuple[str, dict[str, Any]]:
        """The topic of the class of an event, and its attributes."""
        attributes: dict[str, Any] = self._transcoder.decode(event.state)
        topic = class_topic(event.topic, attributes)
        attributes.pop(EVENT_NAME, None)
        return topic, attributes

    # -- reading ------------------------------------------------------------------------------------------------------

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> list[StoredEvent]:
        """The events of one aggregate."""
        version = EVENTS.c.originator_version
        query = select(EVENTS).where(EVENTS.c.originator_id == originator_id)
        query = query.where(version > gt) if gt is not None else query
        query = query.where(version <= lte) if lte is not None else query
        query = query.order_by(version.desc() if desc else version).limit(limit)
        with self.engine.connect() as connection:
            return list(_notifications(connection, query))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> list[Notification]:
        """The events of all aggregates, in commit order."""
        query = select(EVENTS).order_by(EVENTS.c.id).limit(limit)
        if start is not None:
            query = query.where(EVENTS.c.id >= start if inclusive_of_start else EVENTS.c.id > start)
        query = query.where(EVENTS.c.id <= stop) if stop is not None else query
        query = query.where(EVENTS.c.topic.in_(topics)) if topics else query
        with self.engine.connect() as connection:
            return _notifications(connection, query)

    def events_of(self, aggregates: Sequence[UUID]) -> list[Notification]:
        """The events of these aggregates, in commit order."""
        query = select(EVENTS).where(EVENTS.c.originator_id.in_(aggregates)).order_by(EVENTS.c.id)
        with self.engine.connect() as connection:
            return _notifications(connection, query)

    def events_after(self, versions: Mapping[UUID, int]) -> list[Notification]:
        """The events of these aggregates after the given versions, oldest first, with one statement."""
        event = EVENTS.c
        newer = [and_(event.originator_id == one, event.originator_version > known) for one, known in versions.items()]
        query = select(EVENTS).where(or_(*newer)).order_by(event.originator_id, event.originator_version)
        with self.engine.connect() as connection:
            return _notifications(connection, query)

    def max_notification_id(self) -> int | None:
        """The number of the newest event."""
        with self.engine.connect() as connection:
            newest: int | None = connection.execute(select(func.max(EVENTS.c.id))).scalar_one()
            return newest

    def max_tracking_id(self, application_name: str) -> int | None:
        """The number of the last event that is projected to the read tables."""
        query = select(TRACKING.c.notification_id).where(TRACKING.c.application_name == application_name)
        with self.engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()

    def now(self, connection: Connection) -> float:
        """The time of the database, in seconds since 1970: the clock that all supervisors share."""
        return float(connection.execute(select(self.clock)).scalar_one())

    @property
    def clock(self) -> ColumnElement[float]:
        """The time of the database, as an expression for a statement."""
        if self.engine.dialect.name == "sqlite":
            return literal_column("(julianday('now') - 2440587.5) * 86400.0", Float)
        return literal_column("extract(epoch FROM clock_timestamp())", Float)

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> NoReturn:
        """Not supported. The read tables are always up to date; other readers poll the notification log."""
        raise NotImplementedError("subscriptions are not supported; poll the notification log")


def _notifications(connection: Connection, query: Select[Any]) -> list[Notification]:
    return [
        Notification(
            id=row.id,
            originator_id=row.originator_id,
            originator_version=row.originator_version,
            topic=row.topic,
            state=bytes(row.state),
        )
        for row in connection.execute(query)
    ]
