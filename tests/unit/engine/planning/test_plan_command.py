"""The program that a descriptor names is the one that runs in the image."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.config import Settings
from biomeroworker.config.ini import Value
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.planning.plan import ExecutionPlan
from biomeroworker.workflows.readers import read
from tests.unit.workflows.descriptors import BIAFLOWS, BILAYERS


@pytest.mark.parametrize(
    ("descriptor", "verb", "words"),
    [(BILAYERS, "exec", ["/i/w.sif", "python", "-m", "cellpose"]), (BIAFLOWS, "run", ["/i/w.sif"])],
)
def test_a_bilayers_program_is_called_with_the_command_of_its_descriptor(
    tmp_path: Path, descriptor: dict[str, Any], verb: str, words: list[str]
) -> None:
    workflow = read(descriptor)
    plan = ExecutionPlan(
        image="/i/w.sif", version="v1", digest="", converter="", gpu=False, options={}, parameters={}, workflow=workflow
    )
    cluster: Any = SimpleNamespace(runtime=Apptainer("apptainer"), binds=lambda folder: [folder])
    plan.write_attempt_folder(tmp_path, "/data/run", "/data/run/attempt-1", cluster)
    called = (tmp_path / "runtime").read_bytes().decode().split("\0")[:-1]
    assert verb in called
    assert called[-len(words) :] == words


def test_a_plan_that_another_version_recorded_is_read_without_the_fields_that_are_unknown_here() -> None:
    plan = ExecutionPlan(image="/i/w.sif", version="v1", workflow=read(BIAFLOWS))
    recorded: dict[str, Any] = plan.detail() | {"later": True}
    recorded["workflow"] |= {"gpu": False, "min_cores": None}
    recorded["workflow"]["inputs"][0] |= {"unknown": 1}
    run: Any = SimpleNamespace(intent=lambda stage: recorded)
    assert ExecutionPlan.from_run(run) == plan


@pytest.mark.parametrize(("use_zarr", "converter"), [(False, "/c/convert.sif"), (True, "")])
def test_a_user_can_give_ome_zarr_to_a_workflow_that_names_tiff(use_zarr: bool, converter: str) -> None:
    settings = Settings.from_values([Value("WORKFLOWS", "w", "w", "test")])
    image = SimpleNamespace(path="/i/w.sif", version="v1", digest="")
    cluster: Any = SimpleNamespace(image=lambda *words: image, converter=lambda: SimpleNamespace(path="/c/convert.sif"))
    request = RunRequest(workflow="w", source="folder", inputs={}, use_zarr=use_zarr)
    workflow = read(BIAFLOWS)
    assert workflow.format == "tiff"
    needed = {one.id: 1 for one in workflow.parameters if not one.optional and one.default is None}
    plan = ExecutionPlan.resolve(request.model_copy(update={"parameters": needed}), workflow, "", cluster, settings)
    assert plan.converter == converter
