"""Jobs: their rows, and the handle by which clients and processors follow them."""

from __future__ import annotations

import time
from typing import Any

import omero
import omero.clients
import omero.model
from omero.rtypes import RTimeI, rstring, rtime

from omero_stand_in import errors
from omero_stand_in.context import Call, context_of
from omero_stand_in.servant import Service

#: Statuses that a job may be put into once it exists; the others belong to its beginning.
SETTABLE = {"Running", "Cancelled", "Error", "Finished"}
ENDED = {"Cancelled", "Error", "Finished"}
#: Letters that fit into the column of a job's message.
LONGEST_MESSAGE = 255


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def submit(call: Call, job: omero.model.Job, status: str = "") -> omero.model.Job:
    """Save a new job of the caller; returns it as `loaded` does.

    The server sets the times, the names and the type. A client may set the status Submitted or Waiting.
    """
    if job is None:
        raise errors.api_usage("Job cannot be null.")
    graph = call.server.graph
    with graph.transaction(context_of(call)) as tx:
        wanted = status or _status_of(tx, job)
        job.setStatus(omero.model.JobStatusI(tx.enum("JobStatus", wanted), False))
        group = call.session.group_id if call.group_id < 0 else call.group_id
        job.setUsername(rstring(call.server.accounts.user_name(call.user_id)))
        job.setGroupname(rstring(call.server.accounts.group(group).get("name")))
        job.setType(rstring("Internal"))
        job.setStarted(None)
        job.setFinished(None)
        job.setSubmitted(rtime(now()))
        if job.getScheduledFor() is None:
            job.setScheduledFor(rtime(now()))
        if job.getMessage() is None:
            job.setMessage(rstring(""))
        saved = tx.save(job)
        return loaded(tx, tx.get("Job", saved.id.val))


def _status_of(tx: Any, job: omero.model.Job) -> str:
    status = job.getStatus()
    if status is None:
        return "Submitted"
    if status.getId() is not None:
        word = tx.get("JobStatus", status.id.val).get("value")
    elif status.isLoaded() and status.getValue() is not None:
        word = status.value.val
    else:
        raise errors.api_usage("JobStatus must have id or value set.")
    if word not in ("Submitted", "Waiting"):
        raise errors.api_usage("Currently only SUBMITTED and WAITING are accepted as JobStatus")
    return str(word)


def loaded(tx: Any, entity: Any) -> omero.model.Job:
    """A job as an object, with its status."""
    job = tx.load(entity)
    job.setStatus(tx.load(tx.get("JobStatus", entity.get("status"))))
    return job


def change(call: Call, number: int, status: str = "", message: str | None = None) -> tuple[str, str]:
    """Change a job that the caller sees, with the times that follow from its status.

    The right to write is not checked, and colleagues may change each other's jobs, as on the real server.

    Returns
    -------
    tuple
        Status and message as they were.
    """
    graph = call.server.graph
    with graph.transaction(context_of(call)) as tx:
        entity = tx.find("Job", number)
        if entity is None:
            raise errors.api_usage(f"Unknown job:{number}")
        before = (tx.get("JobStatus", entity.get("status")).get("value"), entity.get("message") or "")
        values: dict[str, Any] = {}
        if status:
            known = tx.where("JobStatus", value=status)
            values["status"] = known[0].id
            if status == "Running":
                values["started"] = now()
            elif status in ENDED:
                values["finished"] = now()
        if message is not None:
            values["message"] = message
        tx.change(entity, **values)
        return before


class JobHandleService(Service):
    """`omero.api.JobHandle`: submit a job, or attach to one, and follow it."""

    interface = omero.api.JobHandle
    stateful = True

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.job_id: int | None = None

    def _number(self) -> int:
        if self.job_id is None:
            raise errors.api_usage("JobHandle not ready: Please submit() or attach() to a Job.")
        return self.job_id

    def _job(self, call: Call) -> omero.model.Job:
        number = self._number()
        graph = call.server.graph
        with graph.transaction(context_of(call)) as tx:
            entity = tx.find("Job", number)
            if entity is None:
                raise errors.api_usage(f"Unknown job:{number}")
            return loaded(tx, entity)

    def submit(self, call: Call, job: omero.model.Job) -> int:
        """Save a new job and attach to it."""
        try:
            self.job_id = submit(call, job).id.val
        except omero.ValidationException as error:
            # the real server translates this error in IUpdate, but not here
            if error.message.startswith("not-null property"):
                raise errors.internal(
                    f" Wrapped Exception: (org.hibernate.PropertyValueException):\n{error.message}"
                ) from error
            raise
        return self.job_id

    def attach(self, call: Call, number: int) -> omero.model.JobStatus:
        """Attach to a job that the caller sees; answers its status."""
        self.job_id = number  # even if there is no such job: later questions name it
        return self._job(call).status

    def getJob(self, call: Call) -> omero.model.Job:
        """The job, with its status."""
        return self._job(call)

    def jobStatus(self, call: Call) -> omero.model.JobStatus:
        """The status."""
        return self._job(call).status

    def jobFinished(self, call: Call) -> RTimeI | None:
        """The time of its end, or null. It does not change when a job is set to Running again."""
        return self._job(call).finished

    def jobMessage(self, call: Call) -> str:
        """The message."""
        message = self._job(call).message
        return str(message.val) if message else ""

    def jobRunning(self, call: Call) -> bool:
        """Whether the status is Running."""
        return bool(self._job(call).status.value.val == "Running")

    def jobError(self, call: Call) -> bool:
        """Whether the status is Error."""
        return bool(self._job(call).status.value.val == "Error")

    def cancelJob(self, call: Call) -> None:
        """Set the status to Cancelled in any state; the process of the job is not informed."""
        change(call, self._number(), "Cancelled")

    def setStatus(self, call: Call, status: str) -> str:
        """Set the status; answers the old one."""
        return self.setStatusAndMessage(call, status, None)

    def setMessage(self, call: Call, message: str) -> str:
        """Set the message; answers the old one."""
        self._check_message(message)
        return change(call, self._number(), message=message)[1]

    def setStatusAndMessage(self, call: Call, status: str, message: omero.RString | None) -> str:
        """Set both; a null message leaves the old one. Answers the old status."""
        number = self._number()
        graph = call.server.graph
        with graph.transaction(context_of(call)) as tx:
            if not status or not tx.where("JobStatus", value=status):
                raise errors.api_usage(f"An ome.model.jobs.JobStatus enum does not exist with the value: {status}")
        if status not in SETTABLE:
            raise errors.validation(f"Currently unsupported: {status}")
        text = None if message is None else message.val
        if text is not None:
            self._check_message(text)
        return change(call, number, status, text)[0]

    @staticmethod
    def _check_message(message: str) -> None:
        if len(message) > LONGEST_MESSAGE:
            raise errors.internal(
                " Wrapped Exception: (org.springframework.dao.DataIntegrityViolationException):\n"
                "value too long for type character varying(255)"
            )
