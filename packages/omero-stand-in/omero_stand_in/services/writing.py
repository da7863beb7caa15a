"""What the stores of files and pixels check before they save the row behind the bytes."""

from __future__ import annotations

from omero_stand_in import errors
from omero_stand_in.context import ALL_GROUPS, Call
from omero_stand_in.graph import Entity


def check_group(call: Call, row: Entity) -> None:
    """A row is saved from within its own group only."""
    if call.group_id not in (ALL_GROUPS, row.group):
        raise errors.security(f"Currently logged into group {call.group_id}. Cannot alter object in group {row.group}")
