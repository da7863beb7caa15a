"""A job that can be waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from invoke import Result

from biomero.compat.errors import raises_as_biomero
from biomeroworker.cluster.slurm.parsing import state_of
from biomeroworker.errors import Transient, classify

if TYPE_CHECKING:
    from biomero.slurm_client import SlurmClient

#: Seconds for which a job may be UNKNOWN before waiting for it ends.
_UNKNOWN_SECONDS = 600.0


@raises_as_biomero
class SlurmJob:
    """One job that `SlurmClient.run_workflow_job` submitted, with its ids in SLURM and in the log."""

    SLURM_POLLING_INTERVAL = 10

    def __init__(
        self,
        submit_result: Result,
        job_id: int,
        wf_id: UUID | None,
        task_id: UUID | None,
        slurm_polling_interval: float = SLURM_POLLING_INTERVAL,
        log_file: str | None = None,
    ) -> None:
        self.submit_result, self.job_id, self.wf_id, self.task_id = submit_result, job_id, wf_id, task_id
        self.slurm_polling_interval = slurm_polling_interval
        self.log_file = log_file
        self.ok: bool = submit_result.ok
        self.job_state: str | None = None
        self.progress: str | None = None
        self.error_message: str = submit_result.stderr or ""

    @classmethod
    def from_job_id(
        cls, job_id: int | str, wf_id: UUID | None = None, task_id: UUID | None = None, **options: Any
    ) -> SlurmJob:
        """A job that was submitted before, to wait for it. ``options`` are other arguments of the constructor."""
        return cls(Result(), int(job_id), wf_id, task_id, **options)

    @staticmethod
    def is_terminal(state: str | None) -> bool:
        """Whether a state of SLURM is final; suffixes and details (``CANCELLED by 5``) are ignored."""
        return state_of(state or "").is_terminal

    def wait_for_completion(
        self,
        slurmClient: SlurmClient,  # noqa: N803
        omeroConn: Any = None,  # noqa: N803
        *,
        heartbeat: Callable[[], object] | None = None,
        track_progress: bool = True,
        update_task: bool = True,
        strict_status: bool = False,
    ) -> str:
        """Wait until the job has reached a terminal state; returns SLURM's name of the state.

        While the cluster does not answer, the query is repeated. A job that is unknown to SLURM for ten minutes is
        UNKNOWN, and waiting ends. The arguments are those of biomero 2.8 and of 2.9.

        Parameters
        ----------
        omeroConn
            Its session is kept alive meanwhile.
        heartbeat
            Called before each query; what it raises ends the waiting.
        track_progress
            Read the progress from the job's log.
        update_task
            Record state and progress in the event log.
        strict_status
            Raise RuntimeError when the state is unknown.
        """
        unknown_since = None
        tracker = slurmClient.workflowTracker
        while True:
            if heartbeat is not None:
                heartbeat()
            word = self.job_state or "UNKNOWN"
            try:
                word = slurmClient.check_job_status([self.job_id])[0][self.job_id]
                if track_progress:
                    self.progress = slurmClient.get_active_job_progress(self.job_id)
            except Exception as error:
                if not isinstance(classify(error), Transient):
                    raise
            if strict_status and word == "UNKNOWN":
                raise RuntimeError(f"the state of SLURM job {self.job_id} is unknown; wait for it again to continue")
            self.job_state = word
            if update_task and self.task_id is not None:
                tracker.update_task_status(self.task_id, word)
                if track_progress:
                    tracker.update_task_progress(self.task_id, self.progress)
            if self.is_terminal(word):
                return word
            now = time.monotonic()
            unknown_since = (unknown_since or now) if word == "UNKNOWN" else None
            if unknown_since is not None and now - unknown_since > _UNKNOWN_SECONDS:
                return word
            if omeroConn is not None:
                omeroConn.keepAlive()
            time.sleep(self.slurm_polling_interval)

    def completed(self) -> bool:
        """Whether the job has completed successfully."""
        return self.job_state in ("COMPLETED", "COMPLETED+")

    def cleanup(self, slurmClient: SlurmClient) -> Result:  # noqa: N803
        """Remove its logs from the cluster. Its data are not removed: they may be the input of the next job."""
        return slurmClient.cleanup_tmp_files(self.job_id, logfile=self.log_file or f"omero-{self.job_id}.log")

    def get_error(self) -> str:
        """What sbatch printed to stderr."""
        return self.error_message

    def __str__(self) -> str:
        return f"SlurmJob({', '.join(f'{name}={value}' for name, value in vars(self).items())})"
