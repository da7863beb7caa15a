"""The intervals and deadlines of the engine, in one place, so that tests can run the same engine faster."""

from __future__ import annotations

from dataclasses import dataclass

from biomeroworker.domain import backoff


@dataclass(frozen=True)
class Timing:
    """Intervals and deadlines, all in seconds."""

    #: Between two looks into the log for runs that were accepted or resumed, and for cancel requests.
    sync_interval_seconds: float = 1.0
    #: A lease that was not renewed for this long belongs to a dead supervisor.
    lease_seconds: float = 60.0
    #: Between two attempts to cancel jobs on a cluster that did not answer.
    cancel_retry_interval_seconds: float = 15.0
    #: That running steps get to finish after a stop request; a step can be killed at any point without loss.
    stop_grace_seconds: float = 5.0
    #: After the grace, until this process is killed at the latest. Leases stay valid until then, so that no other
    #: supervisor starts the run of a step that is still running.
    kill_seconds: float = 10.0
    #: Until the next step of a run whose step failed and whose fault could not be recorded either.
    quarantine_seconds: float = 300.0
    #: Until the next try while the database does not answer.
    log_retry_seconds: float = 2.0
    #: Until the first query for a new job, and until a run that another process changed is looked at again.
    first_poll_seconds: float = 2.0
    #: A job that the scheduler has not known for this long will stay unknown.
    unknown_deadline_seconds: float = 600.0
    #: An attempt is abandoned when its submission gave no answer and no job for this long.
    doubt_seconds: float = 60.0
    #: Before the first retry of a failed step; the delay doubles with each further failure.
    first_retry_seconds: float = backoff.FIRST_DELAY_SECONDS
    longest_retry_seconds: float = backoff.LONGEST_DELAY_SECONDS
    #: That a cluster gets to answer a cancel; after that the run ends and the cancel is retried later.
    cancel_answer_seconds: float = 10.0
    #: That a cancelled job gets to disappear before its run ends without waiting for it.
    job_gone_seconds: float = 30.0

    def retry_delay(self, failures: int) -> float:
        """Seconds before the next try, after this many failures in a row (from 1)."""
        return backoff.backoff_delay(failures, first=self.first_retry_seconds, longest=self.longest_retry_seconds)
