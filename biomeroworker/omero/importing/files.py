"""Upload files to OMERO in large blocks, and attach them as annotations."""

from __future__ import annotations

import contextlib
import hashlib
import io
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import Ice
import omero.model
from omero.model.enums import ChecksumAlgorithmSHA1160
from omero.rtypes import rlong, rstring

from biomeroworker.domain.source import Provenance
from biomeroworker.omero.connection.errors import translate_errors
from biomeroworker.omero.connection.session import BLOCK_BYTES, OmeroSession, with_long_timeout
from biomeroworker.omero.importing.annotations import ProvenanceAnnotations, annotation_link, provenance_text

#: The namespace by which OMERO.web, OMERO.parade and others recognize a table of measurements.
TABLE_NAMESPACE = "openmicroscopy.org/omero/bulk_annotations"
FILE_NAMESPACE = "biomero/workflow/result"


def find_existing(
    session: OmeroSession, provenance: Provenance, results: Sequence[str], marks: ProvenanceAnnotations
) -> dict[str, int]:
    """The complete attachments, by result; incomplete ones that a crash left are deleted with their files."""
    if not results:
        return {}
    whole = marks.deduplicate("Annotation", results)
    linked = marks.linked("Annotation", whole)
    by_mark = {provenance_text(provenance, result): result for result in results}
    rows = session.rows_by_ids(
        "select a.id, a.description from FileAnnotation a"
        " where a.details.owner.id = :owner and a.description in (:ids)",
        by_mark,
        owner=session.user_id,
    )
    session.delete("Annotation", [number for number, mark in rows if number not in linked.get(by_mark[mark], [])])
    return whole


def upload(
    session: OmeroSession,
    path: Path,
    name: str,
    provenance: Provenance,
    result: str,
    namespace: str = FILE_NAMESPACE,
) -> int:
    """Store a file as an annotation that is not linked yet; returns the annotation's id.

    The annotation is created before the upload, so that a file that a crash left incomplete is found again.
    """
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha1").hexdigest()
    size = path.stat().st_size
    with translate_errors(f"upload {name} to OMERO"):
        row = _file_row(name, size, digest)
        annotation = session.save_and_return([_annotation(row, provenance_text(provenance, result), namespace)])[0]
        if size:
            with path.open("rb") as stream:
                _write(session, annotation.file.id.val, stream)
        number: int = annotation.id.val
        return number


def upload_text(session: OmeroSession, text: str, name: str, description: str, namespace: str) -> int:
    """Store a text as an annotation that is not linked yet; returns the annotation's id."""
    content = text.encode()
    with translate_errors(f"upload {name} to OMERO"):
        row = _file_row(name, len(content), hashlib.sha1(content).hexdigest())  # noqa: S324  (OMERO's checksum)
        annotation = session.save_and_return([_annotation(row, description, namespace)])[0]
        _write(session, annotation.file.id.val, io.BytesIO(content))
        number: int = annotation.id.val
        return number


def _file_row(name: str, size: int, digest: str) -> Any:
    row = omero.model.OriginalFileI()
    row.name, row.path = rstring(name[:255]), rstring("")
    row.size = rlong(size)
    row.mimetype = rstring(mimetypes.guess_type(name)[0] or "application/octet-stream")
    row.hasher = omero.model.ChecksumAlgorithmI()
    row.hasher.value = rstring(ChecksumAlgorithmSHA1160)
    row.hash = rstring(digest)
    return row


def _write(session: OmeroSession, original: int, stream: BinaryIO) -> None:
    store = session.sf.createRawFileStore()
    try:
        store.setFileId(original)
        offset = 0
        while block := stream.read(BLOCK_BYTES):
            store.write(block, offset, len(block))
            offset += len(block)
        with_long_timeout(store).save()
    finally:
        with contextlib.suppress(Ice.Exception):
            store.close()


def annotate(session: OmeroSession, original: int, provenance: Provenance, result: str, namespace: str) -> int:
    """Create an annotation, not linked yet, for a file in OMERO (a table); returns its id."""
    row = omero.model.OriginalFileI(original, False)
    number: int = session.save_and_return([_annotation(row, provenance_text(provenance, result), namespace)])[0].id.val
    return number


def _annotation(row: Any, description: str, namespace: str) -> Any:
    annotation = omero.model.FileAnnotationI()
    annotation.ns = rstring(namespace)
    annotation.description = rstring(description)
    annotation.file = row
    return annotation


def link(
    session: OmeroSession,
    annotation: int,
    targets: Sequence[tuple[str, int]],
    result: str,
    marks: ProvenanceAnnotations,
) -> int:
    """Link an annotation to its targets (class and id) and to its provenance in one transaction: now it is complete.

    Returns the id of the annotation that counts, in case another process linked its own at the same time.
    """
    links = [annotation_link(kind, number, omero.model.FileAnnotationI(annotation, False)) for kind, number in targets]
    marked = omero.model.AnnotationAnnotationLinkI()
    marked.parent = omero.model.FileAnnotationI(annotation, False)
    marked.child = marks.reference(result)
    session.save([*links, marked])
    return marks.deduplicate("Annotation", [result]).get(result, annotation)
