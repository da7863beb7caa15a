"""What existing scripts import from biomero."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

NAMES = {
    "biomero": [
        "JobAccounting", "JobProgress", "JobProgressView", "JobView", "NoOpWorkflowTracker", "ResultDict", "Task",
        "TaskExecution", "WorkflowAnalytics", "WorkflowProgress", "WorkflowProgressView", "WorkflowRun",
        "WorkflowTracker", "wfs", "constants", "__version__",
    ],
    "biomero.eventsourcing": ["NoOpWorkflowTracker", "ResultDict", "Task", "WorkflowRun", "WorkflowTracker"],
    "biomero.views": ["JobAccounting", "JobProgress", "WorkflowAnalytics", "WorkflowProgress"],
    "biomero.database": ["JobProgressView", "JobView", "TaskExecution", "WorkflowProgressView"],
    "biomero.constants": [
        "CLEANUP", "CONVERSION_SCRIPT", "IMAGE_EXPORT_SCRIPT", "IMAGE_IMPORT_SCRIPT", "RUN_WF_SCRIPT", "conversion",
        "file_transfer", "results", "schema_formats", "slurm_env", "transfer", "workflow", "workflow_batched",
        "workflow_status",
    ],
}  # fmt: skip


@pytest.mark.parametrize("module", NAMES)
def test_the_names_are_there(module: str) -> None:
    loaded = importlib.import_module(module)
    assert [name for name in NAMES[module] if not hasattr(loaded, name)] == []


def test_the_literal_strings_are_a_contract() -> None:
    from biomero import constants, wfs

    assert wfs.JOB_STATUS + "RUNNING" == "JOB_RUNNING"
    assert constants.IMAGE_EXPORT_SCRIPT == "_SLURM_Image_Transfer.py"
    assert constants.transfer.Z_IDX_START == "OR_specify_Z_start_AND..."
    assert constants.workflow.OUTPUT_NEW_DATASET == "3a) Import into NEW Dataset"
    assert constants.results.OUTPUT_SLURM_JOB_ID == "SLURM Job Id"


def test_a_colour_asked_for_wins_and_others_stay_the_same() -> None:
    from biomero.constants import QUALITATIVE_COLOR_SCHEME, resolve_workflow_color

    run = "860236c1-6578-4ae0-b12e-8f77a6854e73"
    assert resolve_workflow_color("#FF0000", run) == "#FF0000"
    assert resolve_workflow_color(" ", run) == resolve_workflow_color(None, run)
    assert resolve_workflow_color(None, run) in QUALITATIVE_COLOR_SCHEME


def test_constants_load_without_ssh_and_without_omero() -> None:
    program = "import sys, biomero; sys.exit(any(name in sys.modules for name in ('fabric', 'paramiko', 'omero')))"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_off_tracking_takes_any_call() -> None:
    from biomero import NoOpWorkflowTracker

    assert NoOpWorkflowTracker().start_task("x", anything=1) is None


def test_stored_topics_lead_to_the_classes() -> None:
    from eventsourcing.utils import get_topic, resolve_topic

    from biomero import Task, WorkflowRun

    assert get_topic(WorkflowRun) == "biomero.eventsourcing:WorkflowRun"
    assert resolve_topic("biomero.eventsourcing:Task") is Task
    for name in ("WorkflowInitiated", "TaskAdded", "WorkflowStarted", "WorkflowCompleted", "WorkflowFailed"):
        assert get_topic(getattr(WorkflowRun, name)) == f"biomero.eventsourcing:WorkflowRun.{name}"
        assert resolve_topic(f"biomero.eventsourcing:WorkflowRun.{name}") is getattr(WorkflowRun, name)
