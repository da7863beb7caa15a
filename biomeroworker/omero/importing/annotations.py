"""Provenance: one key-value annotation for each result, linked to everything that was made from it.

The annotations also make it safe to repeat an import. The description of an annotation names run, attempt and result.
An object is complete exactly when it is linked to its annotation: the link is saved last, or in the same transaction as
the object. A repeated import looks for the annotations of the attempt, and uses the objects that are linked to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import omero.model
from omero.rtypes import rstring

from biomeroworker.domain.source import Provenance
from biomeroworker.domain.summary import name_inputs
from biomeroworker.omero.connection.session import IDS_PER_QUERY, OmeroSession, batched

#: The namespace that tools for BIOMERO look for.
NAMESPACE = "biomero/workflow"
#: In place of a result: the object (the dataset) is made from the whole run.
RUN = "the whole run"


def provenance_text(provenance: Provenance, result: str) -> str:
    """The description of an object that is made from this result; it is also how the object is found again."""
    return f"Made by run {provenance.run}, attempt {provenance.attempt}, from {result}"


def pairs(provenance: Provenance, result: str) -> list[tuple[str, str]]:
    """The keys and values of the annotation, as text; parameters without a value are left out."""
    found = [
        ("Workflow_ID", provenance.run),
        ("Name", provenance.workflow),
        ("Version", provenance.version),
        ("Image", provenance.image),
        ("Image_Digest", provenance.image_digest),
        ("Attempt", str(provenance.attempt)),
        ("Job_ID", str(provenance.job_id)),
        ("Result", result),
        ("Without_Result", name_inputs(provenance.without_result) if result == RUN else ""),
    ]
    found += [
        (f"Param_{name}", str(value)) for name, value in sorted(provenance.parameters.items()) if value is not None
    ]
    return [(key, value) for key, value in found if value]


class ProvenanceAnnotations:
    """The annotations of one attempt, found or made."""

    def __init__(self, session: OmeroSession, provenance: Provenance) -> None:
        self._session, self._provenance = session, provenance
        self._ids: dict[str, int] = {}

    def make(self, results: Iterable[str]) -> None:
        """Make sure that each result has its annotation: one query, and one save for the missing ones."""
        provenance, wanted = self._provenance, sorted(set(results) - set(self._ids))
        known = self._known()
        new = [result for result in wanted if provenance_text(provenance, result) not in known]
        saved: list[int] = []
        for part in batched(new, IDS_PER_QUERY):
            annotations = self._session.save_and_return([self._annotation(result) for result in part])
            saved += [annotation.id.val for annotation in annotations]
        if new:  # another process that was believed dead may have created the same ones: the older ones count
            known = self._known()
            younger = set(saved) - {known[provenance_text(provenance, result)] for result in new}
            self._session.delete_what_is_there("Annotation", sorted(younger))
        self._ids |= {result: known[provenance_text(provenance, result)] for result in wanted}

    def _known(self) -> dict[str, int]:
        """The annotations of the attempt, by description; the oldest of several."""
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
        """The annotation as the unloaded child of a link."""
        return omero.model.MapAnnotationI(self._ids[result], False)

    def linked(self, kind: str, results: Iterable[str]) -> dict[str, list[int]]:
        """Ids of the objects of a class (``Image``, ``Dataset``, ``Annotation``) that are linked to the annotations.

        Objects that an import created come first, the oldest at the top; then objects that people linked themselves.
        """
        return {
            result: [number for _, number in sorted((not ours, number) for number, ours in rows)]
            for result, rows in self._linked(kind, results).items()
        }

    def _linked(self, kind: str, results: Iterable[str]) -> dict[str, list[tuple[int, bool]]]:
        """Ids, and whether an import created the object, which its description shows."""
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
        """The one object of a class for each result that has any; call it directly after objects were linked.

        There may be two if another process was believed dead, but was slow, and linked its own at the same time. Both
        processes decide to use the oldest and delete the other, so either may do it. Only objects that an import
        created are deleted, and no dataset that contains images.
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
