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

from biomeroworker.domain.source import Provenance
from biomeroworker.omero.connection.session import IDS_PER_QUERY, OmeroSession, batched

#: Where tools that know the incumbent look for it.
NAMESPACE = "biomero/workflow"
#: The result that stands for all of them: on the dataset, on tables made of several files.
RUN = "the whole run"


def provenance_text(provenance: Provenance, result: str) -> str:
    """The words by which an object of this result is found again; they are its description, for people too."""
    return f"Made by run {provenance.run}, attempt {provenance.attempt}, from {result}"


def pairs(provenance: Provenance, result: str) -> list[tuple[str, str]]:
    """What the annotation says. Values are text; a parameter that was not given has none."""
    said = [
        ("Workflow_ID", provenance.run),
        ("Name", provenance.workflow),
        ("Version", provenance.version),
        ("Image", provenance.image),
        ("Image_Digest", provenance.image_digest),
        ("Attempt", str(provenance.attempt)),
        ("Job_ID", str(provenance.job_id)),
        ("Result", result),
    ]
    said += [
        (f"Param_{name}", str(value)) for name, value in sorted(provenance.parameters.items()) if value is not None
    ]
    return [(key, value) for key, value in said if value]


class ProvenanceAnnotations:
    """The annotations of one attempt, found or made."""

    def __init__(self, session: OmeroSession, provenance: Provenance) -> None:
        self._session, self._provenance = session, provenance
        self._ids: dict[str, int] = {}

    def make(self, results: Iterable[str]) -> None:
        """See that each of the results has its annotation: one question, and one save for what is missing."""
        provenance, wanted = self._provenance, sorted(set(results) - set(self._ids))
        known = self._known()
        new = [result for result in wanted if provenance_text(provenance, result) not in known]
        saved: list[int] = []
        for part in batched(new, IDS_PER_QUERY):
            annotations = self._session.save_and_return([self._annotation(result) for result in part])
            saved += [annotation.id.val for annotation in annotations]
        if new:  # another process, taken for dead, may have made the same in this moment: the older ones are the ones
            known = self._known()
            younger = set(saved) - {known[provenance_text(provenance, result)] for result in new}
            self._session.delete_what_is_there("Annotation", sorted(younger))
        self._ids |= {result: known[provenance_text(provenance, result)] for result in wanted}

    def _known(self) -> dict[str, int]:
        """The annotations of the attempt by their marks; the oldest where there are two."""
        rows = self._session.rows(
            "select a.id, a.description from MapAnnotation a"
            " where a.ns = :ns and a.details.owner.id = :owner and a.description like :mark",
            ns=NAMESPACE,
            owner=self._session.user_id,
            mark=provenance_text(self._provenance, "%"),
        )
        return {description: number for number, description in sorted(rows, reverse=True)}

    def _annotation(self, result: str) -> Any:
        annotation = omero.model.MapAnnotationI()
        annotation.ns = rstring(NAMESPACE)
        annotation.description = rstring(provenance_text(self._provenance, result))
        annotation.setMapValue([omero.model.NamedValue(key, value) for key, value in pairs(self._provenance, result)])
        return annotation

    def id(self, result: str) -> int:
        """The annotation's id."""
        return self._ids[result]

    def reference(self, result: str) -> Any:
        """The annotation as something to link to."""
        return omero.model.MapAnnotationI(self._ids[result], False)

    def linked(self, kind: str, results: Iterable[str]) -> dict[str, list[int]]:
        """Ids of the objects of a class (``Image``, ``Dataset``, ``Annotation``) that hang on the annotations.

        Ours come first, the oldest before all; what people have hung there themselves comes behind.
        """
        return {
            result: [number for _, number in sorted((not ours, number) for number, ours in rows)]
            for result, rows in self._linked(kind, results).items()
        }

    def _linked(self, kind: str, results: Iterable[str]) -> dict[str, list[tuple[int, bool]]]:
        """Ids, and whether the object is ours, which its description says."""
        by_id = {self._ids[result]: result for result in results}
        found: dict[str, list[tuple[int, bool]]] = {}
        query = (
            f"select l.child.id, o.id, o.description from {kind}AnnotationLink l join l.parent as o"  # noqa: S608
            " where l.child.id in (:ids)"
        )
        for mark, parent, description in self._session.rows_by_ids(query, by_id):
            result = by_id[mark]
            found.setdefault(result, []).append((parent, description == provenance_text(self._provenance, result)))
        return found

    def deduplicate(self, kind: str, results: Iterable[str]) -> dict[str, int]:
        """The one object of a class for each result that has any; asked for directly after objects were linked.

        There are two if another process, taken for dead, was only slow and linked its own in the same moment. Both
        come to the same decision, to keep the oldest, so it does not matter which of them carries it out. Only what
        was made by us is deleted, and no dataset that somebody put images into.
        """
        wanted = list(results)
        linked = self._linked(kind, wanted)
        younger = [number for rows in linked.values() for number in sorted(n for n, ours in rows if ours)[1:]]
        if kind == "Dataset" and younger:
            query = "select l.parent.id from DatasetImageLink l where l.parent.id in (:ids)"
            filled = {row[0] for row in self._session.rows_by_ids(query, younger)}
            younger = [number for number in younger if number not in filled]
        self._session.delete_what_is_there(kind, younger)
        return {result: min((not ours, number) for number, ours in rows)[1] for result, rows in linked.items()}


def annotation_link(kind: str, parent: int, child: Any) -> Any:
    """A link from an object (``Image``, ``Dataset``, ``Plate`` …) to an annotation, not yet saved."""
    link = getattr(omero.model, f"{kind}AnnotationLinkI")()
    link.parent = getattr(omero.model, f"{kind}I")(parent, False)
    link.child = child
    return link
