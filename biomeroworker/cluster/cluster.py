"""One cluster, as the engine sees it: the transport, SLURM, the container runtime and the folders, glued.

Thin on purpose: what to ask and how to read the answer is decided in the pure modules; here it is only carried there
and back, and every answer that is none becomes a classed fault. Each question is one remote execution.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from biomeroworker.cluster import paths
from biomeroworker.cluster.containers import registry_auth
from biomeroworker.cluster.containers.factory import binds_below_home, runtime_of
from biomeroworker.cluster.containers.images import TIFF_CONVERTER, Images
from biomeroworker.cluster.containers.runtime import Image, Reference, RegistryCredentials, Runtime
from biomeroworker.cluster.paths import RemotePaths
from biomeroworker.cluster.slurm import commands, submit_once
from biomeroworker.cluster.slurm.scheduler import JobSpec, JobState, JobStatus, Limits
from biomeroworker.cluster.slurm.submit_errors import classify_submission, scheduler_unavailable
from biomeroworker.cluster.transport.errors import remote_file_fault
from biomeroworker.cluster.transport.openssh import OpenSshTransport
from biomeroworker.cluster.transport.transport import Transport

if TYPE_CHECKING:
    from biomeroworker.config import ClusterSettings

#: Ids of jobs that are remembered, those of the latest jobs; one that was dropped is learnt again at the next query.
JOB_IDS_KEPT = 10_000


class Cluster:
    """A cluster behind one transport.

    Parameters
    ----------
    data, images, converters
        Folders on the cluster; relative ones start at the user's home.
    converter_images
        Image by key, as the ini's ``[CONVERTERS]`` gives them.
    binds
        Folders that containers see besides their run's, relative to the user's home.
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
        credentials: Callable[[Reference], RegistryCredentials | None] = lambda reference: None,
        binds: Sequence[str] = (),
    ) -> None:
        self.transport = transport
        self._binds = tuple(binds)
        self.runtime = container
        self.remote_paths = RemotePaths(transport, data=data, images=images, converters=converters)
        self.images = Images(transport, container, self.remote_paths, converter_images or {}, credentials)
        self._job_ids: dict[str, int] = {}
        self._job_ids_lock = threading.Lock()
        self._limits: Limits | None = None

    @classmethod
    def from_settings(cls, settings: ClusterSettings, converters: Mapping[str, str]) -> Cluster:
        """A cluster of the configuration, with the images of the converters (``<source>_to_<target>``)."""
        slurm_settings = settings.slurm
        return cls(
            OpenSshTransport(settings.ssh.host, config_file=settings.ssh.config_file),
            runtime_of(slurm_settings),
            data=slurm_settings.slurm_data_path,
            images=slurm_settings.slurm_images_path,
            converters=slurm_settings.slurm_converters_path,
            converter_images=converters,
            credentials=registry_auth.reader(slurm_settings.registry_credentials),
            binds=binds_below_home(slurm_settings),
        )

    # -- the way there -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise the fault that keeps us from the cluster, if any."""
        self.remote_paths.query_home()

    def close(self) -> None:
        """End the connection."""
        self.transport.close()

    # -- folders and names ---------------------------------------------------------------------------------------------

    def run_folder(self, run: UUID | str) -> str:
        """A run's folder, absolute."""
        return self.remote_paths.run_folder(run)

    def attempt_folder(self, run: UUID | str, number: int) -> str:
        """An attempt's folder, absolute."""
        return self.remote_paths.attempt_folder(run, number)

    def binds(self, folder: str) -> list[str]:
        """What a container sees of the cluster: a folder of data, and what the configuration has below the home."""
        return [folder, *map(self.remote_paths.absolute, self._binds)]

    def attempt_name(self, run: UUID | str, number: int) -> str:
        """The job name of an attempt."""
        return paths.attempt_name(run, number)

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def submit(self, job: JobSpec) -> int:
        """Hand an attempt to the scheduler, at most once whoever else tries; the id of its job, new or adopted.

        Raises
        ------
        submit_errors.SubmissionUncertain
            The job may have been taken though no id came back: `find` it. `submit_once.AttemptClaimed` when that was
            said before, `submit_once.AttemptAbandoned` when it no longer matters.
        """
        answer = self.transport.run(submit_once.submit_command(job), timeout=90)
        said = submit_once.parse_submission(answer.stdout) if answer.ok else submit_once.Submission(None)
        if said.job_id is not None:
            self._keep_job_id(job.name, said.job_id)
            return said.job_id
        if said.given_up:
            raise submit_once.AttemptAbandoned(f"{job.name} was given up")
        if said.claimed_seconds is not None:
            raise submit_once.AttemptClaimed(
                f"{job.name} was handed to SLURM before, and what came of it is not known",
                seconds=said.claimed_seconds,
            )
        raise classify_submission(answer)

    def abandon(self, run: UUID | str, number: int) -> int | None:
        """Let no job begin in an attempt any more; the id of the job that has begun in it, if one has."""
        answer = self.transport.run(submit_once.give_up_command(self.attempt_folder(run, number)), timeout=60)
        if not answer.ok:
            raise remote_file_fault(f"giving up attempt {number}", answer.stderr)
        return submit_once.parse_holder(answer.stdout)

    def learn_job_id(self, name: str, job_id: int) -> None:
        """Say which job a name is: accounting finds by its id a job that was never eligible (held, then cancelled)."""
        if name not in self._job_ids:
            self._keep_job_id(name, job_id)

    def _keep_job_id(self, name: str, job_id: int) -> None:
        """Remember a job's id; the oldest are dropped, because a supervisor runs for months."""
        with self._job_ids_lock:
            self._job_ids.pop(name, None)
            self._job_ids[name] = job_id
            while len(self._job_ids) > JOB_IDS_KEPT:
                del self._job_ids[next(iter(self._job_ids))]

    def status(self, names: Sequence[str], since: datetime) -> dict[str, list[JobStatus]]:
        """What became of jobs, array tasks one by one; an empty list for a job that nobody knows.

        One that can never be known again is told as such (`JobStatus.unrecoverable`).
        """
        if not names:
            return {}
        answer = self._query(names, since)
        return {
            name: found or [forgotten for forgotten in [answer.unrecoverable(name)] if forgotten]
            for name, found in answer.by_name(names).items()
        }

    def find(self, name: str, since: datetime) -> JobStatus | None:
        """The job of a name if the scheduler ever took one; None only when that is certain.

        The start marker speaks for a job that both voices of the scheduler have forgotten.
        """
        answer = self._query([name], since)
        found = answer.by_name([name])[name]
        if found:
            return found[-1]
        if not answer.queue:
            raise scheduler_unavailable(f"looking for {name}", answer.errors)
        return self._started(name)

    def cancel(self, names: Sequence[str], *, timeout: float = 90) -> None:
        """Cancel the jobs of these names, now and whenever they turn up; one that has ended, or never was, is fine."""
        if not names:
            return
        data = self.remote_paths.data_from_home
        attempts = [attempt for attempt in map(paths.parse_attempt_name, names) if attempt]
        given_up = [paths.attempt_folder(data, *attempt) for attempt in attempts]
        answer = self.transport.run(submit_once.cancel_command(names, given_up), timeout=timeout)
        if not answer.ok:
            raise scheduler_unavailable(f"cancelling {len(names)} jobs", answer.stderr)

    def release(self, name: str, tasks: Iterable[int]) -> None:
        """Let tasks of an array that was submitted with ``hold`` begin; for one that has begun, or ended, nothing."""
        answer = self.transport.run(commands.release_command(name, tasks), timeout=90)
        if not answer.ok:
            raise scheduler_unavailable(f"releasing tasks of {name}", answer.stderr)

    @property
    def limits(self) -> Limits:
        """What the cluster allows an array job to be; asked for once."""
        if self._limits is None:
            answer = self.transport.run(commands.limits_command(), timeout=60)
            found = commands.parse_limits(answer.stdout) if answer.ok else None
            if found is None:
                raise scheduler_unavailable("asking for SLURM's limits", answer.stderr or answer.stdout)
            self._limits = found
        return self._limits

    def active_jobs(self, names: Sequence[str], since: datetime, *, timeout: float = 90) -> set[str]:
        """Those of the names whose job waits or runs, or may do so. Without the queue's word nothing is said."""
        answer = self._query(names, since, timeout)
        if not answer.queue:
            raise scheduler_unavailable(f"asking about {len(names)} jobs", answer.errors)
        return {job.name for job in answer.jobs if job.name in names and not job.state.is_terminal and job.in_queue}

    def _query(self, names: Sequence[str], since: datetime, timeout: float = 90) -> commands.SchedulerSnapshot:
        known = [job_id for name in names if (job_id := self._job_ids.get(name)) is not None]
        command = commands.status_command(names, since, known, self.remote_paths.data_from_home)
        answer = commands.parse_status(self.transport.run(command, timeout=timeout).stdout)
        if not answer.queue and not answer.accounting:
            raise scheduler_unavailable(f"asking about {len(names)} jobs", answer.errors)
        for job in answer.jobs:
            if job.name in names:
                self._keep_job_id(job.name, job.job_id)
        return answer

    def _started(self, name: str) -> JobStatus | None:
        attempt = paths.parse_attempt_name(name)
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
        """The image of a workflow, which must be on the cluster; see `images.Images.image`."""
        return self.images.image(workflow_path, reference, version)

    def converter(self, key: str = TIFF_CONVERTER) -> Image:
        """A converter's image, which must be configured and on the cluster."""
        return self.images.converter(key)

    def versions(self, workflow_paths: Sequence[str]) -> dict[str, list[str]]:
        """The versions of each workflow that are on the cluster, newest first."""
        return self.images.versions(workflow_paths)
