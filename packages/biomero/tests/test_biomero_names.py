"""What existing scripts import from biomero."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = {
    "biomero": [
        "JobAccounting", "JobProgress", "JobProgressView", "JobView", "NoOpWorkflowTracker", "ResultDict", "Task",
        "TaskExecution", "WorkflowAnalytics", "WorkflowProgress", "WorkflowProgressView", "WorkflowRun",
        "WorkflowTracker", "wfs", "constants", "__version__", "SlurmClient", "EngineManager",
    ],
    "biomero.slurm_client": ["SlurmClient", "SlurmJob", "slurm_env"],
    "biomero.schema_parsers": [
        "DescriptorParserFactory", "ParsedWorkflowDescriptor", "WorkflowDescriptorParser", "detect_schema_format",
        "convert_schema_type_to_omero", "convert_schema_type_to_omero_rtype",
    ],
    "biomero.eventsourcing": ["NoOpWorkflowTracker", "ResultDict", "Task", "WorkflowRun", "WorkflowTracker"],
    "biomero.views": ["JobAccounting", "JobProgress", "WorkflowAnalytics", "WorkflowProgress"],
    "biomero.database": ["EngineManager", "JobProgressView", "JobView", "TaskExecution", "WorkflowProgressView"],
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


def test_a_given_colour_has_precedence_and_others_depend_on_the_run_only() -> None:
    from biomero.constants import QUALITATIVE_COLOR_SCHEME, resolve_workflow_color

    run = "860236c1-6578-4ae0-b12e-8f77a6854e73"
    assert resolve_workflow_color("#FF0000", run) == "#FF0000"
    assert resolve_workflow_color(" ", run) == resolve_workflow_color(None, run)
    assert resolve_workflow_color(None, run) in QUALITATIVE_COLOR_SCHEME


def test_constants_load_without_ssh_and_without_omero() -> None:
    program = "import sys, biomero; sys.exit(any(name in sys.modules for name in ('fabric', 'paramiko', 'omero')))"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_without_tracking_every_call_is_accepted() -> None:
    from biomero import NoOpWorkflowTracker

    assert NoOpWorkflowTracker().start_task("x", anything=1) is None


def test_stored_topics_resolve_to_the_classes() -> None:
    from eventsourcing.utils import get_topic, resolve_topic

    from biomero import Task, WorkflowRun

    assert get_topic(WorkflowRun) == "biomero.eventsourcing:WorkflowRun"
    assert resolve_topic("biomero.eventsourcing:Task") is Task
    for name in ("WorkflowInitiated", "TaskAdded", "WorkflowStarted", "WorkflowCompleted", "WorkflowFailed"):
        assert get_topic(getattr(WorkflowRun, name)) == f"biomero.eventsourcing:WorkflowRun.{name}"
        assert resolve_topic(f"biomero.eventsourcing:WorkflowRun.{name}") is getattr(WorkflowRun, name)


#: Every public method of the client of biomero 2.8.
METHODS = """
bring_listener_uptodate check_job_status cleanup_tmp_files convert_param_type_to_omtype convert_url copy_zip_locally
extract_data_location_from_log extract_job_id extract_parts_from_url from_config generate_slurm_job_for_workflow
generic_descriptor_from_github get_active_job_progress get_all_image_versions_and_data_files
get_authoritative_config_path get_cellpose_command get_config_paths get_config_write_path get_conversion_command
get_conversion_logfile_from_slurm get_file_attachment_params get_image_versions_and_data_files get_job_status_command
get_jobs_info_command get_listeners get_logfile_from_slurm get_or_create_github_session get_recent_log_command
get_unzip_command get_update_slurm_scripts_command get_workflow_command get_workflow_parameters get_zip_command
init_workflows initialize_analytics_system list_active_jobs list_all_jobs list_available_converter_versions
list_completed_jobs load_config parse_docker_image_version run_conversion_workflow_job run_workflow run_workflow_job
setup_container_images setup_converters setup_directories setup_job_scripts setup_listeners setup_slurm str_to_class
transfer_data unpack_data update_slurm_scripts validate workflow_bilayers_folder_params_to_subs
workflow_params_to_envvars workflow_params_to_subs workflow_template_subs zip_data_on_slurm_server
run put get close run_commands run_commands_split_out
slurm_data_path slurm_images_path slurm_script_path slurm_model_repos slurm_model_jobs track_workflows
jobAccounting wfProgress workflowTracker
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    from biomero import SlurmClient
    from biomeroworker.config import Settings

    with SlurmClient.from_settings(Settings.load(None, {"HOME": str(tmp_path)}, standard=[])) as client:
        yield client


@pytest.mark.parametrize("name", METHODS.split())
def test_a_method_is_present_or_its_error_names_the_replacement(client: Any, name: str) -> None:
    if not hasattr(client, name):  # hasattr is False, and access raises an error that names the replacement
        with pytest.raises(NotImplementedError, match=f"SlurmClient.{name} was removed: "):
            getattr(client, name)


def test_an_unknown_name_is_an_attribute_error(client: Any) -> None:
    with pytest.raises(AttributeError) as caught:
        client.frobnicate()
    assert not isinstance(caught.value, NotImplementedError)


@pytest.mark.parametrize(
    ("module", "name"),
    [("biomero.schema_parsers", "BiaflowsSchemaAdapter"), ("biomero.database", "retry_on_database_conflict")],
)
def test_the_error_for_a_removed_name_of_a_module_names_it(module: str, name: str) -> None:
    with pytest.raises(NotImplementedError, match=name):
        getattr(importlib.import_module(module), name)
