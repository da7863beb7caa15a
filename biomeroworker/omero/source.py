"""OMERO as a source of runs: export the inputs and import the results, as the user of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from biomeroworker.domain.manifest import InputFile, InputManifest, Portion, ResultManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Guard, Output, ProgressCallback, Provenance
from biomeroworker.errors import Permanent, RequestRejected
from biomeroworker.omero.connection.credentials import SessionProvider
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.exporting.describe import ObjectType, PlateInfo, Selection, select, wanted
from biomeroworker.omero.exporting.export import export, refuse_strange_pixels
from biomeroworker.omero.exporting.file_parameters import describe_files, download
from biomeroworker.omero.importing import run_report
from biomeroworker.omero.importing.importer import Import
from biomeroworker.omero.importing.options import Options
from biomeroworker.omero.request_checks import check_access, inputs_of

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
        """Reject ids that are not found, wrong options, and missing rights."""
        wanted(request.inputs)  # before a login
        with self._session(request) as session:
            check_access(session, request)

    def list_inputs(self, run: str, request: RunRequest) -> InputManifest:
        """All images and plates of the ids; in a run that repeats failed inputs, only those."""
        kind, ids = wanted(request.inputs)
        with self._session(request) as session:
            selection = self._selected(session, run, kind, ids)
            try:
                files = describe_files(session, request.files)
            except RequestRejected as gone:  # they were there when the run was accepted
                raise Permanent(str(gone), hint="check whether it was deleted or moved to another group") from gone
        return InputManifest(run=run, images=tuple(inputs_of(selection, request)), files=files)

    def stage_files(
        self, request: RunRequest, files: Sequence[InputFile], folder: Path, report: ProgressCallback, guard: Guard
    ) -> None:
        """Read the files of the annotations, with the rights of the user."""
        with self._session(request) as session:
            download(session, files, folder, report, guard)

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

    def attach_report(self, request: RunRequest, page: Path, provenance: Provenance, guard: Guard) -> str:
        """Attach the page to the inputs; a page of an earlier try is used."""
        kind, ids = wanted(request.inputs)
        with self._session(request) as session:
            session.before_change = guard.check
            return run_report.attach(session, kind, ids, page, provenance, Options.of(request.outputs))

    def read_report(self, request: RunRequest, reference: str) -> bytes:
        """Read the page with the rights of the run's user."""
        with self._session(request) as session:
            return run_report.read(session, reference)


def _part(plates: Sequence[PlateInfo], portion: Portion) -> PlateInfo:
    """The plate of a portion, with only the fields of the portion."""
    number = int(portion.image.origin["id"])
    plate = next(plate for plate in plates if plate.id == number)
    wanted_fields = {int(portion.image.origin[field]) for field in portion.fields or portion.image.fields}
    fields = tuple(field for field in plate.fields if field.image.id in wanted_fields)
    if len(fields) < len(wanted_fields):
        raise Permanent(f"fields of plate {number} were deleted since the run was accepted", hint="start a new run")
    return replace(plate, fields=fields)
