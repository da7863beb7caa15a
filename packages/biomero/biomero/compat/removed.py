"""Names of biomero that were removed: using one raises an error that names the replacement."""

from __future__ import annotations

from collections.abc import Mapping

_SCRIPTS = "there is one job script for all workflows, and nothing is generated; setup_job_scripts() writes it"
_RUN = "run_workflow(...) submits one job; submit(RunRequest(...)) accepts a run that a supervisor executes"
_DESCRIPTOR = "get_workflow_parameters(name) has the parameters; run_workflow(...) makes the container's arguments"
_TABLES = "the event log writes the read tables, in the transaction of each event"

#: The replacement for each removed name of `SlurmClient`.
CLIENT: Mapping[str, str] = {
    "get_update_slurm_scripts_command": _SCRIPTS,
    "generate_slurm_job_for_workflow": _SCRIPTS,
    "workflow_params_to_subs": _SCRIPTS,
    "workflow_template_subs": _SCRIPTS,
    "workflow_bilayers_folder_params_to_subs": _DESCRIPTOR,
    "workflow_params_to_envvars": _DESCRIPTOR,
    "get_cellpose_command": _RUN,
    "get_job_status_command": "check_job_status(ids)",
    "get_jobs_info_command": "list_active_jobs(), list_completed_jobs(), list_all_jobs()",
    "get_recent_log_command": "get_active_job_progress(id), get_logfile_from_slurm(id)",
    "get_or_create_github_session": "generic_descriptor_from_github(...) fetches a descriptor and caches it",
}

#: The same for ``biomero.schema_parsers``.
PARSERS: Mapping[str, str] = dict.fromkeys(
    (
        "WorkflowDescriptorAdapter", "BiomeroSchemaAdapter", "BiaflowsSchemaAdapter", "BilayersSchemaAdapter",
        "register_adapter",
    ),
    "WorkflowDescriptorParser.parse_descriptor(data) reads all formats, and no others",
)  # fmt: skip

#: The same for ``biomero.database``.
DATABASE: Mapping[str, str] = dict.fromkeys(
    ("retry_on_database_conflict", "database_transaction", "CREATED_ANY_TABLES"),
    "the event log records in one transaction, and retries after a conflict",
)

#: The same for the views.
VIEWS: Mapping[str, str] = {"update_view_table": _TABLES}


class RemovedAPI(AttributeError, NotImplementedError):
    """A name of biomero that has no counterpart here."""


def missing(owner: str, name: str, known: Mapping[str, str]) -> AttributeError:
    """Make the error for a name that ``owner`` does not have."""
    if name in known:
        return RemovedAPI(f"{owner}.{name} was removed: {known[name]}")
    return AttributeError(f"{owner} has no attribute {name!r}")
