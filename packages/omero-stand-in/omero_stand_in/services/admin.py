"""IAdmin: users, groups, memberships, passwords."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import omero
import omero.api
import omero.clients
import omero.sys
from omero.rtypes import rbool

from omero_stand_in import errors
from omero_stand_in.context import Call
from omero_stand_in.graph.content import GUEST, GUEST_GROUP, ROOT, SYSTEM_GROUP, USER_GROUP
from omero_stand_in.graph.entity import Entity

from .graph_service import GraphService

if TYPE_CHECKING:
    from omero_stand_in.graph.transaction import Transaction

NOT_IN_CHARGE = "Current user is neither admin nor group-leader for the given user(s)/group(s)"
SELF_FIELDS = ("firstName", "middleName", "lastName", "email", "institution")
USER_FIELDS = ("omeName", *SELF_FIELDS, "ldap")


class AdminService(GraphService):
    """Accounts as clients manage them."""

    interface = omero.api.IAdmin

    # -- who is there -----------------------------------------------------------------------------------------------
    def getSecurityRoles(self, call: Call) -> Any:
        roles = omero.sys.Roles()
        roles.rootId, roles.rootName = ROOT, "root"
        roles.guestId, roles.guestName = GUEST, "guest"
        roles.systemGroupId, roles.systemGroupName = SYSTEM_GROUP, "system"
        roles.userGroupId, roles.userGroupName = USER_GROUP, "user"
        roles.guestGroupId, roles.guestGroupName = GUEST_GROUP, "guest"
        return roles

    def getEventContext(self, call: Call) -> Any:
        return self.session.event_context(call)

    def getExperimenter(self, call: Call, identifier: int) -> Any:
        return self._user(call, self._find(call, "Experimenter", identifier, "No such experimenter: {}"))

    def lookupExperimenter(self, call: Call, name: str) -> Any:
        return self._user(call, self._named(call, "Experimenter", "omeName", name, "No such experimenter: {}"))

    def lookupExperimenters(self, call: Call) -> list[Any]:
        with self.transaction(call, server_side=True) as tx:
            return [_user(tx, one) for one in tx.rows("Experimenter")]

    def getGroup(self, call: Call, identifier: int) -> Any:
        return self._group(call, self._find(call, "ExperimenterGroup", identifier, "No such group: {}"))

    def lookupGroup(self, call: Call, name: str) -> Any:
        return self._group(call, self._named(call, "ExperimenterGroup", "name", name, "No such group: {}"))

    def lookupGroups(self, call: Call) -> list[Any]:
        with self.transaction(call, server_side=True) as tx:
            return [_group(tx, one) for one in tx.rows("ExperimenterGroup")]

    def containedExperimenters(self, call: Call, group: int) -> list[Any]:
        with self.transaction(call, server_side=True) as tx:
            links = tx.where("GroupExperimenterMap", parent=group)
            return [_user(tx, tx.get("Experimenter", link.get("child"))) for link in links]

    def containedGroups(self, call: Call, user: int) -> list[Any]:
        with self.transaction(call, server_side=True) as tx:
            return [_group(tx, tx.get("ExperimenterGroup", link.get("parent"))) for link in _links(tx, user)]

    def getDefaultGroup(self, call: Call, user: int) -> Any:
        with self.transaction(call, server_side=True) as tx:
            groups = [link.get("parent") for link in _links(tx, user)]
            if not groups:
                raise errors.validation(f"The user {user} has no default group set.")
            chosen = next((group for group in groups if group != USER_GROUP), groups[0])
            return _group(tx, tx.get("ExperimenterGroup", chosen))

    def getMemberOfGroupIds(self, call: Call, user: Any) -> list[int]:
        with self.transaction(call, server_side=True) as tx:
            return [link.get("parent") for link in _links(tx, user.id.val)]

    def getLeaderOfGroupIds(self, call: Call, user: Any) -> list[int]:
        with self.transaction(call, server_side=True) as tx:
            return [link.get("parent") for link in _links(tx, user.id.val) if link.get("owner")]

    def lookupLdapAuthExperimenter(self, call: Call, user: int) -> str | None:
        with self.transaction(call, server_side=True) as tx:
            tx.get("Experimenter", user)
        return None

    def lookupLdapAuthExperimenters(self, call: Call) -> list[Any]:
        return []

    def canUpdate(self, call: Call, thing: Any) -> bool:
        with self.transaction(call) as tx:
            return tx.can(tx.get(self.server.graph.schema.of(thing).name, thing.id.val), "edit")

    # -- privileges -------------------------------------------------------------------------------------------------
    def getCurrentAdminPrivileges(self, call: Call) -> list[Any]:
        return self._privileges(call, call.privileges)

    def getAdminPrivileges(self, call: Call, user: Any) -> list[Any]:
        return self._privileges(call, self.server.accounts.privileges(user.id.val))

    def getAdminsWithPrivileges(self, call: Call, privileges: list[Any]) -> list[Any]:
        wanted = {one.value.val for one in privileges}
        with self.transaction(call, server_side=True) as tx:
            links = tx.where("GroupExperimenterMap", parent=SYSTEM_GROUP)
            users = [link.get("child") for link in links]
            return [
                _user(tx, tx.get("Experimenter", user))
                for user in users
                if wanted <= self.server.accounts.privileges(user)
            ]

    def setAdminPrivileges(self, call: Call, user: Any, privileges: list[Any]) -> None:
        self._need(call, "ModifyUser")
        with self.transaction(call, server_side=True) as tx:
            _restrict(tx, tx.get("Experimenter", user.id.val), {one.value.val for one in privileges})

    def _privileges(self, call: Call, held: frozenset[str]) -> list[Any]:
        with self.transaction(call) as tx:
            return [tx.load(one) for one in tx.rows("AdminPrivilege") if one.get("value") in held]

    # -- making users and groups --------------------------------------------------------------------------------------
    def createGroup(self, call: Call, group: Any) -> int:
        if not call.is_admin:
            raise self.no_role(call, "system")
        self._need(call, "ModifyGroup")
        if group.name is None:
            raise errors.validation("Group name may not be null.")
        level = "rw----"
        if group.details is not None and group.details.permissions is not None:
            level = str(group.details.permissions)
        with self.transaction(call, server_side=True) as tx:
            thing = omero.model.ExperimenterGroupI()
            thing.name, thing.description = group.name, group.description
            thing.ldap = group.ldap or rbool(False)
            thing._config = group._config
            thing.details.permissions = omero.model.PermissionsI(level)
            return int(tx.save(thing).id.val)

    def createUser(self, call: Call, user: Any, group: str) -> int:
        with self.transaction(call, server_side=True) as tx:
            found = tx.where("ExperimenterGroup", name=group)
        if not found:
            raise errors.api_usage(f"No such group: {group}")
        reference = omero.model.ExperimenterGroupI(found[0].id, False)
        return self.createExperimenter(call, user, reference, [omero.model.ExperimenterGroupI(USER_GROUP, False)])

    def createSystemUser(self, call: Call, user: Any) -> int:
        groups = [omero.model.ExperimenterGroupI(USER_GROUP, False)]
        return self.createExperimenter(call, user, omero.model.ExperimenterGroupI(SYSTEM_GROUP, False), groups)

    def createRestrictedSystemUser(self, call: Call, user: Any, privileges: list[Any]) -> int:
        number = self.createSystemUser(call, user)
        with self.transaction(call, server_side=True) as tx:
            _restrict(tx, tx.get("Experimenter", number), {one.value.val for one in privileges})
        return number

    def createRestrictedSystemUserWithPassword(
        self, call: Call, user: Any, privileges: list[Any], password: Any
    ) -> int:
        number = self.createRestrictedSystemUser(call, user, privileges)
        self.server.accounts.set_password(number, password.val)
        return number

    def createExperimenter(self, call: Call, user: Any, default: Any, others: list[Any]) -> int:
        if default is None:
            raise errors.api_usage(
                "Argument 1 to public abstract long ome.api.IAdmin.createExperimenter(ome.model.meta.Experimenter,"
                "ome.model.meta.ExperimenterGroup,ome.model.meta.ExperimenterGroup[]) may not be null."
            )
        groups = list(dict.fromkeys([default.id.val, *(group.id.val for group in others or ())]))
        self._in_charge(call, [group for group in groups if group != USER_GROUP], "ModifyUser")
        if user.omeName is None:
            raise errors.validation("OmeName may not be null.")
        with self.transaction(call, server_side=True) as tx:
            for group in groups:
                tx.get("ExperimenterGroup", group)
            thing = omero.model.ExperimenterI()
            for field in USER_FIELDS:
                setattr(thing, field, getattr(user, field))
            thing.ldap = user.ldap or rbool(False)
            number = int(tx.save(thing).id.val)
            for place, group in enumerate(groups):
                _join(tx, number, group, place)
        return number

    def createExperimenterWithPassword(
        self, call: Call, user: Any, password: Any, default: Any, others: list[Any]
    ) -> int:
        number = self.createExperimenter(call, user, default, others)
        self.server.accounts.set_password(number, password.val)
        return number

    # -- changing them ------------------------------------------------------------------------------------------------
    def updateSelf(self, call: Call, user: Any) -> None:
        with self.transaction(call, server_side=True) as tx:
            _copy(tx, tx.get("Experimenter", call.user_id), user, SELF_FIELDS)

    def updateExperimenter(self, call: Call, user: Any) -> None:
        self._need(call, "ModifyUser")
        with self.transaction(call, server_side=True) as tx:
            _copy(tx, tx.get("Experimenter", user.id.val), user, USER_FIELDS)

    def updateExperimenterWithPassword(self, call: Call, user: Any, password: Any) -> None:
        self.updateExperimenter(call, user)
        self.server.accounts.set_password(user.id.val, password.val)

    def updateGroup(self, call: Call, group: Any) -> None:
        self._in_charge(call, [group.id.val], "ModifyGroup")
        with self.transaction(call, server_side=True) as tx:
            entity = _copy(tx, tx.get("ExperimenterGroup", group.id.val), group, ("name", "description", "ldap"))
            grant = group.details.permissions if group.details is not None else None
            if grant is not None and str(grant) != entity.permissions:
                self.server.graph.put(dataclasses.replace(entity, permissions=str(grant)))

    def addGroups(self, call: Call, user: Any, groups: list[Any]) -> None:
        self._in_charge(call, [group.id.val for group in groups], "ModifyGroupMembership")
        with self.transaction(call, server_side=True) as tx:
            known = {link.get("parent") for link in _links(tx, user.id.val)}
            for place, group in enumerate(groups, len(known)):
                if group.id.val not in known:
                    _join(tx, user.id.val, group.id.val, place)

    def removeGroups(self, call: Call, user: Any, groups: list[Any]) -> None:
        wanted = [group.id.val for group in groups]
        self._in_charge(call, wanted, "ModifyGroupMembership")
        with self.transaction(call, server_side=True) as tx:
            for link in _links(tx, user.id.val):
                if link.get("parent") in wanted:
                    tx.remove(link)

    def setDefaultGroup(self, call: Call, user: Any, group: Any) -> None:
        if user.id.val != call.user_id and not call.is_admin:
            raise errors.security(f"User {call.user_id} can only set own default group.")
        with self.transaction(call, server_side=True) as tx:
            links = _links(tx, user.id.val)
            chosen = [link for link in links if link.get("parent") == group.id.val]
            if not chosen:
                raise errors.api_usage(f"Group {group.id.val} was not found for user {user.id.val}")
            for place, link in enumerate([*chosen, *(link for link in links if link not in chosen)]):
                tx.change(link, **{"groupExperimenterMap#": place})

    def setGroupOwner(self, call: Call, group: Any, user: Any) -> None:
        self.addGroupOwners(call, group, [user])

    def unsetGroupOwner(self, call: Call, group: Any, user: Any) -> None:
        self.removeGroupOwners(call, group, [user])

    def addGroupOwners(self, call: Call, group: Any, users: list[Any]) -> None:
        self._own(call, group, users, True)

    def removeGroupOwners(self, call: Call, group: Any, users: list[Any]) -> None:
        self._own(call, group, users, False)

    def _own(self, call: Call, group: Any, users: list[Any], owner: bool) -> None:
        self._in_charge(call, [group.id.val], "ModifyGroupMembership")
        with self.transaction(call, server_side=True) as tx:
            for user in users:
                links = tx.where("GroupExperimenterMap", child=user.id.val, parent=group.id.val)
                if not links and owner:
                    links = [_join(tx, user.id.val, group.id.val, len(_links(tx, user.id.val)))]
                for link in links:
                    tx.change(link, owner=owner)

    def deleteExperimenter(self, call: Call, user: Any) -> None:
        self._need(call, "ModifyUser")
        with self.transaction(call, server_side=True) as tx:
            entity = tx.get("Experimenter", user.id.val)
            for link in _links(tx, entity.id):
                tx.remove(link)
            tx.refuse_if_referred(entity)
            tx.remove(entity)

    def deleteGroup(self, call: Call, group: Any) -> None:
        self._in_charge(call, [group.id.val], "ModifyGroup")
        with self.transaction(call, server_side=True) as tx:
            entity = tx.get("ExperimenterGroup", group.id.val)
            for link in tx.where("GroupExperimenterMap", parent=entity.id):
                tx.remove(link)
            tx.refuse_if_referred(entity)
            tx.remove(entity)

    # -- passwords ----------------------------------------------------------------------------------------------------
    def changePassword(self, call: Call, password: Any) -> None:
        self.server.accounts.set_password(call.user_id, None if password is None else password.val)

    def changePasswordWithOldPassword(self, call: Call, old: Any, new: Any) -> None:
        if not self.server.accounts.check_password(call.user_id, old.val):
            raise errors.security("Old password is invalid")
        self.changePassword(call, new)

    def changeUserPassword(self, call: Call, name: str, password: Any) -> None:
        user = self._named(call, "Experimenter", "omeName", name, "No such experimenter: {}")
        if user.id != call.user_id and "ModifyUser" not in call.privileges:
            raise errors.security("Current user is not admin for the given user(s)")
        self.server.accounts.set_password(user.id, None if password is None else password.val)

    def synchronizeLoginCache(self, call: Call) -> None:
        self._need(call, "ModifyUser")

    # -- inside -------------------------------------------------------------------------------------------------------
    def _find(self, call: Call, cls: str, identifier: int, message: str) -> Entity:
        with self.transaction(call, server_side=True) as tx:
            found = tx.find(cls, identifier)
        if found is None:
            raise errors.api_usage(message.format(identifier))
        return found

    def _named(self, call: Call, cls: str, field: str, name: str, message: str) -> Entity:
        with self.transaction(call, server_side=True) as tx:
            found = tx.where(cls, **{field: name})
        if not found:
            raise errors.api_usage(message.format(name))
        return found[0]

    def _user(self, call: Call, entity: Entity) -> Any:
        with self.transaction(call) as tx:
            return _user(tx, entity)

    def _group(self, call: Call, entity: Entity) -> Any:
        with self.transaction(call) as tx:
            return _group(tx, entity)

    def _need(self, call: Call, privilege: str) -> None:
        if not call.is_admin:
            raise self.no_role(call, "system")
        if privilege not in call.privileges:
            raise errors.security(NOT_IN_CHARGE)

    def _in_charge(self, call: Call, groups: list[int], privilege: str) -> None:
        if call.is_admin and privilege in call.privileges:
            return
        if not groups or not set(groups) <= set(call.leader_of):
            raise errors.security(NOT_IN_CHARGE)


def _links(tx: Transaction, user: int) -> list[Entity]:
    found = tx.find("Experimenter", user)
    return [] if found is None else tx.members(found, "groupExperimenterMap")


def _user(tx: Transaction, entity: Entity) -> Any:
    """A user with its groups loaded."""
    loader = tx.loader()
    loader.fetch(entity)
    loader.collect(entity, "groupExperimenterMap")
    for link in tx.members(entity, "groupExperimenterMap"):
        loader.fetch(link)
        loader.fetch(tx.target(link, "parent"))
    return loader.map(entity)


def _group(tx: Transaction, entity: Entity) -> Any:
    """A group with its members loaded."""
    loader = tx.loader()
    loader.fetch(entity)
    loader.collect(entity, "groupExperimenterMap")
    for link in tx.members(entity, "groupExperimenterMap"):
        loader.fetch(link)
        loader.fetch(tx.target(link, "child"))
    return loader.map(entity)


def _join(tx: Transaction, user: int, group: int, place: int) -> Entity:
    tx.get("ExperimenterGroup", group)
    return tx.insert("GroupExperimenterMap", parent=group, child=user, owner=False, **{"groupExperimenterMap#": place})


def _copy(tx: Transaction, entity: Entity, thing: Any, fields: tuple[str, ...]) -> Entity:
    values = {name: None if (given := getattr(thing, name)) is None else given.val for name in fields}
    changed = entity.changed(values)
    tx.graph.put(changed)
    return changed


def _restrict(tx: Transaction, user: Entity, privileges: set[str]) -> None:
    """Privileges that an administrator lacks are named in its ``config``."""
    lacking = sorted({one.get("value") for one in tx.rows("AdminPrivilege")} - privileges)
    tx.graph.put(user.changed({"config": [[f"AdminPrivilege:{name}", "false"] for name in lacking]}))
