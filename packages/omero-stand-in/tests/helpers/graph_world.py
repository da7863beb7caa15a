"""A graph in memory with two groups and three users, for tests that need no server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import omero
import omero.clients
from omero.rtypes import rstring

from omero_stand_in.graph import Context, Graph
from omero_stand_in.graph.content import USER_GROUP, fill
from omero_stand_in.hql import run


@dataclass
class World:
    """The graph, and who there is in it."""

    graph: Graph
    ada: Context
    bob: Context
    stranger: Context
    group: int

    def save(self, who: Context, thing: Any) -> Any:
        """Save in a transaction of its own."""
        with self.graph.transaction(who) as tx:
            return tx.save(thing)

    def query(self, who: Context, text: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with self.graph.transaction(who) as tx:
            if not isinstance(parameters, omero.sys.Parameters):
                values = {name: omero.rtypes.wrap(value) for name, value in (parameters or {}).items()}
                parameters = omero.sys.Parameters(values)
            return run(tx, text, parameters).rows


def named(kind: str, name: str) -> Any:
    """A new object with a name."""
    thing = getattr(omero.model, kind + "I")()
    thing.name = rstring(name)
    return thing


def make_world(level: str = "rwr---") -> World:
    """Ada and Bob share a group of the level given; the stranger has one of their own."""
    graph = Graph()
    fill(graph)
    with graph.transaction(graph.server()) as tx:
        group = tx.insert("ExperimenterGroup", name="lab", ldap=False, permissions=level).id
        other = tx.insert("ExperimenterGroup", name="elsewhere", ldap=False, permissions="rwr---").id

        def user(name: str, of: int) -> Context:
            made = tx.insert("Experimenter", omeName=name, firstName=name.title(), lastName="Probe", ldap=False)
            for place, one in enumerate((of, USER_GROUP)):
                tx.insert(
                    "GroupExperimenterMap", parent=one, child=made.id, owner=False, **{"groupExperimenterMap#": place}
                )
            return Context(made.id, of, member_of=frozenset({of, USER_GROUP}))

        return World(graph, user("ada", group), user("bob", group), user("stranger", other), group)
