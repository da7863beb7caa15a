"""Where the objects are: in memory with indexes, journalled to SQLite in one transaction per server call.

Readers and writers share one lock, held for the length of a call; calls are short because binary data never passes
through here. Entities are replaced, never changed, so undoing a failed call means putting the old ones back.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .entity import DETAILS, Context, Entity
from .schema import Schema, schema
from .transaction import Transaction

TABLES = """
create table if not exists entity (root text, id integer, class text, body text, primary key (root, id));
create table if not exists sequence (root text primary key, last integer);
create table if not exists private (kind text, key text, body text, primary key (kind, key));
"""

#: Id of the first object of a class that users make.
FIRST_ID = 101


class Graph:
    """All objects of one server."""

    def __init__(self, folder: Path | None = None) -> None:
        self.schema: Schema = schema()
        self.lock = threading.RLock()
        self.tables: dict[str, dict[int, Entity]] = defaultdict(dict)
        self.by_class: dict[str, dict[int, Entity]] = defaultdict(dict)
        #: (root class, field, id referred to) -> ids of those that refer; a dict serves as an ordered set
        self.reverse: dict[tuple[str, str, int], dict[int, None]] = {}
        self.private: dict[tuple[str, str], Any] = {}
        #: last id given, by root class; small numbers are left to what the server itself is made of
        self._sequence = {name: 0 if cls.is_enum else FIRST_ID - 1 for name, cls in self.schema.classes.items()}
        self._sequence.update(dict.fromkeys(("Experimenter", "ExperimenterGroup", "Node", "Session"), -1))
        self._undo: list[tuple[str, int, Entity | None]] | None = None
        self._undo_private: list[tuple[tuple[str, str], Any]] = []
        self._database = sqlite3.connect(folder / "graph.db" if folder else ":memory:", check_same_thread=False)
        self._database.executescript("pragma journal_mode=wal; pragma synchronous=normal;" + TABLES)
        self._load()

    @classmethod
    def open(cls, folder: Path) -> Graph:
        """The graph of this folder; a new one gets the server's initial content."""
        from .content import fill  # it is a client of this class

        folder.mkdir(parents=True, exist_ok=True)
        graph = cls(folder)
        fill(graph)
        return graph

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self._database.close()

    @contextmanager
    def transaction(self, context: Context) -> Iterator[Transaction]:
        """All of what the block changes, or nothing of it. A transaction within a transaction joins it."""
        with self.lock:
            if self._undo is not None:
                yield Transaction(self, context)
                return
            self._undo, self._undo_private = [], []
            try:
                transaction = Transaction(self, context)
                yield transaction
                self._commit()
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._undo = None

    def server(self, user: int = 0, group: int = 0) -> Context:
        """A context of the server itself, as root by default."""
        return Context(user, group, is_admin=True, event_type="Internal", internal=True)

    # -- what transactions use ------------------------------------------------------------------------------------
    def next_id(self, root: str) -> int:
        """A fresh id."""
        self._sequence[root] += 1
        return self._sequence[root]

    def skip_ids(self, root: str, last: int) -> None:
        """Continue after this id."""
        self._sequence[root] = max(self._sequence[root], last)

    def put(self, entity: Entity) -> None:
        """Store a new entity or replace the one of its id."""
        root = entity.cls.root.name
        old = self.tables[root].get(entity.id)
        self._remember(root, entity.id, old)
        if old is not None:
            self._unindex(root, old)
        self._index(root, entity)

    def drop(self, entity: Entity) -> None:
        """Remove an entity."""
        root = entity.cls.root.name
        self._remember(root, entity.id, self.tables[root][entity.id])
        self._unindex(root, self.tables[root][entity.id])

    def store_value(self, kind: str, key: str, value: Any) -> None:
        """Store JSON data that is not a model object (for example password hashes); None removes it."""
        self._undo_private.append(((kind, key), self.private.get((kind, key))))
        self.private[kind, key] = value

    def referring(self, root: str, field: str, identifier: int) -> Collection[int]:
        """Ids of those of the hierarchy ``root`` whose ``field`` refers to the id."""
        return self.reverse.get((root, field, identifier), ())

    # -- inside ---------------------------------------------------------------------------------------------------
    def _references(self, entity: Entity) -> Iterator[tuple[str, int]]:
        fields = entity.cls.fields
        for name, value in entity.values.items():
            known = fields.get(name)
            if known is not None and known.kind == "ref":
                yield name, value
        for name in DETAILS:
            if name in entity.details and not name.endswith("Event"):
                yield "details." + name, entity.details[name]

    def _index(self, root: str, entity: Entity) -> None:
        self.tables[root][entity.id] = entity
        self.by_class[entity.cls.name][entity.id] = entity
        for name, target in self._references(entity):
            self.reverse.setdefault((root, name, target), {})[entity.id] = None

    def _unindex(self, root: str, entity: Entity) -> None:
        del self.tables[root][entity.id]
        del self.by_class[entity.cls.name][entity.id]
        for name, target in self._references(entity):
            known = self.reverse[root, name, target]
            del known[entity.id]
            if not known:
                del self.reverse[root, name, target]

    def _remember(self, root: str, identifier: int, old: Entity | None) -> None:
        if self._undo is None:
            raise RuntimeError("a change outside of a transaction")
        self._undo.append((root, identifier, old))

    def _commit(self) -> None:
        assert self._undo is not None
        touched = {(root, identifier) for root, identifier, _ in self._undo}
        if not touched and not self._undo_private:
            return
        stored, gone = [], []
        for root, identifier in touched:
            entity = self.tables[root].get(identifier)
            if entity is None:
                gone.append((root, identifier))
            else:
                stored.append((root, identifier, entity.cls.name, entity.dumped()))
        with self._database as database:
            database.executemany("insert or replace into entity values (?, ?, ?, ?)", stored)
            database.executemany("delete from entity where root = ? and id = ?", gone)
            for root in {root for root, _ in touched}:
                database.execute("insert or replace into sequence values (?, ?)", (root, self._sequence[root]))
            for kind, key in {slot for slot, _ in self._undo_private}:
                body = json.dumps(self.private.get((kind, key)))
                database.execute("insert or replace into private values (?, ?, ?)", (kind, key, body))

    def _roll_back(self) -> None:
        assert self._undo is not None
        for root, identifier, old in reversed(self._undo):
            now = self.tables[root].get(identifier)
            if now is not None:
                self._unindex(root, now)
            if old is not None:
                self._index(root, old)
        for slot, value in reversed(self._undo_private):
            self.private[slot] = value

    def _load(self) -> None:
        for root, last in self._database.execute("select root, last from sequence"):
            self._sequence[root] = last
        for name, identifier, body in self._database.execute("select class, id, body from entity order by root, id"):
            entity = Entity.restored(self.schema, name, identifier, body)
            self._index(entity.cls.root.name, entity)
        for kind, key, body in self._database.execute("select kind, key, body from private"):
            self.private[kind, key] = json.loads(body)
