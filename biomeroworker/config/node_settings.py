"""The settings of the Processor, which executes the scripts of OMERO."""

from __future__ import annotations

import re

from pydantic import field_validator

from biomeroworker.config.fields import Section, Words, setting


class NodeSettings(Section):
    """The Processor, which executes the scripts of OMERO on this machine. Changes apply to scripts that start later."""

    forward_env: Words = setting(
        (),
        "Environment variables that scripts receive in addition to the standard ones, separated by commas. `LAB_*`: "
        "all that start with `LAB_`.",
    )
    scripts_at_once: int = setting(
        32,
        "Maximum number of scripts that run at the same time. Further scripts wait, in the order of their start. A "
        "script that follows a run counts until the run has ended.",
        ge=1,
    )
    script_memory_gb: float | None = setting(
        None,
        "Memory limit in GB for a script and its child processes; a script that uses more is stopped. Unset: half of "
        "the memory of this machine or container.",
        gt=0,
    )
    script_hours: float | None = setting(
        None,
        "Time limit for a script in hours; the run that it follows continues. Unset: no limit.",
        gt=0,
    )
    parse_seconds: float = setting(
        60.0, "Time limit in seconds for a script to list its parameters when its dialog is opened.", gt=0
    )

    @field_validator("forward_env")
    @classmethod
    def _are_allowed_variables(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\*?", name):
                raise ValueError(f"{name!r} is no variable: write a name (LAB_PROJECT) or a prefix (LAB_*)")
            if is_secret_of_the_worker(name):
                raise ValueError(f"{name} is a secret, which scripts must not receive: remove it")
        return value


def is_secret_of_the_worker(variable: str) -> bool:
    """Whether a variable holds a credential of this program, which scripts must not receive."""
    name = variable.removesuffix("_FILE")
    return name in ("OMERO_PASSWORD", "OMERO_ROOT_PASSWORD", "OMERO_LOCATOR", "BIOMERO_WEBHOOK_URL") or (
        name.startswith("BIOMERO") and name.endswith(("PASSWORD", "SECRET", "TOKEN"))
    )
