"""Users and groups as logins see them: who is who, whose member, and passwords."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from typing import TYPE_CHECKING

from .graph import Graph

if TYPE_CHECKING:
    from .graph import Entity

ROOT, GUEST = 0, 1
SYSTEM_GROUP, USER_GROUP, GUEST_GROUP = 0, 1, 2
#: Groups that are no working groups: a login into one of them enters the user's default group.
_ROLES = {USER_GROUP, GUEST_GROUP}
_ROUNDS = 20_000


def _hashed(text: str, salt: bytes) -> str:
    return base64.b64encode(hashlib.pbkdf2_hmac("sha256", text.encode(), salt, _ROUNDS)).decode()


class Accounts:
    """Look-ups over the graph's Experimenter, ExperimenterGroup and GroupExperimenterMap."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    # -- passwords ----------------------------------------------------------------------------------------------------
    def set_password(self, user_id: int, text: str | None) -> None:
        """Store a password, hashed. With an empty one every login of the user succeeds, without one none."""
        with self.graph.transaction(self.graph.server()) as tx:
            if text is None:
                tx.store_value("password", str(user_id), None)
                return
            salt = os.urandom(12)
            stored = {"salt": base64.b64encode(salt).decode(), "hash": _hashed(text, salt) if text else ""}
            tx.store_value("password", str(user_id), stored)

    def check_password(self, user_id: int, text: str) -> bool:
        """Whether this is the user's password."""
        with self.graph.transaction(self.graph.server()) as tx:
            stored = tx.load_value("password", str(user_id))
        if not stored:
            return False
        if not stored["hash"]:
            return True
        return hmac.compare_digest(stored["hash"], _hashed(text, base64.b64decode(stored["salt"])))

    def has_password(self, user_id: int) -> bool:
        """Whether one was ever set."""
        with self.graph.transaction(self.graph.server()) as tx:
            return tx.load_value("password", str(user_id)) is not None

    # -- users --------------------------------------------------------------------------------------------------------
    def find_user(self, name: str) -> int | None:
        """Id of the user of that login name."""
        with self.graph.transaction(self.graph.server()) as tx:
            found = tx.where("Experimenter", omeName=name)
        return found[0].id if found else None

    def user_name(self, user_id: int) -> str:
        """Login name of a user."""
        return str(self._row("Experimenter", user_id).get("omeName"))

    def is_admin(self, user_id: int) -> bool:
        """Whether the user is a member of the group ``system``."""
        return SYSTEM_GROUP in self.groups_of(user_id)

    def privileges(self, user_id: int) -> frozenset[str]:
        """What an administrator may do: every privilege that its ``config`` does not take away."""
        if not self.is_admin(user_id):
            return frozenset()
        with self.graph.transaction(self.graph.server()) as tx:
            every = {row.get("value") for row in tx.rows("AdminPrivilege")}
            user = tx.find("Experimenter", user_id)
        prefix = "AdminPrivilege:"
        taken = {
            key.removeprefix(prefix)
            for key, value in (user.get("config") or [])
            if key.startswith(prefix) and value.lower() == "false"
        }
        return frozenset(every - taken)

    # -- groups -------------------------------------------------------------------------------------------------------
    def groups_of(self, user_id: int) -> list[int]:
        """The user's groups, the default one first."""
        return [link.get("parent") for link in self._links(user_id)]

    def led_by(self, user_id: int) -> list[int]:
        """The groups that the user owns."""
        return [link.get("parent") for link in self._links(user_id) if link.get("owner")]

    def default_group(self, user_id: int) -> int:
        """The group of a login that names none."""
        groups = self.groups_of(user_id)
        return next((group for group in groups if group not in _ROLES), groups[0] if groups else USER_GROUP)

    def find_group(self, name: str) -> int | None:
        """Id of the group of that name."""
        with self.graph.transaction(self.graph.server()) as tx:
            found = tx.where("ExperimenterGroup", name=name)
        return found[0].id if found else None

    def group_exists(self, group_id: int) -> bool:
        """Whether there is such a group."""
        with self.graph.transaction(self.graph.server()) as tx:
            return tx.find("ExperimenterGroup", group_id) is not None

    def group(self, group_id: int) -> Entity:
        """The group's row."""
        return self._row("ExperimenterGroup", group_id)

    def _row(self, cls: str, number: int) -> Entity:
        with self.graph.transaction(self.graph.server()) as tx:
            return tx.get(cls, number)

    def _links(self, user_id: int) -> list[Entity]:
        with self.graph.transaction(self.graph.server()) as tx:
            user = tx.find("Experimenter", user_id)
            return tx.members(user, "groupExperimenterMap") if user else []
