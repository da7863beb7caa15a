"""OMERO as a source of runs: inputs come out of it, results go back, as the run's own user."""

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

#: Of how many runs it is remembered what is in their plates.
PLATES_KEPT = 8


class OmeroSource:
    """Inputs ``{"type": "Dataset", "ids": [1, 2]}``; outputs as `importing.options.Options` defines them.

    A session is opened for each stage and closed after it: a run may wait for days in between.
    """

    def __init__(self, provider: SessionProvider) -> None:
        self._provider = provider
        self._plates: dict[str, Selection] = {}

    def _session(self, request: RunRequest) -> OmeroSession:
        return self._provider.open(request.user, request.group)

    def check(self, request: RunRequest) -> None:
        """Refuse ids that are not to be had, and options that make no sense."""
        kind, ids = wanted(request.inputs)
        options = Options.of(request.outputs)
        with self._session(request) as session:
            select(session, kind, ids)
            if options.dataset_id is not None:
                _may_hold_results(session, options.dataset_id)

    def list_inputs(self, run: str, request: RunRequest) -> InputManifest:
        """Everything that the ids stand for; of a run that is to do again what failed, what is left of it."""
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
        """Export; images that are there already are kept."""
        plates = [portion for portion in portions if portion.image.fields]
        ids = [int(portion.image.origin["id"]) for portion in portions if not portion.image.fields]
        with self._session(request) as session:
            images = self._selected(session, run, "Image", ids).images if ids else ()
            whole = self._selected(session, run, *wanted(request.inputs)).plates if plates else ()
            selection = Selection(images, tuple(_part(whole, portion) for portion in plates))
            export(session, selection, folder, report, guard)

    def _selected(self, session: OmeroSession, run: str, kind: ObjectType, ids: Sequence[int]) -> Selection:
        """What OMERO says of the objects. Of plates it is kept: each chunk of one would ask for the whole plate."""
        known = self._plates.get(run)
        if known is not None and kind in ("Plate", "Screen"):
            return known
        try:
            selection = select(session, kind, ids)
        except RequestRejected as gone:  # it was there when the run was accepted
            raise Permanent(str(gone), hint="was it deleted or moved to another group?") from gone
        refuse_strange_pixels(selection)
        if selection.plates:
            self._plates[run] = selection
            for other in list(self._plates)[:-PLATES_KEPT]:
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
        """Import; what is there already is adopted."""
        kind, ids = wanted(request.inputs)
        with self._session(request) as session:
            session.before_change = guard.check
            return Import(session, kind, ids, inputs, results, folder, provenance, Options.of(request.outputs)).run(
                report, guard
            )


def _only(images: Sequence[InputImage], only: Mapping[str, str]) -> Iterator[InputImage]:
    """Those of the inputs that are named, and of a plate the fields that are (``plate-5/A/1/0``); all if none is.

    Raises
    ------
    Permanent
        One of them is not there any more.
    """
    there = {image.key for image in images} | {f"{image.key}/{field}" for image in images for field in image.fields}
    if gone := [key for key in only if key not in there]:
        raise Permanent(f"{', '.join(gone)}: not among the inputs any more", hint="was it deleted or moved?")
    for image in images:
        fields = [field for field in image.fields if f"{image.key}/{field}" in only]
        if fields:
            kept = {name: value for name, value in image.origin.items() if "/" not in name or name in fields}
            yield image.model_copy(update={"origin": kept})
        elif not only or image.key in only:
            yield image


def _part(plates: Sequence[PlateInfo], portion: Portion) -> PlateInfo:
    """The plate of a portion, with its fields only."""
    number = int(portion.image.origin["id"])
    plate = next(plate for plate in plates if plate.id == number)
    wanted_fields = {int(portion.image.origin[field]) for field in portion.fields or portion.image.fields}
    fields = tuple(field for field in plate.fields if field.image.id in wanted_fields)
    if len(fields) < len(wanted_fields):
        raise Permanent(f"plate {number} has lost fields since the run was accepted", hint="hand it in again")
    return replace(plate, fields=fields)


def _may_hold_results(session: OmeroSession, dataset: int) -> None:
    """Refuse a dataset that is not there, or that the user may only look at: known before the cluster has worked."""
    found = session.query("select d from Dataset d where d.id = :id", id=dataset)
    if not found:
        raise RequestRejected(
            f"OMERO has no dataset {dataset} for the results that {session.user_name} can see in the group of this run"
        )
    if not found[0].details.permissions.canLink():
        raise RequestRejected(
            f"{session.user_name} may not put the results into dataset {dataset}: it belongs to somebody else and is"
            " read-only in this group; name one of your own, or none, and a new one is made"
        )
