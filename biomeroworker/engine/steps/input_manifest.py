"""The list of a run's inputs: made once, and the same for every later step and every attempt."""

from __future__ import annotations

from biomeroworker.cluster.transport.transport import Transport
from biomeroworker.domain.manifest import INPUTS_FILE, InputManifest
from biomeroworker.engine.planning import chunks
from biomeroworker.engine.steps.context import RunContext
from biomeroworker.errors import Permanent
from biomeroworker.workflows import input_checks

#: Largest manifest that is read from the cluster.
MANIFEST_LIMIT_BYTES = 1 << 28


def read_manifest(transport: Transport, folder: str, *, timeout: float = 60) -> InputManifest | None:
    """The manifest in a folder on the cluster; None if it is not there."""
    try:
        content = transport.read_from(f"{folder}/{INPUTS_FILE}", limit=MANIFEST_LIMIT_BYTES, timeout=timeout)
    except FileNotFoundError:
        return None
    return InputManifest.model_validate_json(content)


class InputManifestStore:
    """Finds the manifest of a run; makes it for a run that has none."""

    def load(self, context: RunContext) -> InputManifest:
        """Return the manifest: from this machine, else from the cluster, else a new one from the run's source.

        Raises
        ------
        Permanent
            The inputs have no image, the workflow does not accept them, or earlier attempts used other inputs.
        """
        manifest = context.workspace.read_manifest()
        if manifest is not None:
            return manifest
        context.workspace.open()
        manifest = self._read_from_cluster(context) or self._list_inputs(context)
        context.workspace.write_manifest(manifest)
        return manifest

    def send(self, context: RunContext, manifest: InputManifest) -> None:
        """Write the manifest into the run's folder on the cluster."""
        transport = context.cluster.transport
        transport.make_dirs([context.run_folder])
        transport.write_file(f"{context.run_folder}/{INPUTS_FILE}", manifest.model_dump_json(indent=1).encode())

    def is_on_cluster(self, context: RunContext) -> bool:
        """Whether the run's folder on the cluster still has the manifest, which is sent after the inputs."""
        return context.cluster.transport.exists(f"{context.run_folder}/{INPUTS_FILE}")

    @staticmethod
    def _read_from_cluster(context: RunContext) -> InputManifest | None:
        """What was sent: the local folder was lost, or is on another machine."""
        if not context.run.attempt:
            return None
        return read_manifest(context.cluster.transport, context.run_folder)

    @staticmethod
    def _list_inputs(context: RunContext) -> InputManifest:
        run, request = context.run, context.request
        context.guard.check()
        context.report_progress("listing the inputs")
        manifest = context.source.list_inputs(str(context.id), request)
        if not manifest.images:
            raise Permanent("there is nothing to run on: the inputs hold no image")
        input_checks.check(context.plan.workflow, manifest.images, context.plan.accepts)
        input_checks.check_files(context.plan.workflow, manifest.files)
        if (not run.attempt or run.chunks) and chunks.wants_split(manifest, request.batch_size):
            manifest = chunks.split(manifest, request.batch_size, context.cluster.limits.tasks)
        if run.attempt and len(manifest.chunks) != run.chunks:
            raise Permanent(
                "the inputs have changed since the run began, and what was sent of them is lost",
                hint="hand them in again",
            )
        return manifest
