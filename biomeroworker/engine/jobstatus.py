"""What the scheduler said of a job, as the log keeps it: so that the verdict can be given again after a crash. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biomeroworker.cluster.scheduler import JobState, JobStatus


def unknown(name: str) -> JobStatus:
    """What is known of a job that nobody has heard of."""
    return JobStatus(name=name, job_id=-1, state=JobState.UNKNOWN, raw_state="")


def described(status: JobStatus) -> dict[str, Any]:
    """What of a status goes into the log, so that the verdict can be given again after a crash."""
    return {
        "state": status.state.name,
        "raw_state": status.raw_state,
        "job_id": status.job_id,
        "reason": status.reason,
        "node": status.node,
        "exit_code": status.exit_code,
        "signal": status.signal,
    }


def kept(described: Mapping[str, Any], name: str) -> JobStatus:
    """The inverse of `described`."""
    return JobStatus(
        name=name,
        job_id=int(described.get("job_id", -1)),
        state=JobState[str(described.get("state", "UNKNOWN"))],
        raw_state=str(described.get("raw_state", "")),
        reason=str(described.get("reason", "")),
        node=str(described.get("node", "")),
        exit_code=described.get("exit_code"),
        signal=described.get("signal"),
    )
