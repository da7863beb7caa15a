"""Types and functions for the declaration of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _split(value: Any) -> Any:
    return [part for part in value.replace(",", " ").split() if part] if isinstance(value, str) else value


def _expand_home(value: Any) -> Any:
    return Path(value).expanduser() if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
LocalPath = Annotated[Path, BeforeValidator(_expand_home)]


def setting(default: Any, meaning: str, *env: str, **checks: Any) -> Any:
    """A setting, its meaning, and the environment variables that override it; the first one that is set wins."""
    return Field(default, description=meaning, json_schema_extra={"env": list(env)}, **checks)


def ignored(default: Any, meaning: str, *env: str, **checks: Any) -> Any:
    """A setting of biomero that has no effect: accepted, with a warning when it is set."""
    return Field(default, description=meaning, json_schema_extra={"env": list(env), "ignored": True}, **checks)


class Section(BaseModel):
    """A section of the ini file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Located(BaseModel):
    """Settings with the place where each was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: ``file:line`` or ``environment NAME`` by ``SECTION.key``, for the settings that are not defaults.
    origins: dict[str, str] = Field(default_factory=dict, repr=False, exclude=True)

    def section(self, name: str) -> str:
        """The name of a section in the ini."""
        return name

    def is_set(self, section: str, key: str) -> bool:
        """Whether a setting was written, in a file or in the environment."""
        return f"{self.section(section)}.{key}" in self.origins

    def line(self, section: str, key: str) -> str:
        """Where to change a setting: ``file:line: [SECTION] key``, or ``[SECTION] key`` if it is a default."""
        section = self.section(section)
        origin = self.origins.get(f"{section}.{key}", "")
        return f"{origin}: [{section}] {key}" if origin else f"[{section}] {key}"
