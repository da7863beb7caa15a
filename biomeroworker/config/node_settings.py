"""The settings of the Processor."""

from __future__ import annotations

import re

from pydantic import field_validator

from biomeroworker.config.fields import Section, Words, setting


class NodeSettings(Section):
    """The Processor, which runs OMERO's scripts on this machine. A change counts for scripts that start after it."""

    forward_env: Words = setting(
        (),
        "Variables of the node that its scripts see besides those listed below, separated by commas; `LAB_*` means all "
        "that begin with `LAB_`.",
    )
    scripts_at_once: int = setting(
        32,
        "How many scripts run at the same time; further ones wait in the order in which they were started. A script "
        "that follows a run counts until the run has ended.",
        ge=1,
    )
    script_memory_gb: float | None = setting(
        None,
        "Memory in GB that a script and the processes that it started may use together; a script that uses more is "
        "ended. Unset: half of the memory of this machine or container.",
        gt=0,
    )
    script_hours: float | None = setting(
        None,
        "After so many hours a script is ended; the run that it follows goes on in the supervisor. Unset: no limit.",
        gt=0,
    )
    parse_seconds: float = setting(
        60.0, "How long a script may take to name its parameters when its dialog is opened, in seconds.", gt=0
    )

    @field_validator("forward_env")
    @classmethod
    def _names_of_variables(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*?", name):
                raise ValueError(f"{name!r} is not a variable such as LAB_PROJECT, nor a beginning such as LAB_*")
            if is_secret_of_the_worker(name):
                raise ValueError(f"{name} is a secret of the worker and is never given to scripts: remove it")
        return value


def is_secret_of_the_worker(variable: str) -> bool:
    """Whether a variable lets its reader act as the worker, or holds a secret that only the supervisor uses."""
    name = variable.removesuffix("_FILE")
    return name in ("OMERO_PASSWORD", "OMERO_ROOT_PASSWORD", "OMERO_LOCATOR", "BIOMERO_WEBHOOK_URL") or (
        name.startswith("BIOMERO") and name.endswith(("PASSWORD", "SECRET", "TOKEN"))
    )
