"""The interface between the engine and a source of runs.

The engine executes runs; a *source* exports their inputs and imports their results. There are two sources: OMERO
(`biomeroworker.omero`) and a folder on disk (`FolderSource`). The engine depends on neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from biomeroworker.domain.manifest import InputFile, InputManifest, Portion, ResultManifest
from biomeroworker.domain.request import RunRequest

#: Called with the finished fraction, from 0 to 1, and a short description of the activity.
ProgressCallback = Callable[[float, str], None]


@dataclass(frozen=True)
class Provenance:
    """The origin of results, recorded on each object that a run imports."""

    run: str
    attempt: int
    workflow: str
    version: str
    image: str
    image_digest: str
    parameters: dict[str, str | int | float | bool | None]
    job_id: int
    without_result: dict[str, str] = field(default_factory=dict)  #: inputs without a result: key and user's name


@dataclass(frozen=True)
class Output:
    """One object that stage-out made (an OMERO object, a file): its kind, its reference, and the result file."""

    kind: str
    reference: str
    result: str
    count: int = 1


class Guard(Protocol):
    """Whether a step may continue. A source checks it often while it works, and directly before each change."""

    def check(self) -> None:
        """Raise when the step must stop: another process may execute the run by now, or a cancel was requested."""
        ...


class NoGuard:
    """The guard of work that belongs to no run: it may always continue."""

    def check(self) -> None:
        """Return."""


class Source(Protocol):
    """Stage in, stage out. Both may be called again after a crash, and must then reuse what exists."""

    def check(self, request: RunRequest) -> None:
        """Raise `RequestRejected` before acceptance if the inputs do not exist (unknown ids, no such folder)."""
        ...

    def list_inputs(self, run: str, request: RunRequest) -> InputManifest:
        """List the inputs in their processing order. Reads no pixels.

        Raises
        ------
        biomeroworker.errors.Permanent
            A requested object does not exist any more, or cannot be exported.
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
        """Export these inputs into ``folder`` as OME-Zarr, at their ``path``. What exists there is complete."""
        ...

    def stage_files(
        self,
        request: RunRequest,
        files: Sequence[InputFile],
        folder: Path,
        report: ProgressCallback,
        guard: Guard,
    ) -> None:
        """Write these files of file parameters below ``folder``, at their ``path``. What exists there is complete."""
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
        """Import the results in ``folder``; returns what was made, or found from an earlier attempt."""
        ...

    def attach_report(self, request: RunRequest, page: Path, provenance: Provenance, guard: Guard) -> str:
        """Put the report of a run where its user finds it; returns its reference, for `read_report`.

        The report of an earlier try is used.
        """
        ...

    def read_report(self, request: RunRequest, reference: str) -> bytes:
        """The report that `attach_report` attached.

        Raises
        ------
        biomeroworker.errors.Fault
            It is not there any more, or cannot be read.
        """
        ...
