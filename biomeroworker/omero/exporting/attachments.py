"""Download the file of an annotation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from biomeroworker.errors import Permanent, RequestRejected
from biomeroworker.omero.connection.errors import translate_errors
from biomeroworker.omero.connection.session import OmeroSession, file_blocks


def file_name(name: str, allowed: Sequence[str]) -> str:
    """The name of the file on this machine: the last part of its name in OMERO.

    Raises
    ------
    RequestRejected
        It has none of the ``allowed`` endings (``.csv`` or ``csv``; none: all are allowed), or is no name of a file.
    """
    last = PurePosixPath(name.replace("\\", "/")).name
    if not last or last in (".", "..") or "\0" in last or len(last.encode()) > 255:
        raise RequestRejected(f"{name!r} is not a usable name of a file: rename the file in OMERO")
    endings = [f".{one.strip().lstrip('.').lower()}" for one in allowed if one.strip()]
    if endings and not last.lower().endswith(tuple(endings)):
        raise RequestRejected(f"{last} is not one of the accepted file types: {', '.join(endings)}")
    return last


def download(session: OmeroSession, annotation: int, folder: Path, allowed: Sequence[str] = ()) -> Path:
    """Write the file of an annotation into a folder.

    Raises
    ------
    RequestRejected
        The user cannot see it, or its type is not allowed.
    Permanent
        The server has less of it than its size.
    """
    query = "select f.id, f.name, f.size from FileAnnotation a join a.file f where a.id = :id"
    rows = session.rows(query, everywhere=True, id=annotation)
    if not rows:
        raise RequestRejected(f"OMERO has no file annotation {annotation} that {session.user_name} can see")
    number, name, size = rows[0]
    target = folder / file_name(name, allowed)
    with translate_errors(f"download {name}"), target.open("wb") as stream:
        for block in file_blocks(session.sf, number, size or 0, everywhere=True):
            stream.write(block)
    if target.stat().st_size != (size or 0):
        raise Permanent(
            f"file annotation {annotation} ({name}) is damaged in OMERO: its content does not agree with its size",
            hint="attach the file again",
        )
    return target
