"""What a run is going to do, settled at the door and kept in the log.

Descriptors and configurations change while runs wait in queues. A run keeps to what was checked when it was admitted:
the image, the typed values, the workflow as it was described then, the options of its job.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from biomeroworker.cluster.scheduler import JobSpec
from biomeroworker.cluster.site import Cluster
from biomeroworker.config import Settings
from biomeroworker.engine import job
from biomeroworker.log.run import WorkflowRun
from biomeroworker.log.states import RunState
from biomeroworker.source import Provenance, RunRequest
from biomeroworker.workflows import jobscript, parameters
from biomeroworker.workflows.descriptor import Workflow


class Plan(BaseModel):
    """The detail of a run's intent to export: from there on nothing else decides what is run."""

    model_config = ConfigDict(frozen=True)

    image: str  #: its path on the cluster
    version: str
    digest: str
    converter: str  #: its path on the cluster; empty when the workflow reads OME-Zarr itself
    gpu: bool
    options: dict[str, str]
    parameters: dict[str, str | int | float | bool | None]
    workflow: Workflow

    @classmethod
    def of(cls, request: RunRequest, workflow: Workflow, cluster: Cluster, settings: Settings) -> Plan:
        """Settle it; raises what is wrong with the request, the configuration or the cluster."""
        configured = settings.workflows[request.workflow]
        job.check(settings, request)
        values = parameters.validate(workflow, request.parameters)
        image = cluster.image(configured.path, workflow.container_image, request.version)
        return cls(
            image=image.path,
            version=image.version,
            digest=image.digest,
            converter=cluster.converter().path if workflow.format == "tiff" else "",
            gpu=configured.use_gpu,
            options=job.options(settings, request),
            parameters=values,
            workflow=workflow,
        )

    @classmethod
    def kept(cls, run: WorkflowRun) -> Plan:
        """As it stands in the log."""
        return cls.model_validate(run.intent(RunState.EXPORTING))

    def detail(self) -> dict[str, Any]:
        """As it is kept in the log."""
        return self.model_dump(mode="json")

    def lay_out(self, folder: Path, run_folder: str, remote_attempt: str, cluster: Cluster) -> None:
        """Write an attempt's folder, locally, as it will lie on the cluster."""
        wants_tiff = bool(self.converter)
        runtime = cluster.runtime
        jobscript.prepare_attempt(
            folder,
            remote_attempt=remote_attempt,
            prefix=runtime.run_prefix(self.image, binds=[run_folder], gpu=self.gpu),
            converter_prefix=runtime.exec_prefix(self.converter, binds=[run_folder], gpu=False) if wants_tiff else None,
            arguments=parameters.arguments(
                self.workflow, self.parameters, jobscript.folders(remote_attempt, tiff=wants_tiff)
            ),
            image_path=self.image,
            converter_image=self.converter,
            data_folder=run_folder,
        )

    def job(self, name: str, remote_attempt: str, excluded_nodes: Iterable[str]) -> JobSpec:
        """What is submitted for an attempt."""
        return JobSpec(
            name=name,
            script=f"{remote_attempt}/{jobscript.SCRIPT}",
            stdout=f"{remote_attempt}/{jobscript.STDOUT}",
            workdir=remote_attempt,
            arguments=(remote_attempt,),
            options=job.excluding(self.options, excluded_nodes),
        )

    def provenance(self, run_id: UUID, run: WorkflowRun, workflow: str) -> Provenance:
        """What is written on everything that the run's attempt made."""
        return Provenance(
            run=str(run_id),
            attempt=run.attempt,
            workflow=workflow,
            version=self.version,
            image=self.image,
            image_digest=self.digest,
            parameters=dict(self.parameters),
            job_id=run.attempts[run.attempt].job_id or -1,
        )
