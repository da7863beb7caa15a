"""Who sees and may change what, by the level of the group."""

from __future__ import annotations

from dataclasses import replace

import omero
import omero.clients
import pytest
from graph_world import make_world, named
from omero.rtypes import rstring

from omero_stand_in.graph.permissions import allowed

#: level -> (Bob sees Ada's, what he may do with it)
LEVELS = {
    "rw----": (False, set()),
    "rwr---": (True, set()),
    "rwra--": (True, {"annotate"}),
    "rwrw--": (True, {"annotate", "delete", "edit", "link"}),
}


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_member_sees_and_may_do_follows_the_level(level: str) -> None:
    world = make_world(level)
    number = world.save(world.ada, named("Dataset", "hers")).id.val
    seen, may = LEVELS[level]
    with world.graph.transaction(world.bob) as tx:
        assert (tx.find("Dataset", number) is not None) == seen
        entity = tx.raw("Dataset", number)
        assert entity is not None
        assert allowed(world.graph, world.bob, entity) == may


@pytest.mark.parametrize("group", [-1, None])
def test_a_stranger_sees_nothing(group: int | None) -> None:
    world = make_world("rwrw--")
    number = world.save(world.ada, named("Dataset", "hers")).id.val
    who = world.stranger if group is None else world.stranger.in_group(group)
    assert world.query(who, "select d from Dataset d") == []
    with world.graph.transaction(who) as tx, pytest.raises(omero.SecurityViolation) as raised:
        tx.get("Dataset", number)
    assert raised.value.message == f"Cannot read ome.model.containers.Dataset:Id_{number}"


def test_an_administrator_may_not_annotate_in_a_private_group() -> None:
    world = make_world("rw----")
    number = world.save(world.ada, named("Dataset", "hers")).id.val
    every = frozenset({"WriteOwned", "DeleteOwned", "Chgrp", "Chown"})
    admin = replace(world.stranger, group=world.group, is_admin=True, privileges=every)
    with world.graph.transaction(admin) as tx:
        assert allowed(world.graph, admin, tx.get("Dataset", number)) == {"chgrp", "chown", "delete", "edit"}
        without = replace(admin, privileges=frozenset())
        assert allowed(world.graph, without, tx.get("Dataset", number)) == set()


def test_a_change_by_a_member_needs_a_read_write_group() -> None:
    for level, refused in (("rwra--", True), ("rwrw--", False)):
        world = make_world(level)
        number = world.save(world.ada, named("Dataset", "hers")).id.val
        with world.graph.transaction(world.bob) as tx:
            thing = tx.load(tx.get("Dataset", number))
        thing.description = rstring("changed")
        if refused:
            with pytest.raises(omero.SecurityViolation):
                world.save(world.bob, thing)
        else:
            assert world.save(world.bob, thing).details.owner.id.val == world.ada.user


def test_nothing_is_saved_into_all_groups() -> None:
    world = make_world()
    with pytest.raises(omero.ApiUsageException):
        world.save(world.ada.in_group(-1), named("Dataset", "x"))
