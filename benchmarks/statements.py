"""SQL statements and commits per recorded event, with all projections."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.context import Context
from benchmarks.figures import OURS, THEIRS, Figures

Count = Sequence[int]  # events, statements, commits


def measure(context: Context) -> Figures:
    """Count for both sides through the interface of scripts, and for our engine."""
    figures = Figures(
        "statements",
        "SQL statements and commits per recorded event",
        "Counted where SQLAlchemy calls the driver, on PostgreSQL with all projections; includes the SELECT statements "
        "that a change needs.",
    )
    for kind, who in (("ours", OURS), ("theirs", THEIRS)):
        if kind not in context.pythons:
            continue
        context.report(f"statements, {who}")
        with context.database() as url:
            answer = context.run_program(kind, "statements_work", kind, url)
        _total(figures, "the interface of scripts", who, answer["calls"])
        for method, counts in answer["calls"].items():
            _one(figures, method, who, counts)
        for method, count in answer["no change"].items():
            _one(figures, f"{method}, no change", who, [count])
    context.report("statements, our engine")
    with context.database() as url:
        answer = context.run_program("ours", "engine_statements", url)
    _total(figures, "the engine, all events of a run", OURS, answer["calls"])
    for what, counts in answer["calls"].items():
        _one(figures, f"engine: {what}", OURS, counts)
    return figures.grouped()


def _total(figures: Figures, what: str, who: str, calls: dict[str, list[Count]]) -> None:
    every = [count for counts in calls.values() for count in counts]
    events, statements, commits = (sum(column) for column in zip(*every, strict=True))
    figures.add(f"{what}: statements", who, statements / events, "per event", f"{events} events")
    figures.add(f"{what}: commits", who, commits / events, "per event")


def _one(figures: Figures, what: str, who: str, counts: Sequence[Count]) -> None:
    settled = counts[1:] or counts  # the first call fills caches
    events, _, commits = sorted(settled, key=lambda count: count[1])[len(settled) // 2]
    note = f"{events} event{'' if events == 1 else 's'}, {commits} commit{'' if commits == 1 else 's'}"
    figures.add(what, who, [count[1] for count in settled], "statements", note)
