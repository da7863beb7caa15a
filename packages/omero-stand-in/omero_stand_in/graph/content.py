"""What a fresh server holds: its users and groups, the enumerations, and what the first event refers to."""

from __future__ import annotations

import time
import uuid

from .entity import Entity
from .enumerations import FORMATS, PIXELS_TYPES, VALUES
from .store import Graph

ROOT, GUEST = 0, 1
SYSTEM_GROUP, USER_GROUP, GUEST_GROUP = 0, 1, 2
#: Ids of users, groups and sessions of its own end here; apart, so that they are not confused.
LAST_OF_ITS_OWN = {"Experimenter": 100, "ExperimenterGroup": 5000, "Session": 100, "Node": 0}


def fill(graph: Graph) -> None:
    """Give a new graph its first content; one that has it is left alone."""
    if graph.tables["Experimenter"]:
        return
    with graph.transaction(graph.server()) as tx:
        for kind, values in VALUES.items():
            for value in values.split():
                tx.insert(kind, value=value)
        for value, bits in PIXELS_TYPES.items():
            tx.insert("PixelsType", value=value, bitSize=bits)
        for value in FORMATS:
            tx.insert("Format", value=value)
            tx.insert("Format", value="Companion/" + value)
        for name, level in (("system", "rw----"), ("user", "rwr-r-"), ("guest", "rw----")):
            tx.insert("ExperimenterGroup", name=name, ldap=False, permissions=level)
        for name, first, last in (("root", "root", "root"), ("guest", "Guest", "Account")):
            tx.insert("Experimenter", omeName=name, firstName=first, lastName=last, ldap=False)
        memberships = ((SYSTEM_GROUP, ROOT, True), (USER_GROUP, ROOT, False), (GUEST_GROUP, GUEST, False))
        for place, (group, user, owner) in enumerate(memberships):
            row = tx.insert("GroupExperimenterMap", parent=group, child=user, owner=owner)
            graph.put(row.changed({"groupExperimenterMap#": place if user == ROOT else 0}))
        _first_event(graph)
        for name, last in LAST_OF_ITS_OWN.items():
            graph.skip_ids(name, last)
        tx.insert("DBPatch", currentVersion="OMERO5.4", currentPatch=0, previousVersion="OMERO5.4", previousPatch=0)


def _first_event(graph: Graph) -> None:
    """The node, session and event that everything else refers to; they refer to one another."""
    classes, now = graph.schema.classes, int(time.time() * 1000)
    node = {"uuid": str(uuid.uuid4()), "conn": "NONE", "up": now}
    session = {
        "node": 0,
        "uuid": str(uuid.uuid4()),
        "owner": ROOT,
        "timeToIdle": 0,
        "timeToLive": 0,
        "started": now,
        "message": "the server's own",
        "defaultEventType": "Internal",
    }
    graph.put(Entity(classes["Node"], graph.next_id("Node"), node))
    graph.put(Entity(classes["Session"], graph.next_id("Session"), session))
