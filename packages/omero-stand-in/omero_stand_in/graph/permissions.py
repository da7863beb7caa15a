"""Who may read an object, and what else they may do with it.

The levels of a group: ``rw----`` private, ``rwr---`` read-only, ``rwra--`` read-annotate, ``rwrw--`` read-write.
Strangers see nothing; the owner may do everything; what administrators, group owners and members may do follows the
level, as a real server shows it in the permissions of each object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .entity import Context, Entity

if TYPE_CHECKING:
    from .store import Graph

USER_GROUP = 1
#: Order of the restrictions in omero.model.Permissions.
ACTIONS = ("link", "edit", "delete", "annotate", "chgrp", "chown")
OWNER = frozenset({"link", "edit", "delete", "annotate", "chgrp"})
ADMIN = frozenset(ACTIONS)
LEADER = frozenset({"link", "edit", "delete", "annotate", "chown"})
#: What members may do with another's object, by the letter of the level; ``rw----`` and ``rwr---`` give nothing.
MEMBER = {"w": frozenset({"link", "edit", "delete", "annotate"}), "a": frozenset({"annotate"})}
#: In a private group only the owner may attach something to an object.
NOT_IN_PRIVATE = frozenset({"link", "annotate"})
#: Which privilege an administrator needs for an action.
PRIVILEGE = {
    "link": "WriteOwned",
    "edit": "WriteOwned",
    "annotate": "WriteOwned",
    "delete": "DeleteOwned",
    "chgrp": "Chgrp",
    "chown": "Chown",
}


def level(graph: Graph, group: int | None) -> str:
    """The level of a group, ``rw----`` if there is no such group."""
    found = graph.tables["ExperimenterGroup"].get(-1 if group is None else group)
    return found.permissions if found else "rw----"


def reader(graph: Graph, context: Context) -> Callable[[Entity], bool]:
    """A function that returns whether an object is visible in a context."""
    if context.internal or (context.is_admin and context.group < 0):
        return lambda entity: True
    if context.group >= 0:
        whole = {USER_GROUP}
        if context.is_admin or context.group in context.leader_of or level(graph, context.group)[2] == "r":
            whole.add(context.group)
        own = {context.group}
    else:
        own = set(context.member_of)
        whole = {group for group in own if level(graph, group)[2] == "r"} | context.leader_of | {USER_GROUP}
    user = context.user

    def readable(entity: Entity) -> bool:
        group = entity.details.get("group")
        if group is None or group in whole:
            return True
        return group in own and entity.details.get("owner") == user

    return readable


def allowed(graph: Graph, context: Context, entity: Entity) -> frozenset[str]:
    """The actions (of `ACTIONS`) that the caller may do with an object."""
    if context.internal:
        return ADMIN
    if not entity.cls.owned:
        return _allowed_of_nobodys(context, entity)
    group, letters = entity.group, level(graph, entity.group)
    answer: frozenset[str] = frozenset()
    if entity.owner == context.user:
        answer |= OWNER
    others: frozenset[str] = frozenset()
    if context.is_admin:
        others |= {action for action in ADMIN if PRIVILEGE[action] in context.privileges}
    if group in context.leader_of:
        others |= LEADER
    if letters[2] != "r":
        others -= NOT_IN_PRIVATE
    if group in context.member_of and letters[2] == "r":
        others |= MEMBER.get(letters[3], frozenset())
    return answer | others


def _allowed_of_nobodys(context: Context, entity: Entity) -> frozenset[str]:
    """Users, groups, enumerations: administrators edit them; anybody may refer to them and annotate them."""
    if context.is_admin:
        return ADMIN
    return frozenset({"link", "annotate"})
