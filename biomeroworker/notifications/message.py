"""The content of a notification about an ended run: JSON for a webhook, text for an e-mail."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any
from uuid import UUID

from biomeroworker.config.schema import is_address
from biomeroworker.domain.summary import describe_outputs, without_result
from biomeroworker.errors import Permanent
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState

#: Characters that are not printable, among them line ends: they may be neither in a header nor in a line.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_MAX_SUBJECT_CHARACTERS = 150
#: Images without a result that an e-mail lists; the payload of a webhook has all of them.
_MAX_INPUTS = 100
_OUTCOMES = {RunState.DONE: "is done", RunState.FAILED: "has failed", RunState.CANCELLED: "was cancelled"}


@dataclass(frozen=True)
class RunEnded:
    """The facts about an ended run that notifications contain."""

    run: UUID
    workflow: str
    version: str
    state: RunState
    user: int
    user_name: str
    group: int
    accepted: datetime
    ended: datetime
    attempts: int = 0
    job_ids: tuple[int, ...] = ()
    report: dict[str, Any] = field(default_factory=dict)  #: of a failure its cause, of a success what was made
    email: str = ""  #: address for an e-mail; empty for none

    @classmethod
    def from_run(cls, run: WorkflowRun) -> RunEnded:
        """Take the facts from the run. They never change, because no event follows the end of a run."""
        request = run.recorded_request
        return cls(
            run=run.id,
            workflow=run.workflow,
            version=request.version or run.workflow_version,
            state=run.state,
            user=run.user,
            user_name=request.user_name,
            group=run.group,
            accepted=run.created_on.astimezone(UTC),
            ended=run.modified_on.astimezone(UTC),
            attempts=run.attempt,
            job_ids=tuple(run.job_ids),
            report=dict(run.report),
            email=request.email.strip(),
        )

    @property
    def outcome(self) -> str:
        """The verb for a sentence that begins with the name of the workflow."""
        if self.state is RunState.DONE and self.without_result:
            return "is partly done"
        return _OUTCOMES.get(self.state, self.state.value)

    @property
    def without_result(self) -> dict[str, str]:
        """The inputs without a result of a run that is done."""
        return without_result(self.report)

    @property
    def key(self) -> str:
        """The id of the notification. It is the same in each delivery, so that a receiver recognises a repetition."""
        return f"{self.run}.{self.state.value}"


def build_payload(ended: RunEnded) -> bytes:
    """The JSON document for a webhook. It contains no e-mail address."""
    document = {
        "event": "run.ended",
        "id": ended.key,
        "run": str(ended.run),
        "workflow": ended.workflow,
        "version": ended.version,
        "state": ended.state.value,
        "user": ended.user,
        "user_name": ended.user_name,
        "group": ended.group,
        "accepted": ended.accepted.isoformat(),
        "ended": ended.ended.isoformat(),
        "attempts": ended.attempts,
        "job_ids": list(ended.job_ids),
        "report": ended.report,
    }
    return json.dumps(document, default=str).encode()


def build_email(ended: RunEnded, sender: str) -> EmailMessage:
    """The e-mail to the address in the request.

    Raises
    ------
    Permanent
        The address is invalid.
    """
    if not is_address(ended.email):
        raise Permanent("the e-mail address of the request is invalid; it must be one address such as ada@example.org")
    message = EmailMessage(policy=SMTP)
    message["From"] = _mailbox(sender, "biomeroworker")
    message["To"] = _mailbox(ended.email)
    subject = one_line(f"{ended.workflow} {ended.outcome}")
    if ended.report.get("message") and (ended.state is RunState.FAILED or ended.without_result):
        subject += ": " + one_line(str(ended.report["message"]))
    message["Subject"] = (
        subject if len(subject) <= _MAX_SUBJECT_CHARACTERS else subject[: _MAX_SUBJECT_CHARACTERS - 1] + "…"
    )
    message["Date"] = ended.ended
    message["Message-ID"] = f"<{ended.key}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: prevents automatic replies
    message.set_content(_body(ended), cte="quoted-printable")
    return message


def one_line(text: str) -> str:
    """Replace all characters that are not printable, so that the text is one line."""
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def _mailbox(address: str, name: str = "") -> Address:
    return Address(name, addr_spec=address)


def _body(ended: RunEnded) -> str:
    lines = [
        f"The run of {one_line(ended.workflow)} {one_line(ended.version)}".rstrip() + f" {ended.outcome}.",
        "",
        f"run:       {ended.run}",
        f"accepted:  {ended.accepted:%Y-%m-%d %H:%M:%S} UTC",
        f"ended:     {ended.ended:%Y-%m-%d %H:%M:%S} UTC",
    ]
    if ended.job_ids:
        lines.append(f"SLURM job: {', '.join(map(str, ended.job_ids))}")
    made = ended.report.get("made")
    if isinstance(made, dict):
        lines.append(f"made:      {describe_outputs(made)}")
    for key, word in (("stage", "stage"), ("kind", "kind"), ("message", "cause"), ("next_step", "next")):
        if ended.report.get(key):
            lines.append(f"{word + ':':<10} {one_line(str(ended.report[key]))}")
    lines += _images_without_result(ended.without_result)
    if ended.report.get("detail"):
        lines += ["", *map(one_line, str(ended.report["detail"]).splitlines())]
    return "\n".join(lines) + "\n"


def _images_without_result(inputs: dict[str, str]) -> list[str]:
    if not inputs:
        return []
    named = [f"  {one_line(name)} ({key})" for key, name in list(inputs.items())[:_MAX_INPUTS]]
    more = [f"  and {len(inputs) - _MAX_INPUTS} more"] if len(inputs) > _MAX_INPUTS else []
    return ["", "images without a result:", *named, *more]
