"""Carry one run from accepted to its end, one step at a time, written for SIGKILL at the next line.

The loss that this module prevents: a run that is done twice, or half, or that nobody remembers. Each step records its
intent, acts, verifies, and records the outcome; called again after a crash, a step looks first, adopts what is there,
and does only what is missing. The state of the run in the log says which step is next; nothing is remembered here that
matters to anyone else.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from biomeroworker import errors
from biomeroworker.cluster.refusals import SubmissionInDoubt
from biomeroworker.cluster.scheduler import JobState, JobStatus
from biomeroworker.cluster.site import Cluster
from biomeroworker.cluster.submission import AttemptClaimed, AttemptGivenUp
from biomeroworker.config import Settings
from biomeroworker.engine import jobstatus, retry, watch
from biomeroworker.engine.cancelling import Canceller
from biomeroworker.engine.catalogue import Catalogue
from biomeroworker.engine.plan import Plan
from biomeroworker.engine.space import SpaceGuard
from biomeroworker.engine.workspace import Workspace
from biomeroworker.errors import Blocked, Fault, NodeFault, Permanent, Refused, Transient
from biomeroworker.log.fence import LeaseLost, held
from biomeroworker.log.runlog import RunLog, WorkflowRun
from biomeroworker.log.states import AlreadyEnded, NotAllowed, RunState, StaleAttempt
from biomeroworker.manifest import INPUTS_FILE, InputManifest
from biomeroworker.source import RunRequest, Source
from biomeroworker.workflows import jobscript, markers

#: Told the run, its stage, a fraction from 0 to 1 (None: not known) and a word: what a person watches.
Listener = Callable[[UUID, RunState, float | None, str], None]

#: What `Carrier.advance` answers for a run whose next step is the scheduler's.
AWAITS_SCHEDULER = math.inf

#: A scheduler that has not known a submitted job for so long is not going to.
UNKNOWN_DEADLINE = timedelta(minutes=10)
#: How many attempts in a row may be lost to their nodes before it is no longer the nodes.
MOST_ATTEMPTS = 4
#: For how long nothing may be heard of a submission whose answer was lost before its attempt is given up for a new one.
DOUBT_SECONDS = 60.0


def _nobody_watches(run: UUID, stage: RunState, fraction: float | None, word: str) -> None:
    """The listener of a run that nobody watches."""


class Carrier:
    """Takes runs on, step by step.

    Parameters
    ----------
    sources
        By the name that a request gives (``omero``, ``folder``).
    doubt_seconds
        How long a submission of which nothing came is waited for.

    Attributes
    ----------
    holder
        Under whose leases runs are carried: what happens to a run is recorded only while its lease holds. Empty: under
        none, for a log that nobody else writes to.
    holds
        Whether the lease of a run certainly holds, as far as this process knows; asked while a step takes its time.
    """

    def __init__(
        self,
        log: RunLog,
        cluster: Cluster,
        sources: Mapping[str, Source],
        settings: Settings,
        listener: Listener = _nobody_watches,
        doubt_seconds: float = DOUBT_SECONDS,
    ) -> None:
        self.log, self.cluster, self.sources, self.settings = log, cluster, sources, settings
        self.catalogue = Catalogue(settings)
        self.listener = listener
        self.holder = ""
        self.holds: Callable[[UUID], bool] = lambda run_id: True
        self._doubt_seconds = doubt_seconds
        self._canceller = Canceller(log, cluster)
        self._space = SpaceGuard(cluster, settings)
        self._steps: dict[RunState, Callable[[UUID, WorkflowRun, RunRequest], float]] = {
            RunState.ACCEPTED: self._admit,
            RunState.EXPORTING: self._export,
            RunState.TRANSFERRING: self._transfer,
            RunState.SUBMITTING: self._submit,
            RunState.QUEUED: self._await,
            RunState.RUNNING: self._await,
            RunState.FETCHING: self._fetch,
            RunState.IMPORTING: self._import,
        }

    def advance(self, run_id: UUID) -> float | None:
        """Take a run one step on.

        Returns
        -------
        Seconds until it wants the next step, `AWAITS_SCHEDULER` when `watch` will tell, or None when there is none: it
        has ended, or is paused.
        """
        with held(run_id, self.holder):
            run = self.log.run(run_id)
            if run.state.is_terminal or run.paused:
                return None
            try:
                if run.cancel_requested:
                    return self._cancel(run_id, run)
                request = RunRequest.model_validate(run.request)
                return self._steps[run.state](run_id, run, request)
            except (AlreadyEnded, StaleAttempt, LeaseLost):
                # another process was faster: the log has the truth, and it is looked up anew
                return watch.FIRST_INTERVAL
            except Exception as error:
                with contextlib.suppress(LeaseLost, AlreadyEnded, StaleAttempt):
                    return self._meet(run_id, errors.classify(error))
                return watch.FIRST_INTERVAL

    # -- steps --------------------------------------------------------------------------------------------------------

    def _admit(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        """At the door: everything that can be known to be wrong is said before anything is moved."""
        self._tell(run_id, run.state, None, "checking the request")
        workflow = self.catalogue.get(request.workflow)
        self._source(request).check(request)
        plan = Plan.of(request, workflow, self.cluster, self.settings)
        self.log.intend(run_id, RunState.EXPORTING, **plan.detail())
        return 0

    def _export(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        begun = time.monotonic()
        space = Workspace(self.settings.worker.work_folder, run_id)
        space.open()
        manifest = space.read_manifest()
        if manifest is None:
            manifest = self._source(request).stage_in(
                str(run_id),
                request,
                space.inputs,
                lambda fraction, word: self._tell(run_id, RunState.EXPORTING, fraction, word),
            )
            if not manifest.images:
                raise Permanent("there is nothing to run on: the inputs hold no image")
            space.write_manifest(manifest)
        self.log.complete(
            run_id,
            RunState.EXPORTING,
            images=len(manifest.images),
            bytes=space.size(),
            seconds=round(time.monotonic() - begun, 2),
        )
        if run.attempt:  # exported again, for an attempt whose inputs were lost on the way
            self.log.intend(run_id, RunState.TRANSFERRING, attempt=run.attempt)
        else:
            self._begin_attempt(run_id, run, 1)
        return 0

    def _transfer(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        begun = time.monotonic()
        number = run.attempt
        space = Workspace(self.settings.worker.work_folder, run_id)
        first = number == 1
        if first and space.read_manifest() is None:  # the work folder was lost, or is another machine's
            self.log.intend(run_id, RunState.EXPORTING, **run.intent(RunState.EXPORTING))
            return 0
        folder, remote = self.cluster.run_folder(run_id), self.cluster.attempt_folder(run_id, number)
        Plan.kept(run).lay_out(space.attempt(number), folder, remote, self.cluster)
        self._space.check(space.size() if first else 0)
        if not first and not self.cluster.transport.exists(f"{folder}/{INPUTS_FILE}"):
            if space.read_manifest() is None:
                self.log.intend(run_id, RunState.EXPORTING, **run.intent(RunState.EXPORTING))
                return 0
            self._send_inputs_again(space, folder)
        sent = self.cluster.transport.send_tree(
            space.folder if first else space.attempt(number),
            folder if first else remote,
            progress=lambda done, total: self._tell(
                run_id, RunState.TRANSFERRING, done / total if total else None, f"{done / 1e6:.1f} MB"
            ),
        )
        self.log.complete(
            run_id,
            RunState.TRANSFERRING,
            attempt=number,
            files=sent.files,
            bytes=sent.size,
            travelled=sent.travelled,
            seconds=round(time.monotonic() - begun, 2),
        )
        self.log.intend(run_id, RunState.SUBMITTING, attempt=number, name=run.attempts[number].name)
        return 0

    def _submit(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        """At most one job per attempt: the cluster lets only the first submission through, see `cluster.submission`."""
        number = run.attempt
        name = run.attempts[number].name
        self._tell(run_id, RunState.SUBMITTING, None, name)
        folder = self.cluster.attempt_folder(run_id, number)
        spec = Plan.kept(run).job(name, folder, run.attempts[number].excluded_nodes)
        try:
            job_id = self.cluster.submit(spec)
        except SubmissionInDoubt as doubt:
            found = self._look_for(run_id, run, doubt)
            if found is None:  # told as a lost attempt, so that a site where this is the rule is found out
                raise NodeFault(
                    "nothing came of handing the job to SLURM", node="", hint="does sbatch print a job id here?"
                ) from doubt
            job_id = found
        self.log.submitted(run_id, number, job_id)
        return AWAITS_SCHEDULER

    def _look_for(self, run_id: UUID, run: WorkflowRun, doubt: SubmissionInDoubt) -> int | None:
        """The job of an attempt that may have been submitted; None when the attempt is given up. Raises the doubt."""
        if isinstance(doubt, AttemptGivenUp):
            return None
        found = self.cluster.find(run.attempts[run.attempt].name, run.created_on)
        if found is not None:
            return found.job_id
        if not isinstance(doubt, AttemptClaimed) or doubt.seconds < self._doubt_seconds:
            raise doubt
        return self.cluster.give_up(run_id, run.attempt)

    def _await(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        return AWAITS_SCHEDULER

    def watch(self, run_ids: Sequence[UUID]) -> dict[UUID, bool]:
        """Ask the scheduler once about the jobs of many runs, and record what is new.

        Returns
        -------
        The runs of which something was new, and whether they have a next step now.

        Raises
        ------
        Fault
            The scheduler did not answer: nothing is known of any of them.
        """
        runs = {run_id: self.log.run(run_id) for run_id in run_ids}
        names = {run_id: run.attempts[run.attempt].name for run_id, run in runs.items() if run.attempt}
        answers = self.cluster.status(list(names.values()), min(run.created_on for run in runs.values()))
        news = {}
        for run_id, name in names.items():
            known = answers.get(name) or [jobstatus.unknown(name)]
            try:
                with held(run_id, self.holder):
                    changed, goes_on = self._heard(run_id, runs[run_id], known[-1])
            except NotAllowed:  # another process was faster, or a person: look anew
                changed, goes_on = True, True
            if changed or goes_on:
                news[run_id] = goes_on
        return news

    def _heard(self, run_id: UUID, run: WorkflowRun, status: JobStatus) -> tuple[bool, bool]:
        """Record what the scheduler says of a run's job: whether that was news, and whether the job has ended."""
        number = run.attempt
        changed = self.log.observe(
            run_id,
            number,
            state=status.state.name,
            raw_state=status.raw_state,
            reason=status.reason,
            node=status.node,
            progress=None,
        )
        word = f"job {run.attempts[number].job_id} {status.raw_state or status.state.name}"
        self._tell(run_id, run.state, None, f"{word} ({status.reason})" if status.reason else word)
        ended = status.state.is_terminal or self._is_overdue(run, status)
        if ended:
            self.log.intend(run_id, RunState.FETCHING, attempt=number, **jobstatus.described(status))
        return changed, ended

    @property
    def patience_seconds(self) -> float:
        """For how long a cluster may be silent before runs that wait for it are paused."""
        return self.settings.worker.retry_hours * 3600

    def note_silence(self, run_ids: Sequence[UUID], silence: Fault, delay: float, *, give_up: bool) -> None:
        """Record that the scheduler did not answer about these runs; pause them when patience is over, or useless."""
        for run_id in run_ids:
            run = self.log.run(run_id)
            if run.state.is_terminal or run.paused or run.cancel_requested:
                continue
            with contextlib.suppress(NotAllowed), held(run_id, self.holder):
                told = errors.report(silence, run.state.value, str(run_id), outcome="paused")
                if give_up or not isinstance(silence, Transient):
                    self._record(run_id, run, silence, None)
                    self.log.pause(run_id, str(told), run.state)
                    self._tell(run_id, run.state, None, f"paused: {silence}")
                else:
                    self._record(run_id, run, silence, datetime.now(UTC) + timedelta(seconds=delay))
                    self._tell(run_id, run.state, None, f"{silence}; asked again in {delay:.0f} s")

    def _fetch(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        begun = time.monotonic()
        number = run.attempt
        name = run.attempts[number].name
        status = jobstatus.kept(run.intent(RunState.FETCHING), name)
        if not status.state.is_terminal:  # we came here because the scheduler was silent: has it found its voice?
            status = self._status(name, run.created_on)
            if status.state in (JobState.PENDING, JobState.RUNNING):
                self._tell(run_id, run.state, None, f"job {status.job_id} {status.raw_state}, after all")
                return self.settings.slurm.poll_seconds
            if status.state.is_terminal:
                self.log.intend(run_id, RunState.FETCHING, attempt=number, **jobstatus.described(status))
        space = Workspace(self.settings.worker.work_folder, run_id)
        fetched = self.cluster.transport.fetch_tree(
            self.cluster.attempt_folder(run_id, number),
            space.fetched(number),
            progress=lambda done, total: self._tell(
                run_id, RunState.FETCHING, done / total if total else None, f"{done / 1e6:.1f} MB"
            ),
        )
        results = markers.verdict(status, space.fetched(number), str(run_id), number)
        markers.verify(results, space.fetched(number) / jobscript.OUT)
        self.log.complete(
            run_id,
            RunState.FETCHING,
            attempt=number,
            files=len(results.files),
            bytes=fetched.size,
            travelled=fetched.travelled,
            seconds=round(time.monotonic() - begun, 2),
        )
        self.log.intend(run_id, RunState.IMPORTING, attempt=number)
        return 0

    def _import(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        begun = time.monotonic()
        number = run.attempt
        space = Workspace(self.settings.worker.work_folder, run_id)
        fetching = run.intent(RunState.FETCHING)
        if not space.fetched(number).is_dir():  # the work folder was lost, or is another machine's
            self.log.intend(run_id, RunState.FETCHING, attempt=number, **fetching)
            return 0
        status = jobstatus.kept(fetching, run.attempts[number].name)
        results = markers.verdict(status, space.fetched(number), str(run_id), number)
        made = self._source(request).stage_out(
            request,
            self._manifest(run_id, space),
            results,
            space.fetched(number) / jobscript.OUT,
            Plan.kept(run).provenance(run_id, run, request.workflow),
            lambda fraction, word: self._tell(run_id, RunState.IMPORTING, fraction, word),
        )
        counts: dict[str, int] = {}
        for one in made:
            counts[one.kind] = counts.get(one.kind, 0) + one.count
        self.log.complete(
            run_id,
            RunState.IMPORTING,
            attempt=number,
            made=[vars(one) for one in made],
            seconds=round(time.monotonic() - begun, 2),
        )
        self.log.finish(run_id, made=counts)
        self._tell(run_id, RunState.DONE, 1.0, ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
        space.drop()
        return 0

    def _cancel(self, run_id: UUID, run: WorkflowRun) -> float:
        """Cancel the jobs, see that they are gone, then end the run; one without a job ends at once."""
        names = [attempt.name for attempt in run.attempts.values()]
        never_submitted = run.attempt <= 1 and run.state.order < RunState.SUBMITTING.order
        word: str | None = ""
        if names and not never_submitted and run.state is not RunState.IMPORTING:
            self._tell(run_id, run.state, None, "cancelling its job")
            word = self._canceller.cancel(run_id, names, run.created_on)
        if word is None:
            return watch.FIRST_INTERVAL
        self.log.cancelled(run_id, {"stage": run.state.value, "message": f"cancelled by {run.cancelled_by}{word}"})
        self._tell(run_id, RunState.CANCELLED, None, f"cancelled{word}")
        Workspace(self.settings.worker.work_folder, run_id).drop()
        return 0

    def deliver_cancels(self) -> int:
        """Cancel what could not be cancelled when its run was; how much of it is still owed."""
        return self._canceller.deliver()

    # -- faults -------------------------------------------------------------------------------------------------------

    def _meet(self, run_id: UUID, fault: Fault) -> float | None:
        """Record a fault and do what its class asks for."""
        run = self.log.run(run_id)
        if run.state.is_terminal:
            return None
        if run.cancel_requested:  # nobody waits for this any more
            return watch.FIRST_INTERVAL
        if isinstance(fault, NodeFault):
            lost = retry.lost_in_a_row(run)
            if lost < MOST_ATTEMPTS - 1:
                self._record(run_id, run, fault, None)
                before = run.attempts[run.attempt].excluded_nodes if lost else ()
                node = () if fault.node in ("", "unknown") else (fault.node,)
                self._canceller.give_up(run_id, [run.attempts[run.attempt].name], run.created_on)
                self._begin_attempt(run_id, run, run.attempt + 1, exclude=(*before, *node))
                return 0
            fault = Blocked(f"{lost + 1} attempts in a row: {fault}", hint=fault.hint, detail=fault.detail)
        earlier = run.faults_in_a_row(run.state)
        now = datetime.now(UTC)
        decision = retry.decide(
            fault,
            failures=len(earlier) + 1,
            since=earlier[0].when if earlier else now,
            now=now,
            budget=timedelta(hours=self.settings.worker.retry_hours),
            at_door=run.state is RunState.ACCEPTED,
        )
        match decision:
            case retry.Retry(delay):
                self._record(run_id, run, fault, now + timedelta(seconds=delay))
                self._tell(run_id, run.state, None, f"{fault}; again in {delay:.0f} s")
                return delay
            case retry.Pause():
                self._record(run_id, run, fault, None)
                self.log.pause(
                    run_id, str(errors.report(fault, run.state.value, str(run_id), outcome="paused")), run.state
                )
                self._tell(run_id, run.state, None, f"paused: {fault}")
                return None
            case retry.End():
                self.log.fail(run_id, vars(errors.report(fault, run.state.value, str(run_id), outcome="ended")))
                self._tell(run_id, RunState.FAILED, None, str(fault))
                return None

    def _record(self, run_id: UUID, run: WorkflowRun, fault: Fault, retry_at: datetime | None) -> None:
        self.log.fault(
            run_id,
            run.state,
            attempt=run.attempt,
            kind=retry.kind(fault),
            message=str(fault),
            detail=fault.detail,
            hint=fault.hint,
            retry_at=retry_at,
        )

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _begin_attempt(self, run_id: UUID, run: WorkflowRun, number: int, exclude: Sequence[str] | None = None) -> None:
        if exclude is None:
            exclude = run.attempts[run.attempt].excluded_nodes if run.attempt else ()
        name = self.cluster.attempt_name(run_id, number)
        self.log.begin_attempt(run_id, number, name, excluded_nodes=sorted(set(exclude)))

    def _send_inputs_again(self, space: Workspace, run_folder: str) -> None:
        """The cluster has lost what the first attempt brought (a scratch that is swept): bring it once more."""
        transport = self.cluster.transport
        transport.send_tree(space.inputs, f"{run_folder}/{space.inputs.name}")
        transport.write_file(f"{run_folder}/{INPUTS_FILE}", (space.folder / INPUTS_FILE).read_bytes())

    def _source(self, request: RunRequest) -> Source:
        try:
            return self.sources[request.source]
        except KeyError:
            raise Refused(f"this worker does not serve runs from {request.source!r}") from None

    def _manifest(self, run_id: UUID, space: Workspace) -> InputManifest:
        """What was sent: from this machine, or, when its work folder was lost, from the cluster."""
        manifest = space.read_manifest()
        if manifest is None:
            remote = f"{self.cluster.run_folder(run_id)}/{INPUTS_FILE}"
            manifest = InputManifest.model_validate_json(self.cluster.transport.read_from(remote, limit=1 << 28))
        return manifest

    def _status(self, name: str, since: datetime) -> JobStatus:
        return (self.cluster.status([name], since).get(name) or [jobstatus.unknown(name)])[-1]

    def _is_overdue(self, run: WorkflowRun, status: JobStatus) -> bool:
        """A job that the scheduler does not know is looked for by its own markers, once the scheduler had its time."""
        if status.state is not JobState.UNKNOWN:
            return False
        last = run.attempts[run.attempt].known_on
        return datetime.now(UTC) - last > UNKNOWN_DEADLINE

    def _tell(self, run_id: UUID, stage: RunState, fraction: float | None, word: str) -> None:
        """Tell the listener; a step that has lost its lease meanwhile ends here, before it does more."""
        if not stage.is_terminal and not self.holds(run_id):
            raise LeaseLost(f"run {run_id} may be carried by somebody else by now")
        self.listener(run_id, stage, fraction, word)
