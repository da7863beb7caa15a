"""IQuery: objects by id, by value, by example and by HQL."""

from __future__ import annotations

from typing import Any

import Ice
import omero
import omero.api
import omero.clients
from omero.rtypes import rbool, rdouble, rint, rlist, rlong, rmap, robject, rstring, rtime, rtype

from omero_stand_in import errors, hql
from omero_stand_in.context import Call
from omero_stand_in.graph import permissions
from omero_stand_in.graph.entity import Entity
from omero_stand_in.graph.loading import Loader, pairs, unit
from omero_stand_in.graph.scan import criteria, page
from omero_stand_in.graph.schema import ModelClass

from .graph_service import GraphService

WRAPPERS = {"RString": rstring, "RInt": rint, "RLong": rlong, "RDouble": rdouble, "RBool": rbool, "RTime": rtime}


class QueryService(GraphService):
    """Everything that reads objects."""

    interface = omero.api.IQuery

    def get(self, call: Call, name: str, identifier: int) -> Any:
        with self.transaction(call) as tx:
            _concrete(tx.cls(name))
            return tx.load(tx.get(name, identifier))

    def find(self, call: Call, name: str, identifier: int) -> Any:
        with self.transaction(call) as tx:
            _concrete(tx.cls(name))
            return None if tx.raw(name, identifier) is None else tx.load(tx.get(name, identifier))

    def findAll(self, call: Call, name: str, filter_: Any) -> list[Any]:
        with self.transaction(call) as tx:
            found = page(list(tx.rows(name)), filter_)
            return _loaded(tx.loader(), found)

    def findByString(self, call: Call, name: str, field: str, value: str) -> Any:
        with self.transaction(call) as tx:
            found = criteria(tx, name, {field: value})
            return _loaded(tx.loader(), [_only(found)])[0] if found else None

    def findAllByString(
        self, call: Call, name: str, field: str, value: str, case_sensitive: bool, filter_: Any
    ) -> list[Any]:
        with self.transaction(call) as tx:
            # a real server always ignores case
            found = page(criteria(tx, name, {field: value}, like=True), filter_)
            return _loaded(tx.loader(), found)

    def findByExample(self, call: Call, example: Any) -> Any:
        found = self.findAllByExample(call, example, None)
        return _only(found) if found else None

    def findAllByExample(self, call: Call, example: Any, filter_: Any) -> list[Any]:
        with self.transaction(call) as tx:
            cls = self.server.graph.schema.of(example)
            wanted = {
                field.name: getattr(example, field.slot).val
                for field in cls.fields.values()
                if field.kind == "value" and getattr(example, field.slot) is not None
            }
            return _loaded(tx.loader(), page(criteria(tx, cls.name, wanted), filter_))

    def findByQuery(self, call: Call, text: str, parameters: Any) -> Any:
        with self.transaction(call) as tx:
            result = hql.run(tx, text, parameters)
            rows = [row[0] if len(row) == 1 else row for row in result.rows]
            if any(not isinstance(one, Entity) for one in rows):
                raise errors.api_usage(
                    f"Query named:\n\t{text}\nhas returned an Object of type class {type(rows[0]).__name__}\n"
                    "Queries must return IObjects when using findByQuery."
                )
            distinct = list({(one.cls.root.name, one.id): one for one in rows}.values())
            if len(distinct) > 1:
                raise errors.api_usage(
                    f"Query named:\n\t{text}\nhas returned more than one Object\n"
                    "findBy methods must return a single value."
                )
            return result.loader.map(distinct[0]) if distinct else None

    def findAllByQuery(self, call: Call, text: str, parameters: Any) -> list[Any]:
        with self.transaction(call) as tx:
            result = hql.run(tx, text, parameters)
            if any(len(row) != 1 or not (row[0] is None or isinstance(row[0], Entity)) for row in result.rows):
                raise Ice.UnknownLocalException("the query's rows are no objects")
            return [None if row[0] is None else result.loader.map(row[0]) for row in result.rows]

    def projection(self, call: Call, text: str, parameters: Any) -> list[list[Any]]:
        with self.transaction(call) as tx:
            result = hql.run(tx, text, parameters)
            if result.new_map:
                return [[_as_map(result, row)] for row in result.rows]
            return [
                []
                if row == (None,)
                # a lone null leaves nothing of its row
                else [_cell(result.loader, kind, value) for kind, value in zip(result.types, row, strict=True)]
                for row in result.rows
            ]

    def refresh(self, call: Call, thing: Any) -> Any:
        raise errors.security("This method allows no remote access.")


def _concrete(cls: ModelClass) -> None:
    if cls.abstract:
        raise errors.api_usage(f"{cls.name} does not specify a valid class.")


def _only(found: list[Any]) -> Any:
    if len(found) > 1:
        raise errors.api_usage("query did not return a unique result: " + str(len(found)))
    return found[0]


def _loaded(loader: Loader, found: list[Entity]) -> list[Any]:
    for one in found:
        loader.fetch(one)
    return [loader.map(one) for one in found]


def _as_map(result: hql.Result, row: tuple[Any, ...]) -> Any:
    """``select new map(...)``; a column named ``…_details_permissions`` holds what the caller may do."""
    answer = {}
    for place, (name, kind, value) in enumerate(zip(result.names, result.types, row, strict=True)):
        wanted = "permissions" if (name or "").endswith("_details_permissions") else kind
        answer[name or str(place)] = _cell(result.loader, wanted, value)
    return rmap(answer)


def _cell(loader: Loader, kind: str, value: Any) -> Any:
    """A cell as the RType of its column."""
    if value is None:
        return None
    if kind == "permissions":
        return _permissions(loader, value)
    if kind in WRAPPERS:
        return WRAPPERS[kind](value)
    if isinstance(value, Entity):
        return robject(loader.map(value))
    if isinstance(value, ModelClass):
        return rstring(value.java)
    if kind == "map":
        return rlist([rmap({one.name: rstring(one.value)}) for one in pairs(value)])
    if kind == "unit":
        return _unit(value)
    return rtype(value)


def _unit(value: list[Any]) -> Any:
    for kind in ("Length", "Time", "Temperature", "Pressure", "Power", "Frequency", "ElectricPotential"):
        if hasattr(getattr(omero.model.enums, "Units" + kind), value[1]):
            made = unit(kind, value)
            return rmap({"unit": rstring(value[1]), "value": rdouble(value[0]), "symbol": rstring(made.getSymbol())})
    raise errors.internal(f"unknown unit {value[1]}")


def _permissions(loader: Loader, entity: Entity) -> Any:
    grant = loader.permissions(entity)
    letters = {"User": 0, "Group": 2, "World": 4}
    text = str(grant)
    answer = {"perm": rstring(text)}
    for action, denied in zip(permissions.ACTIONS, grant._restrictions, strict=True):
        answer["can" + action.capitalize()] = rbool(not denied)
    for who, place in letters.items():
        answer[f"is{who}Read"] = rbool(text[place] == "r")
        answer[f"is{who}Annotate"] = rbool(text[place + 1] in "aw")
        answer[f"is{who}Write"] = rbool(text[place + 1] == "w")
    return rmap(answer)
