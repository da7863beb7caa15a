"""The result of a benchmark, and functions that all benchmarks use."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

OURS = "biomeroworker"
THEIRS = "biomero 2.8.3"


@dataclass(frozen=True)
class Row:
    """One quantity of one program, with one value per measurement."""

    what: str
    who: str
    values: tuple[float, ...]
    unit: str
    note: str = ""

    @property
    def median(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)


@dataclass
class Figures:
    """The result of a benchmark: title, description, rows and remarks."""

    name: str
    title: str
    about: str
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, what: str, who: str, values: float | Iterable[float], unit: str, note: str = "") -> Row:
        """Add a row; ``values`` is one value or a sequence of them."""
        many = (float(values),) if isinstance(values, (int, float)) else tuple(map(float, values))
        self.rows.append(Row(what, who, many, unit, note))
        return self.rows[-1]

    def grouped(self) -> Figures:
        """Sort the rows so that those of the same quantity are adjacent."""
        order = list(dict.fromkeys(row.what for row in self.rows))
        self.rows.sort(key=lambda row: order.index(row.what))
        return self

    def value(self, what: str, who: str) -> float | None:
        """The median of a row; None if it was not measured."""
        return next((row.median for row in self.rows if (row.what, row.who) == (what, who)), None)

    def compare(self, what: str, with_whom: Sequence[str], *, more_is_better: bool = True) -> float | None:
        """The ratio of our value to the best of the others; above 1 is better."""
        ours = self.value(what, OURS)
        others = [found for who in with_whom if (found := self.value(what, who)) is not None]
        if ours is None or not others:
            return None
        return ours / max(others) if more_is_better else min(others) / ours


def repeated(times: int, measure: Callable[[], float]) -> list[float]:
    """Measure ``times`` times."""
    return [measure() for _ in range(times)]


def number(value: float) -> str:
    """Format a value with at most three significant digits, without exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"
