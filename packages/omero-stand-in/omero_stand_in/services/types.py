"""ITypes: the enumerations."""

from __future__ import annotations

from typing import Any

import omero.api

from omero_stand_in import errors
from omero_stand_in.context import Call

from .graph_service import GraphService


class TypesService(GraphService):
    """Enumerations by class and value."""

    interface = omero.api.ITypes

    def allEnumerations(self, call: Call, name: str) -> list[Any]:
        with self.transaction(call) as tx:
            return [tx.load(one) for one in tx.rows(tx.cls(name).name)]

    def getEnumeration(self, call: Call, name: str, value: str) -> Any:
        with self.transaction(call) as tx:
            cls = tx.cls(name)
            return tx.load(tx.get(name, tx.enum(cls.name, value)))

    def getEnumerationTypes(self, call: Call) -> list[str]:
        return sorted(cls.name for cls in self.server.graph.schema.classes.values() if cls.is_enum)

    def getEnumerationsWithEntries(self, call: Call) -> dict[str, list[Any]]:
        return {name: self.allEnumerations(call, name) for name in self.getEnumerationTypes(call)}

    def getAnnotationTypes(self, call: Call) -> list[str]:
        return sorted(cls.name for cls in self.server.graph.schema["Annotation"].concrete())

    def createEnumeration(self, call: Call, thing: Any) -> Any:
        with self._as_admin(call) as tx:
            return tx.save(thing)

    def updateEnumeration(self, call: Call, thing: Any) -> Any:
        return self.createEnumeration(call, thing)

    def deleteEnumeration(self, call: Call, thing: Any) -> None:
        with self._as_admin(call) as tx:
            entity = tx.get(self.server.graph.schema.of(thing).name, thing.id.val)
            tx.refuse_if_referred(entity)
            tx.remove(entity)

    def _as_admin(self, call: Call) -> Any:
        if not call.is_admin:
            raise errors.security("Only administrators may change enumerations.")
        return self.transaction(call, server_side=True)
