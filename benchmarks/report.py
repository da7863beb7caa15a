"""Print and save figures: a table on the terminal, Markdown, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.figures import Figures, Row, number

_HEADER = ("what", "who", "min", "median", "max", "unit", "")


def _cells(row: Row) -> tuple[str, ...]:
    if len(row.values) == 1:
        return row.what, row.who, "", number(row.values[0]), "", row.unit, row.note
    low, high = number(min(row.values)), number(max(row.values))
    return row.what, row.who, low, number(row.median), high, row.unit, row.note


def show(figures: Figures, console: Console) -> None:
    """Print one table."""
    table = Table(*_HEADER, title=f"{figures.name}: {figures.title}", title_justify="left", title_style="bold")
    before = None
    for row in figures.rows:
        if before is not None and row.what != before:
            table.add_section()
        what, *cells = _cells(row)
        table.add_row("" if what == before else escape(what), *map(escape, cells))
        before = row.what
    console.print(table)
    for remark in figures.remarks:
        console.print(f"  · {escape(remark)}")


def as_json(figures: Figures, conditions: Mapping[str, str]) -> str:
    """All values of a benchmark, with the conditions of the measurement."""
    return json.dumps({"conditions": dict(conditions), **asdict(figures)}, indent=1) + "\n"


def as_markdown(figures: Figures, conditions: Mapping[str, str]) -> str:
    """A section of RESULTS.md."""
    lines = [f"## {figures.name}: {figures.title}", "", figures.about, ""]
    lines += ["| " + " | ".join(_HEADER) + " |", "|---|---|--:|--:|--:|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(row)) + " |" for row in figures.rows]
    lines += ["", *(f"* {remark}" for remark in figures.remarks)] if figures.remarks else []
    lines += ["", "; ".join(f"{name} {value}" for name, value in conditions.items()) + ".", ""]
    return "\n".join(lines)


def write_section(page: Path, figures: Figures, conditions: Mapping[str, str]) -> None:
    """Write a section into the page; it replaces the earlier section of this benchmark. Sections are sorted by name."""
    text = page.read_text() if page.exists() else ""
    head, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    sections = {part[3:].partition(":")[0]: part for part in parts}
    sections[figures.name] = as_markdown(figures, conditions) + "\n"
    page.write_text(head + "".join(sections[name] for name in sorted(sections)).rstrip() + "\n")
