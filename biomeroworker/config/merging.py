"""Sort the values of all sources, later ones over earlier ones, into the places that the schema has for them.

What has no place is a warning, because old files carry many such keys; so is what changes nothing any more.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from biomeroworker.config.cluster_settings import CLUSTER_SECTIONS, AccountSettings
from biomeroworker.config.fields import Section
from biomeroworker.config.ini import Value
from biomeroworker.config.rendering import SBATCH, field_extras
from biomeroworker.config.schema import WorkflowSettings
from biomeroworker.config.workflow_keys import describe
from biomeroworker.errors import ConfigError

#: The settings in whose values a blank before ``;`` or ``#`` means something.
_WITH_MARKS = frozenset({"slurm_zip_cmd", "sbatch_comment"})
#: The settings that may take several lines.
_LISTS = frozenset({"insecure_registries"})
_CLUSTER = re.compile(r"[a-z0-9][a-z0-9._-]*")

Place = tuple[str | int, ...]


@dataclass
class MergedSettings:
    """Values by their places: ``data`` is what the schema validates, ``places`` says where each part was written."""

    data: dict[str, Any]
    places: dict[Place, Value] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def origins(self) -> dict[str, str]:
        """Where each value comes from, by ``SECTION.key``."""
        return {f"{_modern(value.section)}.{value.key}": value.origin for value in self.places.values()}


def merge(values: Iterable[Value], sections: Mapping[str, type[Section]]) -> MergedSettings:
    """Later values over earlier ones, each in its place."""
    last: dict[tuple[str, str], Value] = {}
    legacy: dict[tuple[str, str], Value] = {}
    for value in values:
        target = legacy if value.section == "MODELS" else last
        target[_modern(value.section), value.key] = value
    last = legacy | last  # [MODELS] is what [WORKFLOWS] was called once, and gives way to it

    found = MergedSettings({name.lower(): {} for name in sections if name not in CLUSTER_SECTIONS})
    found.data |= {"converters": {}, "clusters": {"": {}}}
    for (section, _key), value in last.items():
        head, _, cluster = section.partition(":")
        if cluster and head in CLUSTER_SECTIONS:
            if not _CLUSTER.fullmatch(cluster):
                raise ConfigError(f"{value.origin}: [{section}]: a cluster's name is letters, digits, . _ and -")
            found.data["clusters"].setdefault(cluster, {"name": cluster, "ssh": {"host": cluster}})
        if section == "WORKFLOWS":
            continue
        place = _place(section, value.key, sections)
        if place is None:
            found.warnings.append(f"{value.origin}: {_unknown(section, value.key, sections)}")
            continue
        inner = found.data
        for step in place[:-1]:
            inner = inner.setdefault(str(step), {})
        inner[str(place[-1])] = value.text
        found.places[place] = value
        if re.search(r"\s[#;]", value.text) and value.key not in _WITH_MARKS:
            found.warnings.append(
                f"{value.origin}: [{section}] {value.key}: all of the line is the value; a comment stands in its own"
            )
        kind = sections.get(head)
        if kind and value.key in kind.model_fields and field_extras(kind.model_fields[value.key]).get("ignored"):
            meaning = kind.model_fields[value.key].description
            found.warnings.append(f"{value.origin}: [{section}] {value.key} is ignored. {meaning}")
    _merge_workflows({key: value for (section, key), value in last.items() if section == "WORKFLOWS"}, found)
    for cluster, data in found.data["clusters"].items():
        data["origins"] = {
            f"{value.section}.{value.key}": value.origin
            for place, value in found.places.items()
            if place[:2] == ("clusters", cluster)
        }
    return found


def _merge_workflows(keys: Mapping[str, Value], found: MergedSettings) -> None:
    found.data["workflows"], where, lost = describe({key: value.text for key, value in keys.items()})
    found.places |= {("workflows", *place): keys[key] for key, place in where.items()}
    found.warnings += [f"{keys[key].origin}: [WORKFLOWS] {key} belongs to no workflow" for key in lost]
    for key, place in where.items():
        told = WorkflowSettings.model_fields.get(place[1])
        if told is not None and field_extras(told).get("ignored"):
            found.warnings.append(f"{keys[key].origin}: [WORKFLOWS] {key} is ignored. {told.description}")
    for name, workflow in found.data["workflows"].items():
        if cluster := workflow.get("cluster"):
            workflow["cluster"] = cluster.lower()
            if workflow["cluster"] not in found.data["clusters"]:
                value = found.places["workflows", name, "cluster"]
                known = ", ".join(filter(None, found.data["clusters"])) or "none"
                raise ConfigError(
                    f"{value.origin}: [WORKFLOWS] {value.key} = {cluster!r}: there is no section [SSH:{cluster}] "
                    f"(clusters with a name: {known})"
                )


def _place(section: str, key: str, sections: Mapping[str, type[Section]]) -> Place | None:
    head, _, cluster = section.partition(":")
    if head in CLUSTER_SECTIONS:
        inner = _place_in_cluster(head, key, sections)
        return ("clusters", cluster, CLUSTER_SECTIONS[head], *inner) if inner else None
    if section == "CONVERTERS":
        return ("converters", key)
    if section in sections and key in sections[section].model_fields:
        return (section.lower(), key)
    return None


def _place_in_cluster(head: str, key: str, sections: Mapping[str, type[Section]]) -> Place | None:
    if head == "ACCOUNTS":
        kind, dot, name = key.partition(".")
        kind, name = kind.strip().lower(), name.strip()
        if kind in ("user", "group") and dot and name.strip('"'):
            return (kind, name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name)
        return ("required",) if key.lower() == "required" else None
    if head == "SLURM" and key.startswith(SBATCH) and len(key) > len(SBATCH):
        return ("sbatch", key.removeprefix(SBATCH))
    return (key,) if key in sections[head].model_fields and key != "sbatch" else None


def contradictions(found: MergedSettings) -> list[str]:
    """What cannot be meant: two ways to ask for GPUs, of one cluster; a value that swallowed the setting after it."""
    told = []
    for place, value in found.places.items():
        _, broken, rest = value.text.partition("\n")
        if broken and place[-1] not in _LISTS:
            rest = rest.partition("\n")[0].partition("=")[0].strip()
            told.append(
                f"{value.origin}: [{value.section}] {value.key}: the line after it is indented, and so part of it; "
                f"remove the blanks before {rest!r}"
            )
    for name in found.data["clusters"]:
        both = [found.places.get(("clusters", name, "slurm", key)) for key in ("gpu_gres", "gpu_gpus")]
        if all(both):
            where = ", ".join(value.origin for value in both if value)
            told.append(f"{where}: [SLURM] gpu_gres and gpu_gpus exclude each other: set one of them")
    return told


def _modern(section: str) -> str:
    return "WORKFLOWS" if section == "MODELS" else section


def _unknown(section: str, key: str, sections: Mapping[str, type[Section]]) -> str:
    head, _, cluster = section.partition(":")
    if cluster and head not in CLUSTER_SECTIONS:
        return f"there is no section [{section}]; a cluster has [SSH:…], [SLURM:…] and [ACCOUNTS:…]"
    if head == "ACCOUNTS":
        return f"[{section}] {key} is not a setting; there are {_names_of(AccountSettings)}"
    if head not in sections:
        return f"there is no section [{section}]"
    close = difflib.get_close_matches(key, sections[head].model_fields, n=1)
    told = f"[{section}] {key} is not a setting"
    if head == "SSH" and not close:
        return f"{told}: user, port, keys and jump hosts stand in the SSH configuration (~/.ssh/config) under that host"
    return told + (f"; is {close[0]} meant?" if close else "")


def _names_of(kind: type[AccountSettings]) -> str:
    return ", ".join(str(field_extras(field).get("ini", key)) for key, field in kind.model_fields.items())
