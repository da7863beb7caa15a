"""Bring a run's inputs from their source onto this machine, and from there onto the cluster.

The inputs of a run that is split are streamed. Its array job is submitted on hold when the first chunk is on the
cluster; the other chunks are exported and sent while the array already computes, and each task is released when its
chunk has arrived. A chunk that was released without a record of it is sent and released again; both change nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biomeroworker.domain import input_files, ranges
from biomeroworker.domain.manifest import InputManifest
from biomeroworker.engine.steps.context import EngineContext, RunContext
from biomeroworker.engine.steps.input_manifest import InputManifestStore
from biomeroworker.engine.steps.leased_run import StepResult, next_step
from biomeroworker.engine.steps.run_report import keep_thumbnails
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState

#: How many chunks a progress text lists.
CHUNKS_NAMED = 5


class InputStager:
    """The steps *export* and *transfer*, and the streaming of chunks to a job that is already submitted."""

    def __init__(self, ctx: EngineContext, manifests: InputManifestStore) -> None:
        self._log, self._manifests = ctx.log, manifests

    def export(self, context: RunContext) -> StepResult:
        """Write the inputs into the work folder; of a run that is split only the first chunk of the attempt."""
        started = time.monotonic()
        run, space = context.run, context.workspace
        space.open()
        manifest = self._manifests.load(context)
        first = context.attempt.tasks[0] if run.chunks else 0
        self._export(context, manifest, first if manifest.chunks else None)
        self._export_files(context, manifest)
        self._log.complete(
            context.id,
            RunState.EXPORTING,
            images=len(manifest.images),
            **({"chunks": len(manifest.chunks)} if manifest.chunks else {}),
            bytes=space.size(),
            seconds=round(time.monotonic() - started, 2),
        )
        if run.attempt:  # exported again, because the attempt's inputs were lost before it was submitted
            self._log.intend(context.id, RunState.TRANSFERRING, attempt=run.attempt)
        else:
            name = context.cluster.attempt_name(context.id, 1)
            self._log.begin_attempt(context.id, 1, name, tasks=range(len(manifest.chunks)))
        return next_step()

    def transfer(self, context: RunContext) -> StepResult:
        """Send the attempt's files to the cluster, with the inputs that its job needs to start."""
        started = time.monotonic()
        space, attempt = context.workspace, context.attempt
        manifest = space.read_manifest()
        sent: dict[str, Any]
        if attempt.tasks:
            sent = self._send_array(context)
        elif attempt.number == 1:
            if manifest is None or not space.has_inputs(manifest):  # the work folder was lost, or is on another machine
                return self._export_again(context)
            self._write_attempt_files(context)
            context.place.space.check(space.size())
            sent = self._send(context, space.folder, context.run_folder)
        else:
            self._write_attempt_files(context)
            context.place.space.check(0)
            if not self._manifests.is_on_cluster(context):
                if manifest is None or not space.has_inputs(manifest):
                    return self._export_again(context)
                # the cluster has deleted what the first attempt sent, as a scratch file system does: send it again
                context.cluster.transport.send_tree(space.inputs, f"{context.run_folder}/{space.inputs.name}")
                self._manifests.send(context, manifest)
            if context.request.files:
                self._send_files(context, self._manifests.load(context))
            sent = self._send(context, space.attempt(attempt.number), context.attempt_folder)
        self._log.complete(
            context.id,
            RunState.TRANSFERRING,
            attempt=attempt.number,
            **sent,
            seconds=round(time.monotonic() - started, 2),
        )
        space.clear_outgoing()
        self._log.intend(context.id, RunState.SUBMITTING, attempt=attempt.number, name=attempt.name)
        return next_step()

    def stream_chunks(self, context: RunContext) -> None:
        """Send the chunks that are exported, export more meanwhile, and release the tasks of what was sent."""
        started = time.monotonic()
        space, attempt = context.workspace, context.attempt
        if outgoing := sorted(attempt.preloaded & set(attempt.unreleased)):
            space.clear_outgoing()
            self._release_tasks(context, outgoing, {}, started)
            return
        space.open()
        manifest = self._manifests.load(context)
        outgoing = [chunk for chunk in attempt.unreleased if space.has_inputs(manifest, chunk)]
        if not outgoing:
            outgoing = [attempt.unreleased[0]]
            self._export(context, manifest, outgoing[0])
        context.place.space.check(space.stage_outgoing(outgoing))
        later = [chunk for chunk in attempt.unreleased if chunk not in outgoing]
        with self._prefetch(context, manifest, later):
            context.guard.check()
            context.report_progress(f"sending {_chunk_names(outgoing, context.run)}")
            sent = self._send(context, space.outgoing, f"{context.run_folder}/{space.inputs.name}")
            self._release_tasks(context, outgoing, sent, started)
        keep_thumbnails(context, manifest, outgoing, space.outgoing)
        space.clear_outgoing()

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _export_again(self, context: RunContext) -> StepResult:
        self._log.intend(context.id, RunState.EXPORTING, **context.plan.detail())
        return next_step()

    @staticmethod
    def _export(context: RunContext, manifest: InputManifest, chunk: int | None) -> None:
        if context.workspace.has_inputs(manifest, chunk):
            return
        which = "" if chunk is None else f"part {chunk + 1} of {len(manifest.chunks)}: "
        context.source.stage_in(
            str(context.id),
            context.request,
            manifest.portions(chunk),
            context.workspace.chunk(chunk),
            lambda fraction, text: context.report_progress(f"{which}{text}", fraction),
            context.guard,
        )

    @staticmethod
    def _export_files(context: RunContext, manifest: InputManifest) -> None:
        """Write the files of file parameters into the work folder."""
        folder = context.workspace.folder
        if missing := [file for file in manifest.files if not (folder / file.path).exists()]:
            context.guard.check()
            context.source.stage_files(
                context.request,
                missing,
                folder,
                lambda fraction, text: context.report_progress(f"files: {text}", fraction),
                context.guard,
            )

    def _send_files(self, context: RunContext, manifest: InputManifest) -> None:
        """Send the files of file parameters, unless the cluster has them."""
        transport, files = context.cluster.transport, context.workspace.files
        if all(transport.exists(f"{context.run_folder}/{file.path}") for file in manifest.files):
            return
        self._export_files(context, manifest)
        context.place.space.check(sum(file.size for file in manifest.files))
        context.guard.check()
        self._send(context, files, f"{context.run_folder}/{files.name}")

    @contextmanager
    def _prefetch(self, context: RunContext, manifest: InputManifest, later: Sequence[int]) -> Iterator[None]:
        """While the block runs, export the next chunks, one after the other; an error is raised after the block."""
        over = threading.Event()
        raised: list[BaseException] = []

        def export() -> None:
            try:
                for chunk in later:
                    self._export(context, manifest, chunk)
                    if over.is_set():
                        return
            except BaseException as error:  # raised again by the thread that waits for this one
                raised.append(error)

        ahead = threading.Thread(target=export, name="prefetch", daemon=True)
        ahead.start()
        try:
            yield
        finally:
            over.set()
            ahead.join()
        if raised:
            raise raised[0]

    def _send_array(self, context: RunContext) -> dict[str, Any]:
        """Send the attempt's files, and its first chunk unless the cluster still has one of its chunks."""
        attempt, space = context.attempt, context.workspace
        space.open()
        manifest = self._manifests.load(context)
        present = self._chunks_on_cluster(context).intersection(attempt.tasks)
        if not present:
            first = attempt.tasks[0]
            self._export(context, manifest, first)
            context.place.space.check(space.stage_outgoing([first]))
            self._send(context, space.outgoing, f"{context.run_folder}/{space.inputs.name}")
            keep_thumbnails(context, manifest, [first], space.outgoing)
            present = {first}
        self._send_files(context, manifest)
        self._manifests.send(context, manifest)
        self._write_attempt_files(context)
        return {
            "chunks": ranges.format_ranges(present),
            **self._send(context, space.attempt(attempt.number), context.attempt_folder),
        }

    @staticmethod
    def _chunks_on_cluster(context: RunContext) -> set[int]:
        """The chunks that earlier attempts sent and that the cluster still has."""
        sent = {chunk for one in context.run.attempts.values() for chunk in one.preloaded | one.released}
        if not sent:
            return set()
        try:
            names = context.cluster.transport.list_dir(f"{context.run_folder}/{context.workspace.inputs.name}")
        except FileNotFoundError:
            return set()
        return sent.intersection(int(name) for name in names if name.isdigit())

    def _release_tasks(self, context: RunContext, chunks: Sequence[int], sent: dict[str, int], started: float) -> None:
        run, attempt = context.run, context.attempt
        context.cluster.release(attempt.name, chunks)
        seconds = round(time.monotonic() - started, 2)
        self._log.chunks_sent(context.id, attempt.number, chunks, **sent, seconds=seconds)
        released = run.chunks - len(attempt.unreleased) + len(chunks)
        context.guard.check()
        context.report_progress(f"{released} of {run.chunks} parts are on the cluster")

    def _write_attempt_files(self, context: RunContext) -> None:
        attempt, files = context.attempt, {}
        if context.request.files:
            folders = [parameter.id for parameter in context.plan.workflow.parameters if parameter.several_files]
            files = input_files.values(self._manifests.load(context), context.run_folder, folders)
        context.plan.write_attempt_folder(
            context.workspace.attempt(attempt.number),
            context.run_folder,
            context.attempt_folder,
            context.cluster,
            attempt.tasks,
            files,
        )

    @staticmethod
    def _send(context: RunContext, local: Path, remote: str) -> dict[str, int]:
        sent = context.cluster.transport.send_tree(local, remote, progress=context.transfer_progress())
        return {"files": sent.files, "bytes": sent.size, "travelled": sent.bytes_sent}


def _chunk_names(chunks: Sequence[int], run: WorkflowRun) -> str:
    named = ", ".join(str(chunk + 1) for chunk in chunks[:CHUNKS_NAMED])
    more = " …" if len(chunks) > CHUNKS_NAMED else ""
    return f"part {named}{more} of {run.chunks}"
