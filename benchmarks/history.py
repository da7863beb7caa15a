"""The time to record one more event on a run with 4,000 events, and on a run with none."""

from __future__ import annotations

from typing import Any

from benchmarks.context import Context
from benchmarks.figures import OURS, THEIRS, Figures


def measure(context: Context) -> Figures:
    """Measure both sides through the interface of scripts, and our engine."""
    count, times = context.size(4000, 100), context.size(50, 3)
    figures = Figures(
        "history",
        f"one more event on a run with {count:,} events",
        "Milliseconds of a call that records one event (an observation of our engine: two), on PostgreSQL. *Warm*: in "
        "a process that has loaded the run before. *Cold*: the first call of a new process.",
    )
    for kind, who in (("ours", OURS), ("theirs", THEIRS)):
        if kind in context.pythons:
            context.report(f"history, {who}")
            _side(context, figures, kind, who, "scripts' interface", ["history_work", kind], count, times)
    context.report("history, our engine")
    _side(context, figures, "ours", OURS, "engine", ["engine_history"], count, times)
    return figures.grouped()


def _side(
    context: Context, figures: Figures, kind: str, who: str, interface: str, program: list[str], count: int, times: int
) -> None:
    name, *words = program
    with context.database() as url:
        answer: dict[str, Any] = context.run_program(kind, name, *words, url, str(count), str(times))
        cold: dict[int, list[float]] = {0: [], count: []}
        for _ in range(context.times):
            for length, values in cold.items():
                task = answer[str(length)]["task"]
                values += context.run_program(kind, name, *words, url, f"only:{task}", "1")
    for length in (0, count):
        figures.add(f"{interface}, warm, {length:,} before", who, answer[str(length)]["next"], "ms")
    for length, values in cold.items():
        figures.add(f"{interface}, cold, {length:,} before", who, values, "ms")
