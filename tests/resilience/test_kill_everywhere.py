"""SIGKILL of the supervisor at every boundary of a run, then a restart: the run ends exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.resilience import child
from tests.resilience.world import SLOW, World

#: More boundaries than any run has.
MOST = 400
AT_ONCE = 6


def killed_at(new_world: Callable[[str], World], number: int, **options: Any) -> bool:
    """Execute a run whose supervisor is killed at this boundary; return whether the run has that many boundaries."""
    world = new_world(f"at-{number}")
    if options.pop("loses", False):
        world.loses(1)
    run_id = world.accept(**options)
    first = child.start(world, kill_at=number, only=str(run_id))
    first.join(60)
    killed = first.exitcode in (-9, 255)  # 255: killed, and the fork server did not see its exit status
    assert killed or first.exitcode == 0, first.exitcode
    if killed:
        with child.running(world, only=str(run_id)):
            world.await_run(run_id)
    world.check(run_id)
    return killed


def killed_everywhere(new_world: Callable[[str], World], numbers: Iterator[int], **options: Any) -> int:
    """Kill a run at each of these boundaries, until it has no more; return their number."""
    tried = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while True:
            wave = [next(numbers) for _ in range(AT_ONCE)]
            outcomes = list(pool.map(lambda number: killed_at(new_world, number, **options), wave))
            tried += sum(outcomes)
            if not all(outcomes):
                return tried


@pytest.mark.timeout(600)
def test_a_run_ends_once_if_its_supervisor_is_killed_at_any_boundary(new_world: Callable[[str], World]) -> None:
    tried = killed_everywhere(new_world, iter(range(1, MOST)))
    assert tried >= 30, f"a run has more boundaries than {tried}: are they still counted?"
    print(f"{tried} boundaries")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stride", [20, pytest.param(1, marks=SLOW)])
def test_an_array_ends_once_if_its_supervisor_is_killed_at_any_boundary(
    new_world: Callable[[str], World], stride: int
) -> None:
    """Three chunks, one of which is lost to its node, so that there are two attempts."""
    tried = killed_everywhere(new_world, iter(range(stride, MOST, stride)), images=3, batch=1, loses=True)
    assert tried >= 70 // stride, f"such a run has more boundaries than {tried * stride}: are they still counted?"
    print(f"{tried} boundaries")
