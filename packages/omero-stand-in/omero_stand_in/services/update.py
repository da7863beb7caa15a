"""IUpdate: saving and deleting objects."""

from __future__ import annotations

from typing import Any

import omero.api

from omero_stand_in import errors
from omero_stand_in.context import Call

from .graph_service import GraphService


class UpdateService(GraphService):
    """Everything that saves objects; what hangs loaded on them is saved with them."""

    interface = omero.api.IUpdate

    def saveObject(self, call: Call, thing: Any) -> None:
        with self.transaction(call) as tx:
            tx.save(thing)

    def saveAndReturnObject(self, call: Call, thing: Any) -> Any:
        with self.transaction(call) as tx:
            return tx.save(thing)

    def saveArray(self, call: Call, things: list[Any]) -> None:
        with self.transaction(call) as tx:
            tx.save_all(things)

    def saveCollection(self, call: Call, things: list[Any]) -> None:
        self.saveArray(call, things)

    def saveAndReturnArray(self, call: Call, things: list[Any]) -> list[Any]:
        with self.transaction(call) as tx:
            return tx.save_all(things)

    def saveAndReturnIds(self, call: Call, things: list[Any]) -> list[int]:
        with self.transaction(call) as tx:
            return [one.id.val for one in tx.save_all(things)]

    def deleteObject(self, call: Call, thing: Any) -> None:
        with self.transaction(call) as tx:
            name = self.server.graph.schema.of(thing).name
            entity = tx.get(name, thing.id.val)
            if not tx.can(entity, "delete"):
                raise errors.security(f"Deleting {entity.java} not allowed.")
            for field in entity.cls.fields.values():  # the links go with what they link
                if field.kind == "collection" and self.server.graph.schema[field.type].is_link:
                    for link in tx.members(entity, field.name):
                        tx.remove(link)
            tx.refuse_if_referred(entity)
            tx.remove(entity)
