"""The images of one cluster: find them, list their versions, pull them.

Each query is one remote execution. An image that was found is not looked up again for some minutes, because the job's
preflight checks it.
"""

from __future__ import annotations

import posixpath
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from biomeroworker.cluster.containers import runtime
from biomeroworker.cluster.containers.runtime import Image, ImageProbe, Reference, RegistryCredentials, Runtime
from biomeroworker.cluster.paths import RemotePaths, image_folder
from biomeroworker.cluster.transport.errors import remote_file_fault, tail
from biomeroworker.cluster.transport.transport import Completed, Transport
from biomeroworker.errors import Permanent

#: The key of the converter that workflows on TIFF need.
TIFF_CONVERTER = "zarr_to_tiff"
_CACHE_SECONDS = 600.0
_PULL_SECONDS = 7200.0

#: Runs the argv of a pull with the credentials on stdin, on the login node or in a job.
Runner = Callable[[Sequence[str], bytes], Completed]


class Images:
    """Workflow and converter images on a cluster.

    Parameters
    ----------
    converter_images
        Image by key, from ``[CONVERTERS]`` of the ini.
    credentials
        Name and password for the registry of an image; without, the account's own login on the cluster is used.
    """

    def __init__(
        self,
        transport: Transport,
        container: Runtime,
        remote_paths: RemotePaths,
        converter_images: Mapping[str, str],
        credentials: Callable[[Reference], RegistryCredentials | None] = lambda reference: None,
    ) -> None:
        self._transport, self._runtime = transport, container
        self._paths, self._converter_images, self._credentials = remote_paths, dict(converter_images), credentials
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], tuple[float, Image]] = {}

    def image(self, workflow_path: str, reference: str, version: str = "") -> Image:
        """The image of a workflow on the cluster; `Permanent` if it is not there.

        ``version`` is the tag; empty means the tag of the reference, or the newest on the cluster if it has none.
        """
        wanted = Reference.parse(reference)
        newest = not version and not wanted.tag and not wanted.digest
        return self._find(self._workflow_file(workflow_path, wanted.at(version)), wanted.at(version), newest)

    def converter(self, key: str = TIFF_CONVERTER) -> Image:
        """A configured converter's image on the cluster; `Permanent` if it is not there."""
        reference = self._converter_images.get(key, "")
        if not reference:
            raise Permanent(
                "the workflow reads TIFF, and no converter is configured", hint=f"[CONVERTERS] {key} = org/name:tag"
            )
        wanted = Reference.parse(reference)
        return self._find(self._converter_file(key, wanted), wanted, False)

    def versions(self, workflow_paths: Sequence[str]) -> dict[str, list[str]]:
        """The versions of each workflow that are on the cluster, newest first."""
        folders = {path: self._folder_of(path) for path in workflow_paths}
        if not folders:
            return {}
        command = runtime.list_versions_command(list(folders.values()), self._runtime.suffix)
        answer = self._transport.run(command, timeout=60)
        if not answer.ok:
            raise remote_file_fault("listing images", answer.stderr)
        found = runtime.parse_versions(answer.stdout)
        return {path: found.get(folder, []) for path, folder in folders.items()}

    def pull(self, workflow_path: str, reference: str, run: Runner | None = None) -> Image:
        """Pull a workflow's image to the cluster; one that is there and can be used is not pulled again."""
        wanted = Reference.parse(reference)
        return self._pull(self._workflow_file(workflow_path, wanted), wanted, run or self._on_the_login_node)

    def pull_converter(self, key: str, reference: str, run: Runner | None = None) -> Image:
        """Pull a converter's image to the cluster."""
        wanted = Reference.parse(reference)
        return self._pull(self._converter_file(key, wanted), wanted, run or self._on_the_login_node)

    # -- details------------------------------------------------------------------------------------------------------

    def _find(self, path: str, wanted: Reference, newest: bool) -> Image:
        with self._lock:
            when, image = self._found.get((path, str(wanted)), (0.0, None))
        if image and time.monotonic() - when < _CACHE_SECONDS:
            return image
        key = (path, str(wanted))
        probe = self._probe(path)
        versions = runtime.versions(name for name in probe.beside if name.startswith(f"{wanted.name}_"))
        if not probe.there and newest and versions:
            wanted = wanted.at(versions[0])
            path = f"{posixpath.dirname(path)}/{runtime.image_file(wanted, self._runtime.suffix)}"
            probe = self._probe(path)
        if not probe.there:
            raise Permanent(
                f"the image {wanted} is not on the cluster",
                hint="biomeroworker init pulls it" + (f"; there is {', '.join(versions)}" if versions else ""),
            )
        if problem := self._runtime.outdated(probe.record):
            raise Permanent(f"the image {wanted} cannot be run: {problem}", hint="biomeroworker init pulls it again")
        image = Image(self._paths.absolute(path), wanted.version, probe.digest)
        with self._lock:
            self._found[key] = (time.monotonic(), image)
        return image

    def _probe(self, path: str) -> ImageProbe:
        answer = self._transport.run(runtime.probe_command(path, self._runtime.suffix), timeout=60)
        probe = runtime.parse_probe(answer.stdout)
        if not answer.ok or not probe.home:
            raise remote_file_fault(f"looking for {path}", answer.stderr)
        self._paths.learn_home(probe.home)
        return probe

    def _pull(self, path: str, wanted: Reference, run: Runner) -> Image:
        probe = self._probe(path)
        outdated = bool(self._runtime.outdated(probe.record))
        if probe.there and probe.digest and not outdated:
            return Image(self._paths.absolute(path), wanted.version, probe.digest)
        credentials = self._credentials(wanted)
        command = self._runtime.pull_command(wanted, path, replace=probe.there and outdated)
        answer = run(command, credentials.lines if credentials else b"")
        if not answer.ok:
            raise _pull_fault(wanted, answer)
        record = runtime.parse_record(answer.stdout.rpartition("record ")[2])
        with self._lock:
            self._found.clear()
        return Image(self._paths.absolute(path), wanted.version, runtime.digest_in(record))

    def _on_the_login_node(self, command: Sequence[str], stdin: bytes) -> Completed:
        return self._transport.run(command, timeout=_PULL_SECONDS, stdin=stdin)

    def _folder_of(self, workflow_path: str) -> str:
        return image_folder(self._paths.images_from_home, workflow_path)

    def _workflow_file(self, workflow_path: str, reference: Reference) -> str:
        return f"{self._folder_of(workflow_path)}/{runtime.image_file(reference, self._runtime.suffix)}"

    def _converter_file(self, key: str, reference: Reference) -> str:
        return f"{self._paths.converters_from_home}/{runtime.converter_file(key, reference, self._runtime.suffix)}"


def _pull_fault(reference: Reference, answer: Completed) -> Exception:
    """Why an image could not be pulled: it does not exist, access is denied, or a temporary failure."""
    evidence = tail(answer.stderr)
    lower = answer.stderr.lower()
    if any(words in lower for words in ("manifest unknown", "name unknown", "not found in registry", "status 404")):
        return Permanent(
            f"there is no image {reference}", hint="check the descriptor's container image", detail=evidence
        )
    if any(words in lower for words in ("unauthorized", "denied: ", "authentication required", "no further authentic")):
        # Charliecloud reports an image that does not exist in the same way
        return Permanent(
            f"the registry denies access to {reference}",
            hint="check the image's name; [SLURM] registry_credentials, or log in to the registry on the cluster",
            detail=evidence,
        )
    if "server gave http response to https client" in lower:
        return Permanent(f"the registry of {reference} uses HTTP", hint="[SLURM] insecure_registries", detail=evidence)
    if answer.returncode == 127:
        return Permanent(
            "the container program is not on the cluster's PATH", hint="[SLURM] container_runtime", detail=evidence
        )
    return remote_file_fault(f"pulling {reference}", answer.stderr)
