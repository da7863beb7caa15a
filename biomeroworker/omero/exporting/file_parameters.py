"""Read the files of file annotations, which are the values of file parameters."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biomeroworker.domain.input_files import FoundFile, lay_out
from biomeroworker.domain.manifest import InputFile
from biomeroworker.domain.source import Guard, ProgressCallback
from biomeroworker.errors import Permanent, RequestRejected
from biomeroworker.omero.connection.errors import translate_errors
from biomeroworker.omero.connection.session import OmeroSession, file_blocks

#: Checksums of OMERO that are verified here.
_HASHES = {"SHA1-160": "sha1", "MD5-128": "md5"}


def describe_files(session: OmeroSession, files: Mapping[str, Sequence[int | str]]) -> tuple[InputFile, ...]:
    """The files of annotations, by the parameters that they are for; one query.

    Raises
    ------
    RequestRejected
        An annotation is not found in the group of the session, or the user may not read it.
    """
    ids = {parameter: [_number(parameter, one) for one in given] for parameter, given in files.items()}
    wanted = [number for given in ids.values() for number in given]
    if not wanted:
        return ()
    query = "select a from FileAnnotation a join fetch a.file f left outer join fetch f.hasher where a.id in (:ids)"
    found = {annotation.id.val: annotation.file for annotation in session.query_by_ids(query, wanted)}
    for parameter, given in ids.items():
        if missing := [number for number in given if number not in found]:
            raise RequestRejected(_refusal(session, parameter, missing))
    return lay_out({parameter: [_found(found[number], number) for number in given] for parameter, given in ids.items()})


def _number(parameter: str, given: int | str) -> int:
    try:
        return int(given)
    except ValueError:
        raise RequestRejected(f"{parameter}: {given!r} is not the ID of a file annotation") from None


def _refusal(session: OmeroSession, parameter: str, missing: Sequence[int]) -> str:
    numbers = ", ".join(map(str, missing))
    user = session.user_name
    problem = f"{parameter}: OMERO has no file annotation {numbers} that {user} can read in the group of this run"
    query = "select a.id, a.details.group.name from FileAnnotation a where a.id in (:ids)"
    elsewhere = sorted(session.rows_by_ids(query, missing, everywhere=True))
    where = "; ".join(f"file annotation {number} is in group {group}" for number, group in elsewhere)
    return f"{problem}; {where}: attach the file in the group of the images" if where else problem


def _found(file: Any, annotation: int) -> FoundFile:
    hasher = file.hasher.value.val if file.hasher is not None else ""
    origin: dict[str, str | int] = {"type": "FileAnnotation", "id": annotation, "file": file.id.val}
    if file.hash is not None and file.hash.val and hasher in _HASHES:
        origin |= {"hasher": hasher, "hash": file.hash.val.lower()}
    return FoundFile(name=file.name.val, size=file.size.val if file.size is not None else 0, origin=origin)


def download(
    session: OmeroSession, files: Sequence[InputFile], folder: Path, report: ProgressCallback, guard: Guard
) -> None:
    """Write files to their paths below a folder; a file gets its name when it is complete and verified.

    Raises
    ------
    Permanent
        A file differs from what was listed, or its content does not agree with OMERO's checksum.
    """
    for number, file in enumerate(files):
        report(number / len(files), file.name)
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        with translate_errors(f"read the file {file.name} from OMERO"):
            _download(session, file, partial, guard)
        partial.replace(target)
    report(1.0, f"{len(files)} files")


def _download(session: OmeroSession, file: InputFile, partial: Path, guard: Guard) -> None:
    hasher = _HASHES.get(str(file.origin.get("hasher")))
    digest = hashlib.new(hasher, usedforsecurity=False) if hasher else None
    guard.check()
    with (
        partial.open("wb") as stream,
        contextlib.closing(file_blocks(session.sf, int(file.origin["file"]), file.size)) as blocks,
    ):
        for block in blocks:
            guard.check()
            stream.write(block)
            if digest:
                digest.update(block)
    if partial.stat().st_size != file.size or (digest and digest.hexdigest() != file.origin["hash"]):
        partial.unlink(missing_ok=True)
        raise Permanent(
            f"{file.parameter}: file annotation {file.origin['id']} ({file.name}) is damaged in OMERO: its content"
            " does not agree with its size or its checksum",
            hint="attach the file again, and start a new run with this attachment",
        )
