"""OMERO as a source of runs: inputs come out of it, results go back, as the run's own user."""

from __future__ import annotations

from pathlib import Path

from biomeroworker.errors import Permanent, Refused
from biomeroworker.manifest import InputManifest, ResultManifest
from biomeroworker.omero.credentials import SessionProvider
from biomeroworker.omero.describe import select, wanted
from biomeroworker.omero.export import export
from biomeroworker.omero.importing import Import, Options
from biomeroworker.omero.session import OmeroSession
from biomeroworker.source import Made, Provenance, RunRequest, Tell


class OmeroSource:
    """Inputs ``{"type": "Dataset", "ids": [1, 2]}``; outputs as `importing.Options` has them.

    A session is opened for each stage and closed after it: a run may wait for days in between.
    """

    def __init__(self, provider: SessionProvider) -> None:
        self._provider = provider

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

    def stage_in(self, run: str, request: RunRequest, folder: Path, tell: Tell) -> InputManifest:
        """Export; images that are there already are kept."""
        kind, ids = wanted(request.inputs)
        with self._session(request) as session:
            try:
                selection = select(session, kind, ids)
            except Refused as gone:  # it was there when the run was accepted
                raise Permanent(str(gone), hint="was it deleted or moved to another group?") from gone
            images = export(session, selection, folder, tell)
        return InputManifest(run=run, images=tuple(images))

    def stage_out(
        self,
        request: RunRequest,
        inputs: InputManifest,
        results: ResultManifest,
        folder: Path,
        by: Provenance,
        tell: Tell,
    ) -> list[Made]:
        """Import; what is there already is adopted."""
        kind, ids = wanted(request.inputs)
        with self._session(request) as session:
            return Import(session, kind, ids, inputs, results, folder, by, Options.of(request.outputs)).run(tell)


def _may_hold_results(session: OmeroSession, dataset: int) -> None:
    """Refuse a dataset that is not there, or that the user may only look at: known before the cluster has worked."""
    found = session.query("select d from Dataset d where d.id = :id", id=dataset)
    if not found:
        raise Refused(
            f"OMERO has no dataset {dataset} for the results that {session.user_name} can see in the group of this run"
        )
    if not found[0].details.permissions.canLink():
        raise Refused(
            f"{session.user_name} may not put the results into dataset {dataset}: it belongs to somebody else and is"
            " read-only in this group; name one of your own, or none, and a new one is made"
        )
