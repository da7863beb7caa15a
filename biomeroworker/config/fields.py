"""What the settings are declared with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _listed(value: Any) -> Any:
    return [part for part in value.replace(",", " ").split() if part] if isinstance(value, str) else value


def _home(value: Any) -> Any:
    return Path(value).expanduser() if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
LocalPath = Annotated[Path, BeforeValidator(_home)]


def setting(default: Any, meaning: str, *env: str, **checks: Any) -> Any:
    """A setting with its meaning and the variables that override it, the first one first."""
    return Field(default, description=meaning, json_schema_extra={"env": list(env)}, **checks)


def ignored(default: Any, meaning: str, *env: str, **checks: Any) -> Any:
    """A setting of old files that changes nothing any more: accepted, and said to be so when somebody sets it."""
    return Field(default, description=meaning, json_schema_extra={"env": list(env), "ignored": True}, **checks)


class Section(BaseModel):
    """A section of the ini file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
