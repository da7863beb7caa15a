"""OMERO as a source of runs: export the inputs and import the results, as the user of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from biomeroworker.domain.manifest import InputImage, InputManifest, Portion, ResultManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Guard, Output, ProgressCallback, Provenance
from biomeroworker.errors import Permanent, RequestRejected
from biomeroworker.omero.connection.credentials import SessionProvider
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.exporting.describe import ObjectType, PlateInfo, Selection, select, wanted
from biomeroworker.omero.exporting.export import describe, describe_plate, export, refuse_strange_pixels
from biomeroworker.omero.importing.importer import Import
from biomeroworker.omero.importing.options import Options

#: Runs of which the content of the plates is cached.
CACHED_RUNS = 8


class OmeroSource:
    """Inputs are ``{"type": "Dataset", "ids": [1, 2]}``; `importing.options.Options` defines the outputs.

    A session is opened for each stage and closed after it: a run may wait for days between two stages.
    """

    def __init__(self, provider: SessionProvider) -> None:
        self._provider = provider
        self._plates: dict[str, Selection] = {}

    def _session(self, request: RunRequest) -> OmeroSession:
        return self._provider.open(request.user, request.group)

    def check(self, request: RunRequest) -> None:
        """Reject ids that are not found, and wrong options."""
        kind, ids = wanted(request.inputs)
        options = Options.of(request.outputs)
        with self._session(request) as session:
            select(session, kind, ids)
            if options.dataset_id is not None:
                _check_target_dataset(session, options.dataset_id)

    def list_inputs(self, run: str, request: RunRequest) -> InputManifest:
        """All images and plates of the ids; in a run that repeats failed inputs, only those."""
        kind, ids = wanted(request.inputs)
        with self._session(request) as session:
            selection = self._selected(session, run, kind, ids)
        images = [describe(f"image-{image.id}", image) for image in selection.images]
        images += [describe_plate(plate) for plate in selection.plates]
        return InputManifest(run=run, images=tuple(_only(images, request.only)))

    def stage_in(
        self,
        run: str,
        request: RunRequest,
        portions: Sequence[Portion],
        folder: Path,
        report: ProgressCallback,
        guard: Guard,
    ) -> None:
        """Export the images that are missing in the folder."""
        plates = [portion for portion in portions if portion.image.fields]
        ids = [int(portion.image.origin["id"]) for portion in portions if not portion.image.fields]
        with self._session(request) as session:
            images = self._selected(session, run, "Image", ids).images if ids else ()
            whole = self._selected(session, run, *wanted(request.inputs)).plates if plates else ()
            selection = Selection(images, tuple(_part(whole, portion) for portion in plates))
            export(session, selection, folder, report, guard)

    def _selected(self, session: OmeroSession, run: str, kind: ObjectType, ids: Sequence[int]) -> Selection:
        """The metadata of the objects. Those of plates are cached: each chunk of a plate needs the whole plate."""
        known = self._plates.get(run)
        if known is not None and kind in ("Plate", "Screen"):
            return known
        try:
            selection = select(session, kind, ids)
        except RequestRejected as gone:  # it was there when the run was accepted
            raise Permanent(str(gone), hint="check whether it was deleted or moved to another group") from gone
        refuse_strange_pixels(selection)
        if selection.plates:
            self._plates[run] = selection
            for other in list(self._plates)[:-CACHED_RUNS]:
                self._plates.pop(other, None)
        return selection

    def stage_out(
        self,
        request: RunRequest,
        inputs: InputManifest,
        results: ResultManifest,
        folder: Path,
        provenance: Provenance,
        report: ProgressCallback,
        guard: Guard,
    ) -> list[Output]:
        """Import; objects of an earlier try are used."""
        kind, ids = wanted(request.inputs)
        with self._session(request) as session:
            session.before_change = guard.check
            return Import(session, kind, ids, inputs, results, folder, provenance, Options.of(request.outputs)).run(
                report, guard
            )


def _only(images: Sequence[InputImage], only: Mapping[str, str]) -> Iterator[InputImage]:
    """The inputs that ``only`` names, and of a plate the fields that it names (``plate-5/A/1/0``); all if it is empty.

    Raises
    ------
    Permanent
        One of them is not found any more.
    """
    existing = {image.key for image in images} | {f"{image.key}/{field}" for image in images for field in image.fields}
    if gone := [key for key in only if key not in existing]:
        raise Permanent(
            f"{', '.join(gone)}: not among the inputs any more", hint="check whether it was deleted or moved"
        )
    for image in images:
        fields = [field for field in image.fields if f"{image.key}/{field}" in only]
        if fields:
            origin = {name: value for name, value in image.origin.items() if "/" not in name or name in fields}
            yield image.model_copy(update={"origin": origin})
        elif not only or image.key in only:
            yield image


def _part(plates: Sequence[PlateInfo], portion: Portion) -> PlateInfo:
    """The plate of a portion, with only the fields of the portion."""
    number = int(portion.image.origin["id"])
    plate = next(plate for plate in plates if plate.id == number)
    wanted_fields = {int(portion.image.origin[field]) for field in portion.fields or portion.image.fields}
    fields = tuple(field for field in plate.fields if field.image.id in wanted_fields)
    if len(fields) < len(wanted_fields):
        raise Permanent(f"fields of plate {number} were deleted since the run was accepted", hint="start a new run")
    return replace(plate, fields=fields)


def _check_target_dataset(session: OmeroSession, dataset: int) -> None:
    """Reject a dataset that is not found or is read-only for the user, before the cluster computes anything."""
    found = session.query("select d from Dataset d where d.id = :id", id=dataset)
    if not found:
        raise RequestRejected(
            f"OMERO has no dataset {dataset} for the results that {session.user_name} can see in the group of this run"
        )
    if not found[0].details.permissions.canLink():
        raise RequestRejected(
            f"{session.user_name} may not put the results into dataset {dataset}: it belongs to another user and is"
            " read-only in this group; choose a dataset of your own, or none, and a new one is created"
        )
