"""What readers of a run want to know, derived from its recorded state."""

from __future__ import annotations

from typing import Any

from biomeroworker.domain import ranges
from biomeroworker.domain.plan import RunPlan
from biomeroworker.domain.request import RecordedRequest, RunRequest
from biomeroworker.domain.summary import without_result
from biomeroworker.eventlog.aggregates.records import Attempt, FaultRecord, Intent
from biomeroworker.eventlog.aggregates.states import RunState


class RunFacts:
    """The read-only properties of `WorkflowRun`."""

    name: str
    request: dict[str, Any] | None
    attempts: dict[int, Attempt]
    report: dict[str, Any]
    _latest_intents: dict[RunState, Intent]
    _consecutive_faults: list[FaultRecord]

    @property
    def job_ids(self) -> list[int]:
        """The scheduler's numbers of all attempts that were submitted, oldest first."""
        return [attempt.job_id for attempt in self.attempts.values() if attempt.job_id is not None]

    def intent(self, stage: RunState) -> dict[str, Any]:
        """What was last recorded as about to be done at ``stage``; empty when the run never entered it."""
        latest = self._latest_intents.get(stage)
        return dict(latest.detail) if latest else {}

    @property
    def plan(self) -> RunPlan | None:
        """What is run, as it was settled at admission; None before that."""
        recorded = self.intent(RunState.EXPORTING)
        return RunPlan.model_validate(recorded) if recorded else None

    @property
    def cluster(self) -> str:
        """The name of the run's cluster; ``""`` is the cluster without a name, and the value before admission."""
        plan = self.plan
        return plan.cluster if plan else ""

    @property
    def request_model(self) -> RunRequest:
        """The request of an accepted run, validated.

        Raises
        ------
        pydantic.ValidationError
            This version cannot serve the request, or another program recorded the run and there is none.
        """
        return RunRequest.model_validate(self.request)

    @property
    def recorded_request(self) -> RecordedRequest:
        """The request for readers that must not fail; all fields are empty for a run of another program."""
        return RecordedRequest.model_validate(self.request or {})

    @property
    def workflow(self) -> str:
        """The workflow's name in the configuration; the run's name for a run of another program."""
        return self.recorded_request.workflow or self.name

    @property
    def workflow_version(self) -> str:
        """The version of the image that is used, or, before admission, that was requested; may be empty."""
        plan = self.plan
        return (plan.version if plan else "") or self.recorded_request.version

    @property
    def chunks(self) -> int:
        """How many chunks the run is split into; 0 when it is one job."""
        return len(self.attempts[1].tasks) if 1 in self.attempts else 0

    @property
    def good_chunks(self) -> dict[int, int]:
        """For each chunk with good results, the number of the attempt that has them."""
        return {
            chunk: attempt.number
            for attempt in self.attempts.values()
            for chunk in ranges.parse_ranges(str(attempt.verdicts.get("good", "")))
        }

    @property
    def failed_chunks(self) -> list[dict[str, Any]]:
        """Why chunks failed for good: ``tasks`` (see `ranges.format_ranges`), ``message``, ``hint`` and ``detail``."""
        return [dict(failed) for attempt in self.attempts.values() for failed in attempt.verdicts.get("failed", ())]

    @property
    def without_result(self) -> dict[str, str]:
        """Of a run that is done the inputs without a result: key and user's name, see `domain.summary`."""
        return without_result(self.report)

    def consecutive_faults(self, stage: RunState) -> list[FaultRecord]:
        """Faults at ``stage`` since it was last entered, completed or resumed, oldest first."""
        return [fault for fault in self._consecutive_faults if fault.stage is stage]
