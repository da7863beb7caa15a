"""One cluster, as the engine sees it: the transport, SLURM, the container runtime and the folders, glued.

Thin on purpose: what to ask and how to read the answer is decided in the pure modules; here it is only carried there
and back, and every answer that is none becomes a classed fault. Each question is one remote execution.
"""

from __future__ import annotations

import posixpath
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from biomeroworker.cluster import layout, runtime, slurm, submission
from biomeroworker.cluster.apptainer import Apptainer
from biomeroworker.cluster.openssh import OpenSshTransport
from biomeroworker.cluster.refusals import classify_submission, scheduler_silence
from biomeroworker.cluster.runtime import Image, Reference, Runtime
from biomeroworker.cluster.scheduler import JobSpec, JobState, JobStatus, Limits
from biomeroworker.cluster.sshfaults import far_fault, tail
from biomeroworker.cluster.transport import Completed, Transport
from biomeroworker.errors import ConfigError, Permanent, Transient

if TYPE_CHECKING:
    from biomeroworker.config import Settings

#: The key of the converter that workflows on TIFF need.
TIFF_CONVERTER = "zarr_to_tiff"
#: How long an image that was seen is believed to be there; the job's own preflight looks again.
_IMAGE_SECONDS = 600.0
_PULL_SECONDS = 7200.0


class Cluster:
    """A cluster behind one transport.

    Parameters
    ----------
    data, images, converters
        Folders on the cluster; relative ones start at the user's home.
    converter_images
        Image by key, as the ini's ``[CONVERTERS]`` gives them.
    """

    def __init__(
        self,
        transport: Transport,
        container: Runtime,
        *,
        data: str,
        images: str,
        converters: str,
        converter_images: Mapping[str, str] | None = None,
    ) -> None:
        self.transport = transport
        self.runtime = container
        self._folders = (data, images, converters)
        self._converter_images = dict(converter_images or {})
        self._lock = threading.Lock()
        self._home = ""
        self._seen: dict[tuple[str, str, str], tuple[float, Image]] = {}
        self._job_ids: dict[str, int] = {}
        self._limits: Limits | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Cluster:
        """The cluster of a configuration."""
        slurm_settings = settings.slurm
        if slurm_settings.container_runtime == "charliecloud":
            raise ConfigError("[SLURM] container_runtime: charliecloud is not served yet; use apptainer or singularity")
        container = Apptainer(
            slurm_settings.container_runtime,
            binds=[slurm_settings.slurm_data_bind_path] if slurm_settings.slurm_data_bind_path else [],
            insecure_registries=slurm_settings.insecure_registries,
            tmpdir=_below_home(slurm_settings.apptainer_tmpdir),
            cachedir=_below_home(slurm_settings.apptainer_cachedir),
        )
        return cls(
            OpenSshTransport(settings.ssh.host, config_file=settings.ssh.config_file),
            container,
            data=slurm_settings.slurm_data_path,
            images=slurm_settings.slurm_images_path,
            converters=slurm_settings.slurm_converters_path,
            converter_images=settings.converters,
        )

    # -- the way there -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise the fault that keeps us from the cluster, if any."""
        self._learn_home()

    def close(self) -> None:
        """End the connection."""
        self.transport.close()

    @property
    def home(self) -> str:
        """The account's home folder on the cluster, asked for once (other questions bring it along)."""
        return self._home or self._learn_home()

    @property
    def layout(self) -> layout.Layout:
        """The cluster's folders, absolute."""
        return layout.Layout(*(layout.resolved(folder, self.home) for folder in self._folders))

    def _learn_home(self) -> str:
        answer = self.transport.run(["sh", "-c", "cd && pwd"], timeout=60)
        home = answer.stdout.strip()
        if not answer.ok or not home.startswith("/"):
            raise Transient("the cluster does not say where our home folder is", detail=tail(answer.stderr))
        self._home = home
        return home

    # -- folders and names ---------------------------------------------------------------------------------------------

    def run_folder(self, run: UUID | str) -> str:
        """A run's folder, absolute."""
        return self.layout.run_folder(run)

    def attempt_folder(self, run: UUID | str, number: int) -> str:
        """An attempt's folder, absolute."""
        return self.layout.attempt_folder(run, number)

    def attempt_name(self, run: UUID | str, number: int) -> str:
        """The job name of an attempt."""
        return layout.attempt_name(run, number)

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def submit(self, job: JobSpec) -> int:
        """Hand an attempt to the scheduler, at most once whoever else tries; the id of its job, new or adopted.

        Raises
        ------
        refusals.SubmissionInDoubt
            The job may have been taken though no id came back: `find` it. `submission.AttemptClaimed` when that was
            said before, `submission.AttemptGivenUp` when it no longer matters.
        """
        answer = self.transport.run(submission.submit_command(job), timeout=90)
        said = submission.parse_submission(answer.stdout) if answer.ok else submission.Submission(None)
        if said.job_id is not None:
            self._job_ids[job.name] = said.job_id
            return said.job_id
        if said.given_up:
            raise submission.AttemptGivenUp(f"{job.name} was given up")
        if said.claimed_seconds is not None:
            raise submission.AttemptClaimed(
                f"{job.name} was handed to SLURM before, and what came of it is not known",
                seconds=said.claimed_seconds,
            )
        raise classify_submission(answer)

    def give_up(self, run: UUID | str, number: int) -> int | None:
        """Let no job begin in an attempt any more; the id of the job that has begun in it, if one has."""
        answer = self.transport.run(submission.give_up_command(self.attempt_folder(run, number)), timeout=60)
        if not answer.ok:
            raise far_fault(f"giving up attempt {number}", answer.stderr)
        return submission.parse_holder(answer.stdout)

    def remember(self, name: str, job_id: int) -> None:
        """Say which job a name is: accounting finds by its id a job that was never eligible (held, then cancelled)."""
        self._job_ids.setdefault(name, job_id)

    def status(self, names: Sequence[str], since: datetime) -> dict[str, list[JobStatus]]:
        """What became of jobs, array tasks one by one; an empty list for a job that nobody knows.

        One that can never be known again is told as such (`JobStatus.forgotten`).
        """
        if not names:
            return {}
        answer = self._ask(names, since)
        return {
            name: found or [forgotten for forgotten in [answer.forgotten(name)] if forgotten]
            for name, found in answer.by_name(names).items()
        }

    def find(self, name: str, since: datetime) -> JobStatus | None:
        """The job of a name if the scheduler ever took one; None only when that is certain.

        The start marker speaks for a job that both voices of the scheduler have forgotten.
        """
        answer = self._ask([name], since)
        found = answer.by_name([name])[name]
        if found:
            return found[-1]
        if not answer.queue:
            raise scheduler_silence(f"looking for {name}", answer.complaints)
        return self._started(name)

    def cancel(self, names: Sequence[str], *, timeout: float = 90) -> None:
        """Cancel the jobs of these names, now and whenever they turn up; one that has ended, or never was, is fine."""
        if not names:
            return
        # below the home folder, where a command starts: a cluster that is away should not be asked for that first
        folders = layout.Layout(layout.resolved(self._folders[0], self._home or "."), "", "")
        attempts = [attempt for attempt in map(layout.parse_attempt_name, names) if attempt]
        given_up = [folders.attempt_folder(*attempt) for attempt in attempts]
        answer = self.transport.run(submission.cancel_command(names, given_up), timeout=timeout)
        if not answer.ok:
            raise scheduler_silence(f"cancelling {len(names)} jobs", answer.stderr)

    def release(self, name: str, tasks: Iterable[int]) -> None:
        """Let tasks of an array that was submitted with ``hold`` begin; for one that has begun, or ended, nothing."""
        self._change_tasks(f"releasing tasks of {name}", slurm.release_command(name, tasks))

    def cancel_tasks(self, name: str, tasks: Iterable[int]) -> None:
        """Cancel some tasks of an array; for one that has ended, or never was, nothing."""
        self._change_tasks(f"cancelling tasks of {name}", slurm.cancel_tasks_command(name, tasks))

    def _change_tasks(self, what: str, command: Sequence[str]) -> None:
        answer = self.transport.run(command, timeout=90)
        if not answer.ok:
            raise scheduler_silence(what, answer.stderr)

    @property
    def limits(self) -> Limits:
        """What the cluster allows an array job to be; asked for once."""
        if self._limits is None:
            answer = self.transport.run(slurm.limits_command(), timeout=60)
            found = slurm.parse_limits(answer.stdout) if answer.ok else None
            if found is None:
                raise scheduler_silence("asking for SLURM's limits", answer.stderr or answer.stdout)
            self._limits = found
        return self._limits

    def alive(self, names: Sequence[str], since: datetime, *, timeout: float = 90) -> set[str]:
        """Those of the names whose job waits or runs, or may do so. Without the queue's word nothing is said."""
        answer = self._ask(names, since, timeout)
        if not answer.queue:
            raise scheduler_silence(f"asking about {len(names)} jobs", answer.complaints)
        return {job.name for job in answer.jobs if job.name in names and not job.state.is_terminal and job.in_queue}

    def _ask(self, names: Sequence[str], since: datetime, timeout: float = 90) -> slurm.Answer:
        known = [self._job_ids[name] for name in names if name in self._job_ids]
        command = slurm.status_command(names, since, known)
        answer = slurm.parse_status(self.transport.run(command, timeout=timeout).stdout)
        if not answer.queue and not answer.accounting:
            raise scheduler_silence(f"asking about {len(names)} jobs", answer.complaints)
        for job in answer.jobs:
            if job.name in names:
                self._job_ids[job.name] = job.job_id
        return answer

    def _started(self, name: str) -> JobStatus | None:
        attempt = layout.parse_attempt_name(name)
        if attempt is None:
            return None
        try:
            marker = self.transport.read_from(f"{self.attempt_folder(*attempt)}/started").decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        said = dict(line.partition("=")[::2] for line in marker.splitlines())
        if not said.get("job_id", "").isdigit():
            return None
        return JobStatus(
            name=name,
            job_id=int(said["job_id"]),
            state=JobState.UNKNOWN,
            raw_state="",
            reason="the scheduler has forgotten it; its start marker is there",
            node=said.get("node", ""),
        )

    # -- images --------------------------------------------------------------------------------------------------------

    def image(self, workflow_path: str, reference: str, version: str = "") -> Image:
        """The image of a workflow, which must be on the cluster.

        ``version`` is the tag; empty means the reference's own, or the newest there is when it has none.
        """
        key = (workflow_path, reference, version)
        with self._lock:
            when, seen = self._seen.get(key, (0.0, None))
        if seen and time.monotonic() - when < _IMAGE_SECONDS:
            return seen
        wanted = Reference.parse(reference)
        newest = not version and not wanted.tag and not wanted.digest
        wanted = wanted.at(version)
        look = self._look(self._image_path(workflow_path, wanted))
        if not look.there and newest and (there := runtime.versions(self._own(look.beside, wanted))):
            wanted = wanted.at(there[0])
            look = self._look(self._image_path(workflow_path, wanted))
        if not look.there:
            there = runtime.versions(self._own(look.beside, wanted))
            raise Permanent(
                f"the image {wanted} is not on the cluster",
                hint="biomeroworker init pulls it" + (f"; there is {', '.join(there)}" if there else ""),
            )
        path = posixpath.join(look.home, self._image_path(workflow_path, wanted))
        image = Image(posixpath.normpath(path), wanted.version, look.digest)
        with self._lock:
            self._seen[key] = (time.monotonic(), image)
        return image

    def pull(self, workflow_path: str, reference: str) -> Image:
        """Bring a workflow's image to the cluster; one that is there already stays as it is."""
        wanted = Reference.parse(reference)
        return self._pull(self._image_path(workflow_path, wanted), wanted)

    def pull_converter(self, key: str, reference: str) -> Image:
        """Bring a converter's image to the cluster."""
        wanted = Reference.parse(reference)
        return self._pull(self._converter_file(key, wanted), wanted)

    def converter(self, key: str = TIFF_CONVERTER) -> Image:
        """A converter's image, which must be configured and on the cluster."""
        reference = self._converter_images.get(key, "")
        if not reference:
            raise Permanent(
                "the workflow reads TIFF, and no converter is configured", hint=f"[CONVERTERS] {key} = org/name:tag"
            )
        with self._lock:
            when, seen = self._seen.get((key, reference, ""), (0.0, None))
        if seen and time.monotonic() - when < _IMAGE_SECONDS:
            return seen
        wanted = Reference.parse(reference)
        path = self._converter_file(key, wanted)
        look = self._look(path)
        if not look.there:
            raise Permanent(f"the converter's image {wanted} is not on the cluster", hint="biomeroworker init pulls it")
        image = Image(posixpath.normpath(posixpath.join(look.home, path)), wanted.version, look.digest)
        with self._lock:
            self._seen[key, reference, ""] = (time.monotonic(), image)
        return image

    def versions(self, workflow_paths: Sequence[str]) -> dict[str, list[str]]:
        """The versions of each workflow that are on the cluster, newest first."""
        folders = {path: self._folder_of(path) for path in workflow_paths}
        if not folders:
            return {}
        answer = self.transport.run(runtime.list_versions_command(list(folders.values())), timeout=60)
        if not answer.ok:
            raise far_fault("listing images", answer.stderr)
        found = runtime.parse_versions(answer.stdout)
        return {path: found.get(folder, []) for path, folder in folders.items()}

    def _look(self, path: str) -> runtime.Look:
        answer = self.transport.run(runtime.look_command(path), timeout=60)
        look = runtime.parse_look(answer.stdout)
        if not answer.ok or not look.home:
            raise far_fault(f"looking for {path}", answer.stderr)
        self._home = self._home or look.home
        return look

    def _pull(self, path: str, reference: Reference) -> Image:
        answer = self.transport.run(self.runtime.pull_command(reference, path), timeout=_PULL_SECONDS)
        if not answer.ok:
            raise _pull_fault(reference, answer)
        record = answer.stdout.rpartition("record ")[2]
        with self._lock:
            self._seen.clear()
        return Image(layout.resolved(path, self.home), reference.version, runtime.parse_record(record))

    def _folder_of(self, workflow_path: str) -> str:
        return layout.Layout("", layout.resolved(self._folders[1], self._home or "."), "").images_of(workflow_path)

    def _image_path(self, workflow_path: str, reference: Reference) -> str:
        return f"{self._folder_of(workflow_path)}/{runtime.image_file(reference, self.runtime.suffix)}"

    def _converter_file(self, key: str, reference: Reference) -> str:
        folder = layout.resolved(self._folders[2], self._home or ".")
        return f"{folder}/{runtime.converter_file(key, reference, self.runtime.suffix)}"

    @staticmethod
    def _own(names: Sequence[str], reference: Reference) -> list[str]:
        return [name for name in names if name.startswith(f"{reference.name}_")]


def _below_home(path: str | None) -> str:
    """A folder as the remote programs take it, which start at the home folder; empty if it is not set."""
    return layout.resolved(path, "") if path else ""


def _pull_fault(reference: Reference, answer: Completed) -> Exception:
    """Why an image could not be pulled: it does not exist, we may not, or the way there is cut for now."""
    evidence = tail(answer.stderr)
    lower = answer.stderr.lower()
    if any(words in lower for words in ("manifest unknown", "name unknown", "not found in registry", "status 404")):
        return Permanent(
            f"there is no image {reference}", hint="check the descriptor's container image", detail=evidence
        )
    if any(words in lower for words in ("unauthorized", "denied: ", "authentication required")):
        return Permanent(
            f"the registry does not give us {reference}",
            hint="log in to it on the cluster: apptainer registry login",
            detail=evidence,
        )
    if "server gave http response to https client" in lower:
        return Permanent(
            f"the registry of {reference} speaks HTTP", hint="[SLURM] insecure_registries", detail=evidence
        )
    if answer.returncode == 127:
        return Permanent(
            "the container program is not on the cluster's PATH", hint="[SLURM] container_runtime", detail=evidence
        )
    return far_fault(f"pulling {reference}", answer.stderr)
