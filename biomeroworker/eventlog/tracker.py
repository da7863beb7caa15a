"""The event-sourced application of the log, with the methods that existing scripts call."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application, Repository
from eventsourcing.persistence import IntegrityError, Mapper
from eventsourcing.utils import Environment, EnvType

from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import NoSuchRun
from biomeroworker.eventlog.aggregates.task import Task
from biomeroworker.eventlog.mapper import SharedLogMapper
from biomeroworker.eventlog.store.recorder import SQLRecorder
from biomeroworker.eventlog.tables import APPLICATION

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: Attempts at a change when other processes record first, and seconds between them: about 7 s on average.
MAX_TRIES = 20
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.01, 0.5


def retry_on_conflict(change: Callable[P, R]) -> Callable[P, R]:
    """Call again if another process recorded first: with the new state, and with nothing left of the failed attempt."""

    @functools.wraps(change)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(1, MAX_TRIES):
            try:
                return change(*args, **kwargs)
            except IntegrityError:
                time.sleep(backoff_delay(attempt, first=FIRST_DELAY_SECONDS, longest=LONGEST_DELAY_SECONDS, jitter=1.0))
        return change(*args, **kwargs)

    return wrapper


#: More than the runs and tasks of one supervisor, so that a round over all runs does not read their events again.
CACHED_AGGREGATES = 5000


def as_uuid(value: UUID | str) -> UUID:
    """An id that a script may have received as text; ValueError if it is none."""
    return value if isinstance(value, UUID) else UUID(str(value))


class AnyIdRepository(Repository[UUID]):
    """Aggregates by their ids, which may be text."""

    def get(self, aggregate_id: UUID | str, **options: Any) -> Any:
        """An aggregate; see `eventsourcing.application.Repository.get`."""
        return super().get(as_uuid(aggregate_id), **options)


class WorkflowTracker(Application[UUID]):
    """Records runs and tasks one event at a time, as existing scripts do.

    A run or task ends once. A second end is not recorded; for a run a warning is logged. Scripts cannot know that the
    run has ended, so it is no error.
    """

    name = APPLICATION

    def __init__(self, recorder: SQLRecorder) -> None:
        self._recorder = recorder
        # the repository updates a cached aggregate in place and copies it later, outside its lock: without this lock,
        # a thread could get a copy of a partial change
        self._reading = threading.Lock()
        super().__init__()

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """Without the variables of the process: those of other programs must not change how events are recorded."""
        return Environment(name, env)

    def construct_mapper(self) -> Mapper[UUID]:
        """One for a log that other programs read and write, too."""
        return SharedLogMapper(self.construct_transcoder())

    def construct_repository(self) -> Repository[UUID]:
        """One that takes ids as text, too."""
        return AnyIdRepository(self.events, cache_maxsize=CACHED_AGGREGATES)

    def construct_recorder(self) -> SQLRecorder:
        """The recorder of the constructor."""
        return self._recorder

    def run(self, run_id: UUID | str) -> WorkflowRun:
        """A run in its current state."""
        return cast(WorkflowRun, self._get(run_id, WorkflowRun))

    def task(self, task_id: UUID | str) -> Task:
        """A task in its current state."""
        return cast(Task, self._get(task_id, Task))

    def _get(self, aggregate_id: UUID | str, kind: type[WorkflowRun] | type[Task]) -> WorkflowRun | Task:
        try:
            with self._reading:
                found: Any = self.repository.get(as_uuid(aggregate_id))
        except (AggregateNotFoundError, ValueError):
            found = None
        if not isinstance(found, kind):
            raise NoSuchRun(f"the event log has no {'run' if kind is WorkflowRun else 'task'} {aggregate_id}")
        return found

    def run_with_tasks(self, run_id: UUID) -> tuple[WorkflowRun, dict[UUID, Task]]:
        """A run and its cached tasks in their current state, read with one statement if the run is cached.

        Tasks that are not cached are missing, for instance those that another process has added.
        """
        with self._reading:
            cache = self.repository.cache
            assert cache is not None
            known: dict[UUID, Any] = {}
            with contextlib.suppress(KeyError):
                known[run_id] = cache.get(run_id)
            for task_id in known[run_id].tasks if isinstance(known.get(run_id), WorkflowRun) else ():
                with contextlib.suppress(KeyError):
                    known[task_id] = cache.get(task_id)
            if run_id in known:
                versions = {one: aggregate.version for one, aggregate in known.items()}
                for stored in self._recorder.events_after(versions):
                    assert isinstance(stored.originator_id, UUID)
                    news: Any = self.mapper.to_domain_event(stored)
                    known[stored.originator_id] = news.mutate(known[stored.originator_id])
                copies = {one: copy.deepcopy(aggregate) for one, aggregate in known.items()}
                return copies.pop(run_id), copies
        return self.run(run_id), {}

    def save_and_cache(self, *aggregates: WorkflowRun | Task) -> None:
        """Save tasks and their run, which is the last, and cache them. The caller must not use them afterwards."""
        self.save(*_new_events(aggregates))
        with self._reading:
            cache = self.repository.cache
            assert cache is not None
            for aggregate in aggregates:
                known: Any = None
                with contextlib.suppress(KeyError):
                    known = cache.get(aggregate.id)
                if known is None or known.version < aggregate.version:
                    cache.put(aggregate.id, aggregate)

    # -- runs ---------------------------------------------------------------------------------------------------------

    def initiate_workflow(self, name: str, description: str, user: int, group: int) -> UUID:
        """Record a new run."""
        run = WorkflowRun(name=name, description=description, user=user, group=group)
        self.save(run)
        return run.id

    @retry_on_conflict
    def add_task_to_workflow(
        self,
        workflow_id: UUID | str,
        task_name: str,
        task_version: str,
        input_data: Any,
        kwargs: Mapping[str, Any],
    ) -> UUID:
        """Record a new task of a run."""
        run = self.run(workflow_id)
        task = Task(
            workflow_id=run.id,
            task_name=task_name,
            task_version=task_version,
            input_data=input_data,
            params=dict(kwargs),
        )
        run.add_task(task.id)
        self.save(task, run)
        return task.id

    @retry_on_conflict
    def start_workflow(self, workflow_id: UUID | str) -> None:
        """Record the start of a run."""
        run = self.run(workflow_id)
        run.start_workflow()
        self.save(run)

    @retry_on_conflict
    def complete_workflow(self, workflow_id: UUID | str) -> None:
        """Record success."""
        run = self.run(workflow_id)
        if self._is_open(run, "completed"):
            run.complete_workflow()
            self.save(run)

    @retry_on_conflict
    def fail_workflow(self, workflow_id: UUID | str, error_message: str) -> None:
        """Record failure."""
        run = self.run(workflow_id)
        if self._is_open(run, f"failed ({error_message})"):
            run.fail_workflow(error_message)
            self.save(run)

    def _is_open(self, run: WorkflowRun, event: str) -> bool:
        if run.state.is_terminal:
            logger.warning("run %s is already %s; not recorded: %s", run.id, run.state, event)
        return not run.state.is_terminal

    # -- tasks --------------------------------------------------------------------------------------------------------

    @retry_on_conflict
    def _change(self, task_id: UUID | str, change: Callable[[Task], None]) -> None:
        task = self.task(task_id)
        change(task)
        self.save(task)

    def start_task(self, task_id: UUID | str) -> None:
        """Record the start of a task."""
        self._change(task_id, lambda task: task.start_task())

    def complete_task(self, task_id: UUID | str, message: str) -> None:
        """Record success."""
        self._change(task_id, lambda task: None if task.ended else task.complete_task(message))

    def fail_task(self, task_id: UUID | str, error_message: str) -> None:
        """Record failure."""
        self._change(task_id, lambda task: None if task.ended else task.fail_task(error_message))

    def add_job_id(self, task_id: UUID | str, slurm_job_id: int | str) -> None:
        """Record the SLURM job id of a task, once."""
        self._change(task_id, lambda task: None if slurm_job_id in task.job_ids else task.add_job_id(slurm_job_id))

    def add_result(self, task_id: UUID | str, result: Any) -> None:
        """Record the result of a command, without its environment."""
        self._change(task_id, lambda task: task.add_result(result))

    def update_task_status(self, task_id: UUID | str, status: str) -> None:
        """Record the SLURM state of a task, if it has changed."""
        self._change(task_id, lambda task: None if task.status == status else task.update_task_status(status))

    def update_task_progress(self, task_id: UUID | str, progress: str | None) -> None:
        """Record the progress of a task, if it has changed."""
        self._change(task_id, lambda task: None if task.progress == progress else task.update_task_progress(progress))


def _new_events(aggregates: Iterable[WorkflowRun | Task]) -> list[Any]:
    """The events to record, in the order in which scripts record them: a task is created, added to its run, changed.

    The views of biomero do not show changes of a task that is in no run yet. The run is the last of the aggregates.
    """
    events: list[Any] = []
    changes: list[Any] = []
    for aggregate in aggregates:
        new = list(aggregate.collect_events())
        created = isinstance(aggregate, Task) and bool(new) and new[0].originator_version == Task.INITIAL_VERSION
        events += new[:1] if created else new
        changes += new[1:] if created else []
    return [*events, *changes]


class NoOpWorkflowTracker:
    """Replaces the tracker if tracking is off: each method can be called and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        def nothing(*args: Any, **kwargs: Any) -> None:
            return None

        return nothing
