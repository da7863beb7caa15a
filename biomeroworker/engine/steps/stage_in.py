"""Inputs on their way: out of their source, onto this machine, onto the cluster.

A run that is split is fed. Its array is submitted on hold when the first chunk has arrived, and while that computes the
next ones are exported and sent; a task is let go when its chunk is there. What was let go is recorded; what was let go
and not recorded is sent again, which sends nothing, and let go again, which does nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from biomeroworker.domain import ranges
from biomeroworker.domain.manifest import INPUTS_FILE, InputManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.planning import chunks
from biomeroworker.engine.planning.plan import ExecutionPlan
from biomeroworker.engine.results.workspace import Workspace
from biomeroworker.engine.steps.context import ClusterContext, EngineContext
from biomeroworker.errors import Permanent
from biomeroworker.eventlog.aggregates.records import Attempt
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.workflows import input_axes

#: No manifest of inputs is larger.
MANIFEST_LIMIT_BYTES = 1 << 28


class InputStager:
    """The steps *export*, *transfer* and *feed*."""

    def __init__(self, ctx: EngineContext) -> None:
        self._ctx, self._log = ctx, ctx.log

    def export(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        """Write what the run works on into the work folder; of a run that is split only what is needed to begin."""
        begun = time.monotonic()
        space = self._ctx.workspace(run_id)
        space.open()
        manifest = self.manifest(run_id, run, request, space)
        first = run.attempts[run.attempt].tasks[0] if run.chunks else 0
        self._export(run_id, request, space, manifest, first if manifest.chunks else None, RunState.EXPORTING)
        self._log.complete(
            run_id,
            RunState.EXPORTING,
            images=len(manifest.images),
            **({"chunks": len(manifest.chunks)} if manifest.chunks else {}),
            bytes=space.size(),
            seconds=round(time.monotonic() - begun, 2),
        )
        if run.attempt:  # exported again, for an attempt whose inputs were lost on the way
            self._log.intend(run_id, RunState.TRANSFERRING, attempt=run.attempt)
        else:
            name = self._ctx.cluster_of(run).attempt_name(run_id, 1)
            self._log.begin_attempt(run_id, 1, name, tasks=range(len(manifest.chunks)))
        return 0

    def transfer(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        """Bring the attempt's files to the cluster, and with them the inputs that it needs to begin."""
        begun = time.monotonic()
        place, space = self._ctx.cluster_context_of(run), self._ctx.workspace(run_id)
        attempt = run.attempts[run.attempt]
        manifest = space.read_manifest()
        sent: dict[str, Any]
        if attempt.tasks:
            sent = self._send_array(run_id, run, request, place, space)
        elif attempt.number == 1:
            if manifest is None or not space.has_inputs(manifest):  # the work folder was lost, or is another machine's
                return self._export_first(run_id, run)
            self._write_attempt_files(run_id, run, place, space)
            place.guard.check(space.size())
            sent = self._send(run_id, place, space.folder, place.cluster.run_folder(run_id))
        else:
            folder = place.cluster.run_folder(run_id)
            self._write_attempt_files(run_id, run, place, space)
            place.guard.check(0)
            if not place.cluster.transport.exists(f"{folder}/{INPUTS_FILE}"):
                if manifest is None or not space.has_inputs(manifest):
                    return self._export_first(run_id, run)
                # the cluster has lost what the first attempt brought (a scratch that is swept): bring it once more
                place.cluster.transport.send_tree(space.inputs, f"{folder}/{space.inputs.name}")
                self._send_manifest(place, folder, manifest)
            sent = self._send(run_id, place, space.attempt(attempt.number), self._remote(run_id, place, attempt))
        self._log.complete(
            run_id,
            RunState.TRANSFERRING,
            attempt=attempt.number,
            **sent,
            seconds=round(time.monotonic() - begun, 2),
        )
        space.clear_outgoing()
        self._log.intend(run_id, RunState.SUBMITTING, attempt=attempt.number, name=attempt.name)
        return 0

    def stream_chunks(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        """One round: send the chunks that are ready, export more meanwhile, let the tasks of what was sent go."""
        begun = time.monotonic()
        place, space = self._ctx.cluster_context_of(run), self._ctx.workspace(run_id)
        attempt = run.attempts[run.attempt]
        sent: dict[str, int] = {}
        if going := sorted(attempt.preloaded & set(attempt.unreleased)):
            space.clear_outgoing()
            self._release_tasks(run_id, run, place, attempt, going, sent, begun)
            return 0
        space.open()
        manifest = self.manifest(run_id, run, request, space)
        going = [chunk for chunk in attempt.unreleased if space.has_inputs(manifest, chunk)]
        if not going:
            going = [attempt.unreleased[0]]
            self._export(run_id, request, space, manifest, going[0], run.state)
        place.guard.check(space.stage_outgoing(going))
        rest = [chunk for chunk in attempt.unreleased if chunk not in going]
        with self._prefetch(run_id, run, request, space, manifest, rest):
            self._ctx.report_progress(run_id, run.state, None, f"sending {_parts(going, run)}")
            inputs = f"{place.cluster.run_folder(run_id)}/{space.inputs.name}"
            sent = self._send(run_id, place, space.outgoing, inputs, run.state)
            self._release_tasks(run_id, run, place, attempt, going, sent, begun)
        space.clear_outgoing()
        return 0

    # -- helpers ------------------------------------------------------------------------------------------------------

    def manifest(self, run_id: UUID, run: WorkflowRun, request: RunRequest, space: Workspace) -> InputManifest:
        """What the run works on: as it was settled first, wherever that is still known; else looked up now."""
        manifest = space.read_manifest()
        if manifest is not None:
            return manifest
        space.open()
        manifest = self._sent_manifest(run_id, run)
        if manifest is None:
            self._ctx.report_progress(run_id, run.state, None, "looking at the inputs")
            manifest = self._ctx.source(request).list_inputs(str(run_id), request)
            if not manifest.images:
                raise Permanent("there is nothing to run on: the inputs hold no image")
            input_axes.check(ExecutionPlan.from_run(run).workflow, manifest.images)
            if (not run.attempt or run.chunks) and chunks.wants_split(manifest, request.batch_size):
                most = self._ctx.cluster_of(run).limits.tasks
                manifest = chunks.split(manifest, request.batch_size, most)
            if run.attempt and len(manifest.chunks) != run.chunks:
                raise Permanent(
                    "the inputs have changed since the run began, and what was sent of them is lost",
                    hint="hand them in again",
                )
        space.write_manifest(manifest)
        return manifest

    def _sent_manifest(self, run_id: UUID, run: WorkflowRun) -> InputManifest | None:
        """What was sent, from the cluster: the work folder was lost, or is another machine's."""
        if not run.attempt:
            return None
        cluster = self._ctx.cluster_of(run)
        try:
            content = cluster.transport.read_from(
                f"{cluster.run_folder(run_id)}/{INPUTS_FILE}", limit=MANIFEST_LIMIT_BYTES
            )
        except FileNotFoundError:
            return None
        return InputManifest.model_validate_json(content)

    def _export_first(self, run_id: UUID, run: WorkflowRun) -> float:
        self._log.intend(run_id, RunState.EXPORTING, **run.intent(RunState.EXPORTING))
        return 0

    def _export(
        self,
        run_id: UUID,
        request: RunRequest,
        space: Workspace,
        manifest: InputManifest,
        chunk: int | None,
        stage: RunState,
    ) -> None:
        if space.has_inputs(manifest, chunk):
            return
        which = "" if chunk is None else f"part {chunk + 1} of {len(manifest.chunks)}: "
        self._ctx.source(request).stage_in(
            str(run_id),
            request,
            manifest.portions(chunk),
            space.chunk(chunk),
            lambda fraction, word: self._ctx.report_progress(run_id, stage, fraction, f"{which}{word}"),
        )

    @contextmanager
    def _prefetch(
        self,
        run_id: UUID,
        run: WorkflowRun,
        request: RunRequest,
        space: Workspace,
        manifest: InputManifest,
        rest: Sequence[int],
    ) -> Iterator[None]:
        """While the block runs, export what comes next, chunk after chunk; what goes wrong is raised after it."""
        over = threading.Event()
        wrong: list[BaseException] = []

        def export() -> None:
            try:
                for chunk in rest:
                    self._export(run_id, request, space, manifest, chunk, run.state)
                    if over.is_set():
                        return
            except BaseException as error:  # told where it can be dealt with
                wrong.append(error)

        ahead = threading.Thread(target=export, name="exporting ahead", daemon=True)
        ahead.start()
        try:
            yield
        finally:
            over.set()
            ahead.join()
        if wrong:
            raise wrong[0]

    def _send_array(
        self, run_id: UUID, run: WorkflowRun, request: RunRequest, place: ClusterContext, space: Workspace
    ) -> dict[str, Any]:
        """The first chunk, or none if some of the attempt's are there from an earlier one, and the attempt's files."""
        attempt = run.attempts[run.attempt]
        folder = place.cluster.run_folder(run_id)
        space.open()
        manifest = self.manifest(run_id, run, request, space)
        there = self._chunks_on_cluster(run_id, run, place).intersection(attempt.tasks)
        if not there:
            first = attempt.tasks[0]
            self._export(run_id, request, space, manifest, first, RunState.TRANSFERRING)
            place.guard.check(space.stage_outgoing([first]))
            self._send(run_id, place, space.outgoing, f"{folder}/{space.inputs.name}")
            there = {first}
        self._send_manifest(place, folder, manifest)
        self._write_attempt_files(run_id, run, place, space)
        remote = self._remote(run_id, place, attempt)
        return {
            "chunks": ranges.format_ranges(there),
            **self._send(run_id, place, space.attempt(attempt.number), remote),
        }

    def _chunks_on_cluster(self, run_id: UUID, run: WorkflowRun, place: ClusterContext) -> set[int]:
        """The chunks that earlier attempts have brought, as far as the cluster still has them."""
        brought = {chunk for one in run.attempts.values() for chunk in one.preloaded | one.released}
        if not brought:
            return set()
        try:
            names = place.cluster.transport.list_dir(f"{place.cluster.run_folder(run_id)}/in")
        except FileNotFoundError:
            return set()
        return brought.intersection(int(name) for name in names if name.isdigit())

    def _release_tasks(
        self,
        run_id: UUID,
        run: WorkflowRun,
        place: ClusterContext,
        attempt: Attempt,
        going: Sequence[int],
        sent: dict[str, int],
        begun: float,
    ) -> None:
        place.cluster.release(attempt.name, going)
        seconds = round(time.monotonic() - begun, 2)
        self._log.chunks_sent(run_id, attempt.number, going, **sent, seconds=seconds)
        fed = run.chunks - len(attempt.unreleased) + len(going)
        self._ctx.report_progress(run_id, run.state, None, f"{fed} of {run.chunks} parts are on the cluster")

    def _write_attempt_files(self, run_id: UUID, run: WorkflowRun, place: ClusterContext, space: Workspace) -> None:
        attempt = run.attempts[run.attempt]
        folder, remote = place.cluster.run_folder(run_id), self._remote(run_id, place, attempt)
        ExecutionPlan.from_run(run).write_attempt_folder(
            space.attempt(attempt.number), folder, remote, place.cluster, attempt.tasks
        )

    @staticmethod
    def _remote(run_id: UUID, place: ClusterContext, attempt: Attempt) -> str:
        return place.cluster.attempt_folder(run_id, attempt.number)

    @staticmethod
    def _send_manifest(place: ClusterContext, folder: str, manifest: InputManifest) -> None:
        place.cluster.transport.make_dirs([folder])
        content = manifest.model_dump_json(indent=1).encode()
        place.cluster.transport.write_file(f"{folder}/{INPUTS_FILE}", content)

    def _send(
        self, run_id: UUID, place: ClusterContext, local: Path, remote: str, stage: RunState = RunState.TRANSFERRING
    ) -> dict[str, int]:
        told = self._ctx.transfer_progress(run_id, stage)
        sent = place.cluster.transport.send_tree(local, remote, progress=told)
        return {"files": sent.files, "bytes": sent.size, "travelled": sent.bytes_sent}


def _parts(going: Sequence[int], run: WorkflowRun) -> str:
    return f"part {', '.join(str(chunk + 1) for chunk in going[:5])}{' …' * (len(going) > 5)} of {run.chunks}"
