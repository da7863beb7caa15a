"""Random faults, several in one run: it ends once.

``RESILIENCE_RUNS=200 pytest tests/resilience/test_random.py`` executes more runs than the default, and
``RESILIENCE_SEED`` selects others. A case is named by its number, which is its seed, so it can be repeated.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from multiprocessing.process import BaseProcess
from uuid import UUID

import pytest

from biomeroworker.eventlog.runlog import NotAllowed, RunState
from tests.resilience import child
from tests.resilience.world import World

RUNS = int(os.environ.get("RESILIENCE_RUNS", "6"))
SEED = int(os.environ.get("RESILIENCE_SEED", "1"))
AT_ONCE = 4

SBATCH = ("accepted-timeout", "timeout", "killed", "limit", "rate", "down", "slow 1", "late 2", "silent")
SQUEUE = ("down", "word PONDERING", "slow 1", "silent")
SACCT = ("down", "disabled", "lag", "stale")
SCONTROL = ("down", "silent", "slow 1")


class Case:
    """One run and its faults, all decided by ``seed``."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, random.Random(seed)
        self.happened: list[str] = []
        self.cancelled = self.failing = False

    def execute(self) -> None:
        """Execute the run with its faults, remove them, and assert the promise."""
        self._prepare()
        run_id = self._accept()
        with ExitStack() as supervisors:
            first = self._supervisor(supervisors, kill_at=self._kill_at(), cut_at=self._cut_at())
            others = [self._supervisor(supervisors) for _ in range(self.random.choice((0, 0, 1)))]
            for _ in range(self.random.choice((0, 1, 2, 3))):
                time.sleep(self.random.uniform(0, 0.8))
                self.random.choice((self._link, self._stand_still, self._kill, self._cancel))(run_id, [first, *others])
            time.sleep(self.random.uniform(0, 0.5))
            self.world.clear_faults()
            self._supervisor(supervisors)
            self.world.await_run(run_id, 60)
            with self.world.log() as log:
                self.world.until(lambda: not log.pending_cancels.all())
        expected = (RunState.CANCELLED, RunState.DONE) if self.cancelled else (RunState.DONE,)
        run = self.world.check(run_id, *expected)
        if run.state is RunState.DONE and self.failing:
            assert [one["inputs"] for one in run.report["failed"]] == [{"image-2": "i02"}], run.report

    def _accept(self) -> UUID:
        """Accept one job, or an array of chunks of which some are lost to their node and one fails."""
        sleep = self.random.choice((0.0, 0.3, 1.0))
        if self.random.random() < 0.5:
            return self.world.accept(sleep=sleep)
        images = self.random.randint(2, 5)
        self.happened.append("array")
        if self.random.random() < 0.4:
            lost = self.random.choices(range(images), k=self.random.randint(1, 2))
            self.happened.append(f"tasks lost: {lost}")
            self.world.loses(*lost)
        self.failing = self.random.random() < 0.3
        self.happened += ["a chunk fails"] if self.failing else []
        return self.world.accept(sleep=sleep, images=images, batch=1, fail="image-2" if self.failing else "")

    def _supervisor(self, stack: ExitStack, **how: object) -> BaseProcess:
        return stack.enter_context(child.running(self.world, **how))

    def _prepare(self) -> None:
        for program, words in (("sbatch", SBATCH), ("squeue", SQUEUE), ("sacct", SACCT), ("scontrol", SCONTROL)):
            if self.random.random() < 0.5:
                chosen = self.random.choices(words, k=self.random.randint(1, 3))
                self.happened.append(f"{program}: {chosen}")
                self.world.set_faults(program, *chosen)

    def _kill_at(self) -> int:
        number = self.random.choice((0, self.random.randint(1, 80)))
        self.happened += [f"killed at a boundary: {number}"] if number else []
        return number

    def _cut_at(self) -> int:
        number = self.random.choice((0, 0, self.random.randint(1, 16)))
        self.happened += [f"execution cut: {number}"] if number else []
        return number

    def _link(self, run_id: UUID, processes: list[BaseProcess]) -> None:
        state = self.random.choice(("away", "hole"))
        self.happened.append(f"link {state}")
        self.world.link(state)

    def _stand_still(self, run_id: UUID, processes: list[BaseProcess]) -> None:
        process = self.random.choice(processes)
        self.happened.append("stood still")
        pause = self.random.choice((0.3, 1.5))
        with suppress(ProcessLookupError):  # it may just have been killed at a boundary
            if process.is_alive() and process.pid:
                os.kill(process.pid, signal.SIGSTOP)
                time.sleep(pause)
                os.kill(process.pid, signal.SIGCONT)

    def _kill(self, run_id: UUID, processes: list[BaseProcess]) -> None:
        self.happened.append("killed")
        self.random.choice(processes).kill()

    def _cancel(self, run_id: UUID, processes: list[BaseProcess]) -> None:
        if self.random.random() < 0.5:
            return
        self.happened.append("cancelled")
        with self.world.log() as log, suppress(NotAllowed):
            log.request_cancel(run_id, "ada")
            self.cancelled = True


@pytest.mark.timeout(60 + 10 * RUNS)
def test_a_run_ends_once_whatever_happens(new_world: Callable[[str], World]) -> None:
    violations: dict[int, str] = {}
    kinds: Counter[str] = Counter()

    def one(seed: int) -> None:
        world = new_world(f"seed-{seed}")
        case = Case(world, seed)
        try:
            case.execute()
        except Exception:
            violations[seed] = f"{case.happened}\n{traceback.format_exc(limit=-3)}"
        kinds.update(what.partition(":")[0] for what in case.happened or ["nothing"])

    started = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, range(SEED, SEED + RUNS)))
    print(f"\n{RUNS} runs, {sum(kinds.values())} faults {dict(kinds)}, {len(violations)} violations, "
          f"{time.monotonic() - started:.0f} s")  # fmt: skip
    assert not violations, "\n\n".join(f"seed {seed}: {story}" for seed, story in sorted(violations.items()))
