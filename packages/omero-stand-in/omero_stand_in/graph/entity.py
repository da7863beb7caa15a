"""One stored object, and the context of a caller."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .schema import ModelClass, Schema

#: Columns of ``details``, by the name that HQL uses for them, with the class that they refer to.
DETAILS = {
    "owner": "Experimenter",
    "group": "ExperimenterGroup",
    "creationEvent": "Event",
    "updateEvent": "Event",
    "externalInfo": "ExternalInfo",
}


@dataclass(frozen=True, slots=True)
class Entity:
    """A stored object. Never changed in place: the store replaces it, so a reference shows the earlier state.

    ``values`` holds Python values by field name: text, numbers, booleans, times in milliseconds, ids for references,
    ``[value, "MICROMETER"]`` for units, ``[[name, value], ...]`` for maps. Null fields are absent. The place in an
    ordered collection is stored under ``<field>#``.
    """

    cls: ModelClass
    id: int
    values: Mapping[str, Any] = field(default_factory=dict)
    #: owner, group, creationEvent, updateEvent, externalInfo as ids; empty for classes without an owner
    details: Mapping[str, int] = field(default_factory=dict)
    #: of a group only: ``rwr---`` and so on
    permissions: str = ""
    version: int = 0

    def get(self, name: str) -> Any:
        """A field's value, None when null; ``id`` too."""
        return self.id if name == "id" else self.values.get(name)

    @property
    def owner(self) -> int | None:
        return self.details.get("owner")

    @property
    def group(self) -> int | None:
        return self.details.get("group")

    @property
    def java(self) -> str:
        """``ome.model.core.Image:Id_5``, as the server names objects in messages."""
        return f"{self.cls.java}:Id_{self.id}"

    def changed(self, values: Mapping[str, Any], details: Mapping[str, int | None] | None = None) -> Entity:
        """A copy with other values; None takes one away."""
        merged = {name: value for name, value in {**self.values, **values}.items() if value is not None}
        marks = {name: value for name, value in {**self.details, **(details or {})}.items() if value is not None}
        return replace(self, values=merged, details=marks)

    def dumped(self) -> str:
        """As JSON, without class and id."""
        body = {"v": dict(self.values), "d": dict(self.details), "p": self.permissions, "n": self.version}
        return json.dumps(body, default=_bytes, separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def restored(schema: Schema, name: str, identifier: int, text: str) -> Entity:
        """The inverse of `dumped`."""
        body = json.loads(text, object_hook=_from_bytes)
        return Entity(schema[name], identifier, body["v"], body["d"], body["p"], body["n"])


def _bytes(value: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(value).decode()}


def _from_bytes(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value


@dataclass(frozen=True, slots=True)
class Context:
    """In whose name a transaction runs.

    ``group`` is the group of the call (``omero.group``), -1 for all groups. ``internal`` is the server acting for
    itself: nothing is checked, everything is seen.
    """

    user: int
    group: int
    session: int = 0
    is_admin: bool = False
    privileges: frozenset[str] = frozenset()
    member_of: frozenset[int] = frozenset()
    leader_of: frozenset[int] = frozenset()
    event_type: str = "User"
    internal: bool = False

    def in_group(self, group: int) -> Context:
        """The same caller in another group."""
        return replace(self, group=group)

    def as_server(self) -> Context:
        """The same events and ownership, but without checks."""
        return replace(self, internal=True)
