"""The constructor arguments of `SlurmClient` as settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from biomeroworker.config import SECTIONS, Settings, environment_values
from biomeroworker.config.ini import Value

_ORIGIN = "SlurmClient(...)"
#: Arguments that are a mapping by workflow: what follows the workflow's name in the key of ``[WORKFLOWS]``.
_BY_WORKFLOW = {
    "slurm_model_paths": "",
    "slurm_model_repos": "_repo",
    "slurm_model_jobs": "_job",
    "slurm_model_use_gpu": "_use_gpu",
}


def settings_of(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The settings that these arguments make. No ini file is read.

    The environment has the settings for which there is no argument (``BIOMERO_SSH_CONFIG_FILE``, …), and
    ``SQLALCHEMY_URL``, which takes precedence over the argument, as in biomero.

    Raises
    ------
    ConfigError
        A value is wrong.
    """
    given = {name: value for name, value in arguments.items() if value is not None and value != ""}
    if environ.get("SQLALCHEMY_URL"):
        given["sqlalchemy_url"] = environ["SQLALCHEMY_URL"]
    others = [value for value in environment_values(environ) if value.key not in arguments]
    return Settings.from_values([*others, *_values(given)], environ)


def _values(given: Mapping[str, Any]) -> Iterator[Value]:
    yield _value("SSH", "host", _destination(given))
    for section in ("SSH", "SLURM", "ANALYTICS"):
        for key in SECTIONS[section].model_fields:
            if key in given and key != "host":
                yield _value(section, key, given[key])
    for name, suffix in _BY_WORKFLOW.items():
        for workflow, value in given.get(name, {}).items():
            if value not in (None, ""):
                yield _value("WORKFLOWS", f"{workflow}{suffix}", value)
    for workflow, options in given.get("slurm_model_jobs_params", {}).items():
        for flag, value in options_of(options).items():
            yield _value("WORKFLOWS", f"{workflow}_job_{flag}", value)
    for flag, value in options_of(given.get("slurm_global_job_params", ())).items():
        yield _value("SLURM", f"sbatch_{flag}", value)
    for conversion, image in given.get("converter_images", {}).items():
        yield _value("CONVERTERS", conversion, image)


def _value(section: str, key: str, value: Any) -> Value:
    return Value(section, key, str(value), _ORIGIN)


def _destination(given: Mapping[str, Any]) -> str:
    """The host as `ssh` takes it, with the user and the port if they are given."""
    host = f"{given['user']}@{given['host']}" if given.get("user") else str(given["host"])
    return f"ssh://{host}:{given['port']}" if given.get("port") else host


def options_of(words: Iterable[str]) -> dict[str, str]:
    """Options of sbatch (``" --mem=4G"``) by name; an option without a value has the value ``true``."""
    found = {}
    for word in words:
        name, equals, value = word.strip().removeprefix("--").partition("=")
        found[name] = value if equals else "true"
    return found


def words_of(options: Mapping[str, str]) -> list[str]:
    """The same as words, as biomero has them."""
    return [f" --{name}={value}" for name, value in options.items()]
