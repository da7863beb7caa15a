# ruff: noqa: F811  fixtures by import
"""The importer is killed at every change that it makes in OMERO: what is there in the end is one set, whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.resilience import omero_world
from tests.resilience.omero_fixtures import omero_world_of, server  # noqa: F401
from tests.resilience.omero_world import ONE_SET, OmeroWorld
from tests.resilience.world import SLOW

AT_ONCE = 4
#: More changes than an import makes, before and after each.
MOST = 400


def killed_at(world: OmeroWorld, number: int) -> bool:
    """Execute a run whose importer is killed at this moment; return whether it was. The next importer finishes."""
    run_id = world.submit()
    first = omero_world.start(world, stage="importing", kill_at=number, only=str(run_id))
    first.join(60)
    killed = first.exitcode in (-9, 255)  # 255: killed, and the fork server did not see its exit status
    assert killed or first.exitcode == 0, first.exitcode
    if killed:
        with omero_world.running(world, only=str(run_id)):
            world.await_run(run_id)
    assert world.check(run_id).attempt == 1
    assert world.made() == ONE_SET, f"killed at {world.moments.read_text().splitlines()[-1]}: {world.made()}"
    return killed


def test_importers_that_are_killed_one_after_the_other_leave_one_set(omero_world_of):
    """Each is killed some changes later than the one before, so that parts of everything are left."""
    world = omero_world_of()
    run_id = world.submit()
    for number in (4, 13, 22, 29):
        process = omero_world.start(world, stage="importing", kill_at=number, only=str(run_id))
        process.join(60)
        assert process.exitcode in (-9, 255), (number, process.exitcode)
    with omero_world.running(world, stage="importing", only=str(run_id)):
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1
    assert world.made() == ONE_SET
    moments = world.moments.read_text().splitlines()
    assert {"after createImage", "after setPlane", "after addData"} <= set(moments), "it was killed at these calls"


@SLOW
@pytest.mark.timeout(1500)
def test_an_importer_that_is_killed_anywhere_leaves_one_set(omero_world_of):
    tried = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(1, MOST, AT_ONCE):
            outcomes = list(pool.map(lambda n: killed_at(omero_world_of(f"at-{n}"), n), range(start, start + AT_ONCE)))
            tried += sum(outcomes)
            if not all(outcomes):
                break
    print(f"{tried} moments")
    assert tried >= 40, f"an import has more changes than {tried}: are they still counted?"
