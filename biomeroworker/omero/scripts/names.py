"""Names of the parameters of the scripts that run workflows, where they depend on a workflow or are ours; their texts.

Other programs send these names; `domain.constants` has the fixed ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biomeroworker.domain.constants import transfer, workflow

#: The types of object that a run can have as inputs.
DATA_TYPES = (
    transfer.DATA_TYPE_DATASET,
    transfer.DATA_TYPE_IMAGE,
    transfer.DATA_TYPE_PLATE,
    transfer.DATA_TYPE_SCREEN,
)
DATASET_ID = "Dataset_ID"
SCREEN_ID = "Screen_ID"
#: End the script when the runs are accepted.
DETACH = "Detach"


def version_name(workflow: str) -> str:
    """The parameter that holds the version of a workflow."""
    return f"{workflow}_Version"


def parameter_name(workflow: str, parameter: str) -> str:
    """The parameter that holds a parameter of a workflow."""
    return f"{workflow}_|_{parameter}"


def file_name(workflow: str, parameter: str) -> str:
    """The parameter that holds the IDs of file annotations for a file parameter of a workflow."""
    return parameter_name(workflow, f"FILE_{parameter}")


def text_of(inputs: Mapping[str, Any], name: str) -> str:
    """The text that was given for a parameter; empty if it is the text that means "no"."""
    value = str(inputs.get(name) or "").strip()
    return "" if value == workflow.NO else value
