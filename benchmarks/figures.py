"""What a benchmark hands back, and the arithmetic that all of them share."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

OURS = "biomeroworker"
THEIRS = "biomero 2.8.3"


@dataclass(frozen=True)
class Row:
    """One thing measured, of one of the things compared; a value for each time that it was measured."""

    what: str
    who: str
    values: tuple[float, ...]
    unit: str
    note: str = ""

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)


@dataclass
class Figures:
    """A benchmark's outcome: what was asked, what came of it, and what to know when reading it."""

    name: str
    title: str
    about: str
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, what: str, who: str, values: float | Iterable[float], unit: str, note: str = "") -> Row:
        """Add a row; one that was measured once has one value."""
        many = (float(values),) if isinstance(values, (int, float)) else tuple(map(float, values))
        self.rows.append(Row(what, who, many, unit, note))
        return self.rows[-1]

    def grouped(self) -> Figures:
        """The same with rows about one thing beside one another."""
        order = list(dict.fromkeys(row.what for row in self.rows))
        self.rows.sort(key=lambda row: order.index(row.what))
        return self

    def value(self, what: str, who: str) -> float | None:
        """The median of a row, if it was measured."""
        return next((row.median for row in self.rows if (row.what, row.who) == (what, who)), None)

    def compare(self, what: str, with_whom: Sequence[str], *, more_is_better: bool = True) -> float | None:
        """How many times as good ours is as the best of these."""
        ours = self.value(what, OURS)
        others = [found for who in with_whom if (found := self.value(what, who)) is not None]
        if ours is None or not others:
            return None
        return ours / max(others) if more_is_better else min(others) / ours


def repeated(times: int, measure: Callable[[], float]) -> list[float]:
    """Measure several times."""
    return [measure() for _ in range(times)]


def number(value: float) -> str:
    """A value with three significant digits, no more and no exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"
