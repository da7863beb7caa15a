"""Where a run comes from and where its results go.

The engine carries runs; a *source* knows what a run's inputs and results mean. OMERO is one (`biomeroworker.omero`),
a folder on disk is another (`FolderSource`); the engine never assumes either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from biomeroworker.domain.manifest import InputManifest, Portion, ResultManifest
from biomeroworker.domain.request import RunRequest

#: Told a fraction from 0 to 1 and a word about what is going on.
ProgressCallback = Callable[[float, str], None]


@dataclass(frozen=True)
class Provenance:
    """What is written on everything that a run makes."""

    run: str
    attempt: int
    workflow: str
    version: str
    image: str
    image_digest: str
    parameters: dict[str, str | int | float | bool | None]
    job_id: int


@dataclass(frozen=True)
class Output:
    """One thing that stage-out made (an OMERO object, a file): what it is, its reference, and from which result."""

    kind: str
    reference: str
    result: str
    count: int = 1


class Guard(Protocol):
    """Whether a step may continue. A source checks it often while it works, and directly before each change."""

    def check(self) -> None:
        """Raise when the step must stop: another process may execute the run by now, or a cancel was requested."""
        ...


class Source(Protocol):
    """Stage in, stage out. Both may be called again after a crash and must then adopt what is there."""

    def check(self, request: RunRequest) -> None:
        """Raise `RequestRejected` when the request's inputs cannot be had (unknown ids, no such folder): before
        acceptance.
        """
        ...

    def list_inputs(self, run: str, request: RunRequest) -> InputManifest:
        """All that the run is to work on, in the order in which it is to be worked on; no pixel is read for it.

        Raises
        ------
        biomeroworker.errors.Permanent
            Something that was asked for is gone, or is nothing that can be exported.
        """
        ...

    def stage_in(
        self,
        run: str,
        request: RunRequest,
        portions: Sequence[Portion],
        folder: Path,
        report: ProgressCallback,
        guard: Guard,
    ) -> None:
        """Export these inputs into ``folder`` as OME-Zarr at their ``path``; what lies there already is whole."""
        ...

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
        """Bring the results in ``folder`` home; returns what was made or adopted."""
        ...
