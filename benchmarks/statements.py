"""SQL statements and commits for each recorded event, with all projections on."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.context import Context
from benchmarks.figures import OURS, THEIRS, Figures

Count = Sequence[int]  # events, statements, commits


def measure(context: Context) -> Figures:
    """Both sides through the scripts' interface, and ours as its engine records."""
    figures = Figures(
        "statements",
        "SQL statements and commits per recorded event",
        "Counted where SQLAlchemy hands them to the driver, on PostgreSQL with all projections on; reads that a change "
        "needs are counted too.",
    )
    for kind, who in (("ours", OURS), ("theirs", THEIRS)):
        if kind not in context.pythons:
            continue
        context.say(f"statements, {who}")
        with context.database() as url:
            answer = context.ask(kind, "statements_work", kind, url)
        _total(figures, "the interface of scripts", who, answer["calls"])
        for method, counts in answer["calls"].items():
            _one(figures, method, who, counts)
        for method, count in answer["nothing new"].items():
            _one(figures, f"{method}, nothing new", who, [count])
    context.say("statements, our engine")
    with context.database() as url:
        answer = context.ask("ours", "engine_statements", url)
    _total(figures, "the engine's own way of a run", OURS, answer["calls"])
    for what, counts in answer["calls"].items():
        _one(figures, f"engine: {what}", OURS, counts)
    return figures.grouped()


def _total(figures: Figures, what: str, who: str, calls: dict[str, list[Count]]) -> None:
    every = [count for counts in calls.values() for count in counts]
    events, statements, commits = (sum(column) for column in zip(*every, strict=True))
    figures.add(f"{what}: statements", who, statements / events, "per event", f"{events} events")
    figures.add(f"{what}: commits", who, commits / events, "per event")


def _one(figures: Figures, what: str, who: str, counts: Sequence[Count]) -> None:
    settled = counts[1:] or counts  # the first of its kind looks things up that are known afterwards
    events, _, commits = sorted(settled, key=lambda count: count[1])[len(settled) // 2]
    note = f"{events} event{'' if events == 1 else 's'}, {commits} commit{'' if commits == 1 else 's'}"
    figures.add(what, who, [count[1] for count in settled], "statements", note)
