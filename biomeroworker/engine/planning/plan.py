"""The execution plan of a run: decided at admission and recorded in the log.

Descriptors and configurations change while runs wait in queues. A run uses what was checked at its admission: the
image, the typed parameters, the workflow's description at that time, and the options of its job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.slurm.parsing import array_expression
from biomeroworker.cluster.slurm.scheduler import JobSpec
from biomeroworker.config import Settings
from biomeroworker.domain.plan import RunPlan
from biomeroworker.domain.request import RecordedRequest, RunRequest
from biomeroworker.domain.source import Provenance
from biomeroworker.engine.planning import job_options
from biomeroworker.eventlog.aggregates.records import Attempt
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.workflows import attempt_folder, parameters
from biomeroworker.workflows.descriptor import Workflow


class ExecutionPlan(RunPlan):
    """The recorded plan with the workflow's description: nothing else decides what is run."""

    workflow: Workflow

    @classmethod
    def resolve(
        cls, request: RunRequest, workflow: Workflow, name: str, cluster: Cluster, settings: Settings
    ) -> ExecutionPlan:
        """Decide it; raises what is wrong with the request, the configuration or the cluster."""
        configured = settings.workflows[request.workflow]
        job_options.check(settings, request)
        values = parameters.validate(workflow, request.parameters, request.files)
        image = cluster.image(configured.path, workflow.container_image, request.version)
        return cls(
            image=image.path,
            version=image.version,
            digest=image.digest,
            converter="" if workflow.format == "zarr" or request.use_zarr else cluster.converter().path,
            gpu=configured.use_gpu,
            options=job_options.options(settings, request),
            parameters=values,
            workflow=workflow,
            accepts=configured.accepts,
            cluster=name,
        )

    @classmethod
    def from_run(cls, run: WorkflowRun) -> ExecutionPlan:
        """Read the plan that the run's log holds. Fields that only another version knows are ignored."""
        return cls.model_validate(run.intent(RunState.EXPORTING), extra="ignore")

    def detail(self) -> dict[str, Any]:
        """The values that the log records."""
        return self.model_dump(mode="json")

    def write_attempt_folder(
        self,
        folder: Path,
        run_folder: str,
        remote_attempt: str,
        cluster: Cluster,
        tasks: Sequence[int] = (),
        files: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write an attempt's folder on this machine, as it will be on the cluster, with a subfolder per array task.

        ``files`` has the values of file parameters.
        """
        wants_tiff = bool(self.converter)
        runtime = cluster.runtime
        prefix = runtime.exec_prefix if self.workflow.command else runtime.run_prefix
        binds = cluster.binds(run_folder)

        def arguments(task: int | None) -> Sequence[str]:
            places = attempt_folder.folders(remote_attempt, tiff=wants_tiff, task=task)
            return parameters.arguments(self.workflow, {**self.parameters, **files}, places)

        attempt_folder.prepare_attempt(
            folder,
            remote_attempt=remote_attempt,
            prefix=[*prefix(self.image, binds=binds, gpu=self.gpu), *self.workflow.command],
            converter_prefix=runtime.exec_prefix(self.converter, binds=binds, gpu=False) if wants_tiff else None,
            arguments={task: arguments(task) for task in tasks} if tasks else arguments(None),
            image_path=self.image,
            converter_image=self.converter,
            data_folder=run_folder,
        )

    def job(self, attempt: Attempt, remote_attempt: str, throttle: int = 0) -> JobSpec:
        """The job of an attempt; at most ``throttle`` tasks of an array run at once (0: no limit)."""
        output_folder = f"{remote_attempt}/{attempt_folder.task_name('%a')}" if attempt.tasks else remote_attempt
        return JobSpec(
            name=attempt.name,
            script=f"{remote_attempt}/{attempt_folder.SCRIPT}",
            stdout=f"{output_folder}/{attempt_folder.STDOUT}",
            workdir=remote_attempt,
            arguments=(remote_attempt,),
            options=job_options.excluding(self.options, attempt.excluded_nodes),
            array=array_expression(attempt.tasks, throttle) if attempt.tasks else "",
            hold=attempt.is_held,
        )

    def provenance(self, run: WorkflowRun) -> Provenance:
        """The provenance that is attached to all outputs of the run's attempt."""
        return Provenance(
            run=str(run.id),
            attempt=run.attempt,
            workflow=run.workflow,
            version=self.version,
            image=self.image,
            image_digest=self.digest,
            parameters={**self.parameters, **_references(run.recorded_request)},
            job_id=run.attempts[run.attempt].job_id or -1,
        )


def _references(request: RecordedRequest) -> dict[str, str]:
    """The values of file parameters, for people: the references that were given."""
    kind = "FileAnnotation:" if request.source == "omero" else ""
    return {
        parameter: ", ".join(f"{kind}{reference}" for reference in references)
        for parameter, references in request.files.items()
    }
