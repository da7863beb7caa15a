"""One cluster: its transport, SLURM, container runtime and folders.

Commands are built and answers are parsed by the pure modules; here they are run, each in one remote execution, and
every failure becomes a classed fault.
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
from biomeroworker.cluster.slurm import accounting, commands, submit_once
from biomeroworker.cluster.slurm.scheduler import JobSpec, Limits
from biomeroworker.cluster.slurm.submit_errors import classify_submission, scheduler_unavailable
from biomeroworker.cluster.transport.errors import remote_file_fault
from biomeroworker.cluster.transport.openssh import OpenSshTransport
from biomeroworker.cluster.transport.transport import Transport
from biomeroworker.domain.job_statistics import JobStatistics
from biomeroworker.domain.job_status import JobState, JobStatus

if TYPE_CHECKING:
    from biomeroworker.config import ClusterSettings

#: Job ids in memory, those of the latest jobs; an id that was dropped comes back with the next query.
MAX_JOB_IDS = 10_000


class Cluster:
    """A cluster behind one transport.

    Parameters
    ----------
    data, images, converters
        Folders on the cluster; relative ones start at the account's home folder.
    converter_images
        Image by key, from ``[CONVERTERS]`` of the ini.
    credentials
        Name and password for the registry of an image; without, the account's own login on the cluster is used.
    binds
        Folders that containers see besides that of their run; relative ones start at the account's home folder.
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

    # -- connection ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise a fault if the cluster cannot be reached."""
        self.remote_paths.query_home()

    def close(self) -> None:
        """Close the connection."""
        self.transport.close()

    # -- folders and names ---------------------------------------------------------------------------------------------

    def run_folder(self, run: UUID | str) -> str:
        """A run's folder, absolute."""
        return self.remote_paths.run_folder(run)

    def attempt_folder(self, run: UUID | str, number: int) -> str:
        """An attempt's folder, absolute."""
        return self.remote_paths.attempt_folder(run, number)

    def binds(self, folder: str) -> list[str]:
        """The folders that a container sees: ``folder``, and the configured ones."""
        return [folder, *map(self.remote_paths.absolute, self._binds)]

    def attempt_name(self, run: UUID | str, number: int) -> str:
        """The job name of an attempt."""
        return paths.attempt_name(run, number)

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def submit(self, job: JobSpec) -> int:
        """Submit an attempt at most once, even if several processes try; returns the id of its job, new or adopted.

        Raises
        ------
        submit_errors.SubmissionUncertain
            The job may have been accepted although no id was returned: `find` it. `submit_once.AttemptClaimed` if an
            earlier call claimed the attempt, `submit_once.AttemptAbandoned` if the attempt was abandoned.
        """
        answer = self.transport.run(submit_once.submit_command(job), timeout=90)
        found = submit_once.parse_submission(answer.stdout) if answer.ok else submit_once.Submission(None)
        if found.job_id is not None:
            self._store_job_id(job.name, found.job_id)
            return found.job_id
        if found.given_up:
            raise submit_once.AttemptAbandoned(f"{job.name} was abandoned")
        if found.claimed_seconds is not None:
            raise submit_once.AttemptClaimed(
                f"{job.name} was submitted before, and the result is not known", seconds=found.claimed_seconds
            )
        raise classify_submission(answer)

    def abandon(self, run: UUID | str, number: int) -> int | None:
        """Prevent jobs from starting in an attempt; returns the id of the job that has started in it, if any."""
        answer = self.transport.run(submit_once.give_up_command(self.attempt_folder(run, number)), timeout=60)
        if not answer.ok:
            raise remote_file_fault(f"abandoning attempt {number}", answer.stderr)
        return submit_once.parse_holder(answer.stdout)

    def learn_job_id(self, name: str, job_id: int) -> None:
        """Store the job id of a name: accounting finds a job that was cancelled while it was held only by its id."""
        if name not in self._job_ids:
            self._store_job_id(name, job_id)

    def _store_job_id(self, name: str, job_id: int) -> None:
        """Store a job's id; the oldest are dropped, because a supervisor runs for months."""
        with self._job_ids_lock:
            self._job_ids.pop(name, None)
            self._job_ids[name] = job_id
            while len(self._job_ids) > MAX_JOB_IDS:
                del self._job_ids[next(iter(self._job_ids))]

    def status(self, names: Sequence[str], since: datetime) -> dict[str, list[JobStatus]]:
        """The status of jobs by name, one for each array task; an empty list for a job that SLURM does not know.

        A job whose end can never be known has `JobStatus.unrecoverable`.
        """
        if not names:
            return {}
        answer = self._query(names, since)
        return {
            name: found or [lost for lost in [answer.unrecoverable(name)] if lost]
            for name, found in answer.by_name(names).items()
        }

    def find(self, name: str, since: datetime) -> JobStatus | None:
        """The job of a name if SLURM accepted one; None only if it certainly did not.

        The start marker proves a job that neither squeue nor sacct lists any more.
        """
        answer = self._query([name], since)
        found = answer.by_name([name])[name]
        if found:
            return found[-1]
        if not answer.queue:
            raise scheduler_unavailable(f"looking for {name}", answer.errors)
        return self._started(name)

    def cancel(self, names: Sequence[str], *, timeout: float = 90) -> None:
        """Cancel the jobs of these names, also jobs that appear later; an ended or missing job is no error."""
        if not names:
            return
        data = self.remote_paths.data_from_home
        attempts = [attempt for attempt in map(paths.parse_attempt_name, names) if attempt]
        given_up = [paths.attempt_folder(data, *attempt) for attempt in attempts]
        answer = self.transport.run(submit_once.cancel_command(names, given_up), timeout=timeout)
        if not answer.ok:
            raise scheduler_unavailable(f"cancelling {len(names)} jobs", answer.stderr)

    def statistics(self, names: Mapping[int, str], *, timeout: float = 20) -> dict[int, JobStatistics]:
        """What jobs requested and used, by job id, as far as accounting has recorded it.

        Parameters
        ----------
        names
            The name of each job by its id.
        """
        if not names:
            return {}
        answer = self.transport.run(accounting.statistics_command(list(names)), timeout=timeout)
        if not answer.ok:
            raise scheduler_unavailable(f"querying the usage of {len(names)} jobs", answer.stderr or answer.stdout)
        return accounting.parse_statistics(answer.stdout, names)

    def release(self, name: str, tasks: Iterable[int]) -> None:
        """Release tasks of an array that was submitted with ``hold``; for tasks that started or ended, do nothing."""
        answer = self.transport.run(commands.release_command(name, tasks), timeout=90)
        if not answer.ok:
            raise scheduler_unavailable(f"releasing tasks of {name}", answer.stderr)

    @property
    def limits(self) -> Limits:
        """SLURM's limits for array jobs; queried once."""
        if self._limits is None:
            answer = self.transport.run(commands.limits_command(), timeout=60)
            found = commands.parse_limits(answer.stdout) if answer.ok else None
            if found is None:
                raise scheduler_unavailable("querying SLURM's limits", answer.stderr or answer.stdout)
            self._limits = found
        return self._limits

    def active_jobs(self, names: Sequence[str], since: datetime, *, timeout: float = 90) -> set[str]:
        """The names whose job waits or runs; raises a fault if squeue did not answer."""
        answer = self._query(names, since, timeout)
        if not answer.queue:
            raise scheduler_unavailable(f"querying {len(names)} jobs", answer.errors)
        return {job.name for job in answer.jobs if job.name in names and not job.state.is_terminal and job.in_queue}

    def _query(self, names: Sequence[str], since: datetime, timeout: float = 90) -> commands.SchedulerSnapshot:
        known = [job_id for name in names if (job_id := self._job_ids.get(name)) is not None]
        command = commands.status_command(names, since, known, self.remote_paths.data_from_home)
        answer = commands.parse_status(self.transport.run(command, timeout=timeout).stdout)
        if not answer.queue and not answer.accounting:
            raise scheduler_unavailable(f"querying {len(names)} jobs", answer.errors)
        for job in answer.jobs:
            if job.name in names:
                self._store_job_id(job.name, job.job_id)
        return answer

    def _started(self, name: str) -> JobStatus | None:
        attempt = paths.parse_attempt_name(name)
        if attempt is None:
            return None
        try:
            marker = self.transport.read_from(f"{self.attempt_folder(*attempt)}/started").decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        values = dict(line.partition("=")[::2] for line in marker.splitlines())
        if not values.get("job_id", "").isdigit():
            return None
        return JobStatus(
            name=name,
            job_id=int(values["job_id"]),
            state=JobState.UNKNOWN,
            raw_state="",
            reason="SLURM does not list it any more; its start marker exists",
            node=values.get("node", ""),
        )

    # -- images --------------------------------------------------------------------------------------------------------

    def image(self, workflow_path: str, reference: str, version: str = "") -> Image:
        """The image of a workflow on the cluster; see `images.Images.image`."""
        return self.images.image(workflow_path, reference, version)

    def converter(self, key: str = TIFF_CONVERTER) -> Image:
        """A configured converter's image on the cluster."""
        return self.images.converter(key)

    def versions(self, workflow_paths: Sequence[str]) -> dict[str, list[str]]:
        """The versions of each workflow that are on the cluster, newest first."""
        return self.images.versions(workflow_paths)
