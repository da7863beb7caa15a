"""What one more event costs on a run that has 4,000, beside one that has none."""

from __future__ import annotations

from typing import Any

from benchmarks.context import Context
from benchmarks.figures import OURS, THEIRS, Figures


def measure(context: Context) -> Figures:
    """Both sides through the scripts' interface, and ours as its engine records."""
    count, times = context.size(4000, 100), context.size(50, 3)
    figures = Figures(
        "history",
        f"one more event on a run with {count:,} events",
        "Milliseconds of a call that records one event (an observation of our engine: two), on PostgreSQL. *Known*: by "
        "a process that has dealt with the run before; *anew*: the first call of a new process.",
    )
    for kind, who in (("ours", OURS), ("theirs", THEIRS)):
        if kind in context.pythons:
            context.say(f"history, {who}")
            _side(context, figures, kind, who, "scripts' interface", ["history_work", kind], count, times)
    context.say("history, our engine")
    _side(context, figures, "ours", OURS, "engine", ["engine_history"], count, times)
    return figures.grouped()


def _side(
    context: Context, figures: Figures, kind: str, who: str, interface: str, program: list[str], count: int, times: int
) -> None:
    name, *words = program
    with context.database() as url:
        answer: dict[str, Any] = context.ask(kind, name, *words, url, str(count), str(times))
        anew: dict[int, list[float]] = {0: [], count: []}
        for _ in range(context.times):
            for length, values in anew.items():
                task = answer[str(length)]["task"]
                values += context.ask(kind, name, *words, url, f"only:{task}", "1")
    for length in (0, count):
        figures.add(f"{interface}, known, {length:,} before", who, answer[str(length)]["next"], "ms")
    for length, values in anew.items():
        figures.add(f"{interface}, anew, {length:,} before", who, values, "ms")
