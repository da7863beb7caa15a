"""Attach the report of a run to its inputs, once, and read it again."""

from __future__ import annotations

from pathlib import Path

from biomeroworker.domain.source import Provenance
from biomeroworker.errors import Permanent
from biomeroworker.omero.connection.errors import translate_errors
from biomeroworker.omero.connection.session import OmeroSession, file_blocks
from biomeroworker.omero.importing import files
from biomeroworker.omero.importing.annotations import RUN, ProvenanceAnnotations
from biomeroworker.omero.importing.destinations import Destinations
from biomeroworker.omero.importing.options import Options

NAMESPACE = "biomero/workflow/report"
#: In place of a result.
REPORT = "the report of the run"
_KIND = "FileAnnotation"


def attach(
    session: OmeroSession, kind: str, ids: list[int], page: Path, provenance: Provenance, options: Options
) -> str:
    """Attach the page to the inputs (see `Destinations.for_run`), unless an earlier try did; returns its reference."""
    marks = ProvenanceAnnotations(session, provenance)
    marks.make([RUN, REPORT])
    number = files.find_existing(session, provenance, [REPORT], marks).get(REPORT)
    if number is None:
        destinations = Destinations(session, kind, ids, marks, provenance, options, lambda output: None)
        number = files.upload(session, page, page.name, provenance, REPORT, NAMESPACE)
        number = files.link(session, number, destinations.for_run(), REPORT, marks)
    return f"{_KIND}:{number}"


def read(session: OmeroSession, reference: str) -> bytes:
    """The page of a reference; raises `Permanent` if it is not in OMERO any more."""
    number = reference.removeprefix(f"{_KIND}:")
    rows = (
        session.rows("select f.id, f.size from FileAnnotation a join a.file f where a.id = :id", id=int(number))
        if number.isdigit()
        else []
    )
    if not rows:
        raise Permanent(f"the report {reference} is not in OMERO any more")
    original, size = rows[0]
    with translate_errors("read the report of a run"):
        return b"".join(file_blocks(session.sf, original, size))
