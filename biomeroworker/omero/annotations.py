"""Provenance: one key-value annotation for each result, linked to everything that was made from it.

It is also what makes an import safe to repeat. The annotation's description names run, attempt and result; an object is
complete exactly when it is linked to its annotation, and the link is saved last (or in the same transaction as the
object). Whoever comes again asks for the annotations of the attempt, and adopts what hangs on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import omero.model
from omero.rtypes import rstring

from biomeroworker.omero.session import OmeroSession
from biomeroworker.source import Provenance

#: Where tools that know the incumbent look for it.
NAMESPACE = "biomero/workflow"
#: The result that stands for all of them: on the dataset, on tables made of several files.
RUN = "the whole run"


def mark_of(by: Provenance, result: str) -> str:
    """The words by which an object of this result is found again; they are its description, for people too."""
    return f"Made by run {by.run}, attempt {by.attempt}, from {result}"


def pairs(by: Provenance, result: str) -> list[tuple[str, str]]:
    """What the annotation says. Values are text; a parameter that was not given has none."""
    said = [
        ("Workflow_ID", by.run),
        ("Name", by.workflow),
        ("Version", by.version),
        ("Image", by.image),
        ("Image_Digest", by.image_digest),
        ("Attempt", str(by.attempt)),
        ("Job_ID", str(by.job_id)),
        ("Result", result),
    ]
    said += [(f"Param_{name}", str(value)) for name, value in sorted(by.parameters.items()) if value is not None]
    return [(key, value) for key, value in said if value]


class Marks:
    """The annotations of one attempt, found or made."""

    def __init__(self, session: OmeroSession, by: Provenance) -> None:
        self._session, self._by = session, by
        self._ids: dict[str, int] = {}

    def make(self, results: Iterable[str]) -> None:
        """See that each of the results has its annotation: one question, and one save for what is missing."""
        by, wanted = self._by, sorted(set(results) - set(self._ids))
        rows = self._session.rows(
            "select a.id, a.description from MapAnnotation a"
            " where a.ns = :ns and a.details.owner.id = :owner and a.description like :mark",
            ns=NAMESPACE,
            owner=self._session.user_id,
            mark=mark_of(by, "%"),
        )
        known = {description: number for number, description in sorted(rows, reverse=True)}
        new = [result for result in wanted if mark_of(by, result) not in known]
        saved = self._session.save_and_return([self._annotation(result) for result in new])
        self._ids |= {result: annotation.id.val for result, annotation in zip(new, saved, strict=True)}
        self._ids |= {result: known[mark_of(by, result)] for result in wanted if result not in self._ids}

    def _annotation(self, result: str) -> Any:
        annotation = omero.model.MapAnnotationI()
        annotation.ns = rstring(NAMESPACE)
        annotation.description = rstring(mark_of(self._by, result))
        annotation.setMapValue([omero.model.NamedValue(key, value) for key, value in pairs(self._by, result)])
        return annotation

    def id(self, result: str) -> int:
        """The annotation's id."""
        return self._ids[result]

    def reference(self, result: str) -> Any:
        """The annotation as something to link to."""
        return omero.model.MapAnnotationI(self._ids[result], False)

    def linked(self, kind: str, results: Iterable[str]) -> dict[str, list[int]]:
        """Ids of the objects of a class (``Image``, ``Dataset``, ``Annotation``) that hang on the annotations."""
        by_id = {self._ids[result]: result for result in results}
        found: dict[str, list[int]] = {}
        query = f"select l.child.id, l.parent.id from {kind}AnnotationLink l where l.child.id in (:ids)"  # noqa: S608
        for mark, parent in sorted(self._session.rows_by_ids(query, by_id)):
            found.setdefault(by_id[mark], []).append(parent)
        return found


def annotation_link(kind: str, parent: int, child: Any) -> Any:
    """A link from an object (``Image``, ``Dataset``, ``Plate`` …) to an annotation, not yet saved."""
    link = getattr(omero.model, f"{kind}AnnotationLinkI")()
    link.parent = getattr(omero.model, f"{kind}I")(parent, False)
    link.child = child
    return link
