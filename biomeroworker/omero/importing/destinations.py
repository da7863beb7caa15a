"""Where results go in OMERO: the dataset of the images, and the objects that files and tables are attached to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import omero.model
from omero.rtypes import rstring

from biomeroworker.domain.source import Output, Provenance
from biomeroworker.imaging.results import Result
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.importing.annotations import RUN, ProvenanceAnnotations, provenance_text
from biomeroworker.omero.importing.options import Options

log = logging.getLogger(__name__)

#: Kind of the output that reports that the dataset which was named for the results cannot take them any more.
DATASET_GONE = "DatasetGone"


class Destinations:
    """The destinations of one import.

    Parameters
    ----------
    session
        Of the run's user, in the run's group.
    kind, ids
        The inputs of the run, as they were requested.
    record
        Called with each output that is made or found here; the same one may come several times.
    """

    def __init__(
        self,
        session: OmeroSession,
        kind: str,
        ids: list[int],
        marks: ProvenanceAnnotations,
        provenance: Provenance,
        options: Options,
        record: Callable[[Output], None],
    ) -> None:
        self._session, self._kind, self._ids, self._marks = session, kind, ids, marks
        self._provenance, self._options, self._record = provenance, options, record
        self._targets: Sequence[tuple[str, int]] = ()

    def dataset(self) -> int:
        """The dataset for result images: the one that was named, the one of an earlier try, or a new one."""
        number = self._dataset()
        self._record(Output("Dataset", f"Dataset:{number}", RUN))
        return number

    def _dataset(self) -> int:
        named = self._options.dataset_id
        if named is not None:
            if self.permitted("Dataset", [named], "canLink"):
                return named
            # it was there when the run was accepted; the results that were computed since are too valuable to fail
            log.warning("dataset %s, named for the results, is deleted or read-only: they go into a new one", named)
            self._record(Output(DATASET_GONE, f"Dataset:{named}", RUN))
        existing = self._marks.deduplicate("Dataset", [RUN]).get(RUN)
        if existing is None and self._options.dataset and not self._options.duplicates:
            existing = self._own_dataset(self._options.dataset)
        return self._new_dataset() if existing is None else existing

    def _new_dataset(self) -> int:
        name = self._options.dataset or f"{self._provenance.workflow} results {self._provenance.run[:8]}"
        dataset = omero.model.DatasetI()
        dataset.name = rstring(name[:255])
        dataset.description = rstring(provenance_text(self._provenance, RUN))
        dataset.linkAnnotation(self._marks.reference(RUN))
        for project in self._projects():
            dataset.linkProject(omero.model.ProjectI(project, False))
        number: int = self._session.save_and_return([dataset])[0].id.val
        return self._marks.deduplicate("Dataset", [RUN]).get(RUN, number)

    def _own_dataset(self, name: str) -> int | None:
        """The oldest dataset of that name that belongs to the user and is in this group."""
        rows = self._session.rows(
            "select d.id from Dataset d where d.name = :name and d.details.owner.id = :me"
            " and d.details.group.id = :group order by d.id",
            name=name[:255],
            me=self._session.user_id,
            group=self._session.group_id,
        )
        return int(rows[0][0]) if rows else None

    def _projects(self) -> list[int]:
        """The first project of the inputs that this user may add a dataset to; none for plates and screens."""
        if self._kind == "Project":
            return self.permitted("Project", self._ids, "canLink")[:1]
        datasets = self._source_datasets()
        query = "select l.parent.id from ProjectDatasetLink l where l.child.id in (:ids)"
        rows = self._session.rows_by_ids(query, datasets) if datasets else []
        return self.permitted("Project", [row[0] for row in rows], "canLink")[:1]

    def _source_datasets(self) -> list[int]:
        if self._kind == "Dataset":
            return self._ids
        if self._kind != "Image":
            return []
        query = "select l.parent.id from DatasetImageLink l where l.child.id in (:ids)"
        return sorted({row[0] for row in self._session.rows_by_ids(query, self._ids)})

    def for_run(self) -> Sequence[tuple[str, int]]:
        """Class and id of the objects that a result of the whole run is attached to: the inputs.

        If the user may annotate none of them, it is the dataset of the results, which is created if necessary:
        a file that is attached to no object cannot be found in OMERO.
        """
        if not self._targets:  # once: there may be thousands of files
            self._targets = self.annotatable_inputs() or [("Dataset", self._dataset())]
        return self._targets

    def for_result(self, result: Result) -> Sequence[tuple[str, int]]:
        """Class and id of the objects that a result is attached to: its input, or those of the whole run."""
        if result.input is None:
            return self.for_run()
        kind, number = str(result.input.origin["type"]), int(result.input.origin["id"])
        return [(kind, number)] if self.permitted(kind, [number], "canAnnotate") else self.for_run()

    def annotatable_inputs(self) -> list[tuple[str, int]]:
        """Of the inputs (instead of images, the datasets that they are in), those that the user may annotate."""
        if self._kind == "Image" and (datasets := self.permitted("Dataset", self._source_datasets(), "canAnnotate")):
            return [("Dataset", number) for number in datasets]
        return [(self._kind, number) for number in self.permitted(self._kind, self._ids, "canAnnotate")]

    def permitted(self, kind: str, ids: Iterable[int], right: str) -> list[int]:
        """Those of the objects on which the user has a right (``canLink``); others' may be read-only in this group."""
        wanted = sorted(set(ids))
        if not wanted:
            return []
        found = self._session.query_by_ids(f"select o from {kind} o where o.id in (:ids)", wanted)  # noqa: S608
        return sorted(o.id.val for o in found if getattr(o.details.permissions, right)())
