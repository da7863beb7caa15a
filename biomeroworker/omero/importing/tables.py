"""Import measurements: CSV files become one typed OMERO.table.

Files with the same header are one table (a workflow writes one CSV for each image), with a column that names the image
of each row. The type of a column is the narrowest that holds all its values: integer, real, boolean or text. Reading
and typing need no server.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import Ice
import omero
import omero.grid
import omero.model

from biomeroworker.errors import Permanent, Transient
from biomeroworker.omero.connection.errors import translate_errors
from biomeroworker.omero.connection.session import OmeroSession, batched, with_long_timeout

#: Rows in one call; a message of OMERO may have 250 MB at most.
BATCH_SIZE = 20_000
#: The column that OMERO.web and OMERO.parade look for.
IMAGE, IMAGE_NAME = "Image", "Image Name"
_WORDS = {"true": True, "false": False, "yes": True, "no": False}


@dataclass(frozen=True)
class Column:
    """One column: ``kind`` is ``image``, ``long``, ``double``, ``bool`` or ``string``."""

    name: str
    kind: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Sheet:
    """One CSV file as text: its header, its rows, and the id of the image that all rows describe."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    image: int | None = None


def read_sheet(path: Path, image: int | None) -> Sheet:
    """Read a CSV or TSV, in UTF-8 or Latin-1.

    Short rows are filled with empty cells; a byte order mark and blank lines are skipped. The sheet is empty if the
    file is not a table (a quote that is never closed, say).
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    first = text.partition("\n")[0]
    delimiter = max(("\t", ";", ","), key=first.count)
    # not str.splitlines(): a quoted cell may have line breaks, and U+2028 and U+0085 are ordinary characters
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        lines = [line for line in rows if any(cell.strip() for cell in line)]
    except csv.Error:
        lines = []
    if not lines:
        return Sheet((), (), image)
    header = _unique([cell.strip() for cell in lines[0]])
    cells = (tuple([cell.strip() for cell in line] + [""] * len(header))[: len(header)] for line in lines[1:])
    return Sheet(header, tuple(cells), image)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Column names, none empty and none twice; OMERO's own two names are reserved."""
    taken: list[str] = []
    for position, name in enumerate(names):
        wanted = name or f"column {position + 1}"
        if wanted in (IMAGE, IMAGE_NAME):
            wanted = f"{wanted} (as written)"
        unique, count = wanted, 2
        while unique in taken:
            unique, count = f"{wanted} {count}", count + 1
        taken.append(unique)
    return tuple(taken)


@dataclass(frozen=True)
class ImageOfKey:
    """The image of a key (``image-12``): its id, and the user's name of it."""

    id: int
    name: str


def columns_of(sheets: Sequence[Sheet], images: Mapping[str, ImageOfKey]) -> list[Column]:
    """The typed columns of sheets that share a header, one below the other.

    A column of keys names the image of each row; without one it is the image of the file.
    """
    rows = [row for sheet in sheets for row in sheet.rows]
    cells = {name: [row[position] for row in rows] for position, name in enumerate(sheets[0].header)}
    keyed = next((name for name, values in cells.items() if rows and all(value in images for value in values)), None)
    columns = []
    if keyed is not None:
        found = [images[key] for key in cells.pop(keyed)]
        columns.append(Column(IMAGE, "image", tuple(image.id for image in found)))
        columns.append(Column(IMAGE_NAME, "string", tuple(image.name for image in found)))
    elif any(sheet.image is not None for sheet in sheets):
        names = {image.id: image.name for image in images.values()}
        ids = tuple(-1 if sheet.image is None else sheet.image for sheet in sheets for _ in sheet.rows)
        columns.append(Column(IMAGE, "image", ids))
        columns.append(Column(IMAGE_NAME, "string", tuple(names.get(number, "") for number in ids)))
    return columns + [Column(name, *_typed(values)) for name, values in cells.items()]


def _typed(cells: Sequence[str]) -> tuple[str, tuple[Any, ...]]:
    """The narrowest type that holds all cells. Integers with an empty cell are real, where an empty cell is NaN."""
    filled = [cell for cell in cells if cell]
    complete = len(filled) == len(cells)
    if filled and complete and all(cell.lower() in _WORDS for cell in filled):
        return "bool", tuple(_WORDS[cell.lower()] for cell in cells)
    if filled and complete:
        with contextlib.suppress(ValueError):
            whole = tuple(int(_plain(cell)) for cell in cells)
            if all(-(2**63) <= number < 2**63 for number in whole):
                return "long", whole
    if filled:
        with contextlib.suppress(ValueError):
            return "double", tuple(float(_plain(cell)) if cell else math.nan for cell in cells)
    return "string", tuple(cells)


def _plain(cell: str) -> str:
    """Refuse ``1_000``, which only Python reads as a number."""
    if "_" in cell:
        raise ValueError(cell)
    return cell


def add_table(session: OmeroSession, name: str, columns: Sequence[Column]) -> int:
    """Store a table; returns the id of its OriginalFile. Raises `Transient` while no Tables server is running."""
    count = len(columns[0].values)
    with translate_errors(f"write table {name}"):
        table = with_long_timeout(_new_table(session, name))
        try:
            table.initialize([_grid_column(column, []) for column in columns])
            for part in batched(range(count), BATCH_SIZE):
                rows = slice(part[0], part[-1] + 1)
                table.addData([_grid_column(column, list(column.values[rows])) for column in columns])
            number: int = table.getOriginalFile().id.val
        finally:
            with contextlib.suppress(Ice.Exception):
                table.close()
        return number


def _new_table(session: OmeroSession, name: str) -> Any:
    """A table's proxy. Without a Tables server OMERO returns None, or an InternalException about a null table."""
    try:
        table = session.sf.sharedResources().newTable(1, name)
    except omero.InternalException as error:
        if "null table" not in (error.message or ""):
            raise
        table = None
    if table is None:
        raise Transient("OMERO has no Tables server at the moment", hint="start Tables-0 in OMERO.grid")
    return table


def delete_incomplete(session: OmeroSession, name: str) -> None:
    """Delete tables of this name that have no annotation: a crash left them behind."""
    rows = session.rows(
        "select o.id from OriginalFile o where o.name = :name and o.details.owner.id = :owner"
        " and o.id not in (select a.file.id from FileAnnotation a where a.file.name = :name)",
        name=name,
        owner=session.user_id,
    )
    session.delete("OriginalFile", [row[0] for row in rows])


def _grid_column(column: Column, values: list[Any]) -> Any:
    match column.kind:
        case "image":
            return omero.grid.ImageColumn(column.name, "", values)
        case "long":
            return omero.grid.LongColumn(column.name, "", values)
        case "double":
            return omero.grid.DoubleColumn(column.name, "", values)
        case "bool":
            return omero.grid.BoolColumn(column.name, "", values)
        case "string":
            widest = max((len(value.encode()) for value in column.values), default=1)
            return omero.grid.StringColumn(column.name, "", max(1, widest), values)
    raise Permanent(f"unknown kind of column: {column.kind}")
