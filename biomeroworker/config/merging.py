"""Merge the values of all sources into the structure that the schema validates. Later sources override earlier ones.

Unknown keys and keys without effect are warnings, not errors, because ini files of biomero contain such keys.
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
from biomeroworker.config.workflow_keys import describe
from biomeroworker.errors import ConfigError

#: Settings whose values may contain a blank before ``;`` or ``#``.
_MAY_CONTAIN_COMMENT_MARKS = frozenset({"slurm_zip_cmd", "sbatch_comment"})
#: Settings whose values may have several lines.
_MULTILINE = frozenset({"insecure_registries"})
_CLUSTER = re.compile(r"[a-z0-9][a-z0-9._-]*")

Place = tuple[str | int, ...]


@dataclass
class MergedSettings:
    """The merged values: ``data`` for the schema to validate, ``places`` with the source of each part of it."""

    data: dict[str, Any]
    places: dict[Place, Value] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def origins(self) -> dict[str, str]:
        """The origin of each value by ``SECTION.key``."""
        return {f"{_modern(value.section)}.{value.key}": value.origin for value in self.places.values()}


def merge(values: Iterable[Value], sections: Mapping[str, type[Section]]) -> MergedSettings:
    """Merge values; later ones override earlier ones.

    Raises
    ------
    ConfigError
        The name of a cluster is invalid, or a workflow names a cluster without sections.
    """
    last: dict[tuple[str, str], Value] = {}
    legacy: dict[tuple[str, str], Value] = {}
    for value in values:
        target = legacy if value.section == "MODELS" else last
        target[_modern(value.section), value.key] = value
    last = legacy | last  # [MODELS], the former name of [WORKFLOWS], has lower precedence

    found = MergedSettings({name.lower(): {} for name in sections if name not in CLUSTER_SECTIONS})
    found.data |= {"converters": {}, "clusters": {"": {}}}
    for (section, _key), value in last.items():
        head, _, cluster = section.partition(":")
        if cluster and head in CLUSTER_SECTIONS:
            if not _CLUSTER.fullmatch(cluster):
                raise ConfigError(f"{value.origin}: [{section}]: a name of a cluster has only letters, digits, . _ -")
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
        if re.search(r"\s[#;]", value.text) and value.key not in _MAY_CONTAIN_COMMENT_MARKS:
            found.warnings.append(
                f"{value.origin}: [{section}] {value.key}: everything after '=' is the value; "
                "put comments on a separate line"
            )
        kind = sections.get(head)
        if kind is not None:
            field_info = kind.model_fields.get(value.key)
            if field_info is not None and field_extras(field_info).get("ignored"):
                meaning = field_info.description
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
    found.data["workflows"], where, unknown = describe({key: value.text for key, value in keys.items()})
    found.places |= {("workflows", *place): keys[key] for key, place in where.items()}
    for key in unknown:
        found.warnings.append(f"{keys[key].origin}: [WORKFLOWS] {key} belongs to no workflow: there is no key <name>")
    for name, workflow in found.data["workflows"].items():
        if cluster := workflow.get("cluster"):
            workflow["cluster"] = cluster.lower()
            if workflow["cluster"] not in found.data["clusters"]:
                value = found.places["workflows", name, "cluster"]
                known = ", ".join(filter(None, found.data["clusters"])) or "none"
                raise ConfigError(
                    f"{value.origin}: [WORKFLOWS] {value.key} = {cluster!r}: there is no section [SSH:{cluster}] "
                    f"(named clusters: {known})"
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
    """Errors in the combination of values: two kinds of GPU request for one cluster; an indented setting."""
    errors = []
    for place, value in found.places.items():
        _, broken, rest = value.text.partition("\n")
        if broken and place[-1] not in _MULTILINE:
            rest = rest.partition("\n")[0].partition("=")[0].strip()
            errors.append(
                f"{value.origin}: [{value.section}] {value.key}: the next line is indented and so part of the value; "
                f"remove the blanks before {rest!r}"
            )
    for name in found.data["clusters"]:
        both = [found.places.get(("clusters", name, "slurm", key)) for key in ("gpu_gres", "gpu_gpus")]
        if all(both):
            where = ", ".join(value.origin for value in both if value)
            errors.append(f"{where}: [SLURM] gpu_gres and gpu_gpus exclude each other: set one of them")
    return errors


def _modern(section: str) -> str:
    return "WORKFLOWS" if section == "MODELS" else section


def _unknown(section: str, key: str, sections: Mapping[str, type[Section]]) -> str:
    head, _, cluster = section.partition(":")
    if cluster and head not in CLUSTER_SECTIONS:
        return f"there is no section [{section}]; the sections of a cluster are [SSH:…], [SLURM:…] and [ACCOUNTS:…]"
    if head == "ACCOUNTS":
        return f"[{section}] {key} is not a setting; use one of: {_names_of(AccountSettings)}"
    if head not in sections:
        return f"there is no section [{section}]"
    close = difflib.get_close_matches(key, sections[head].model_fields, n=1)
    unknown = f"[{section}] {key} is not a setting"
    if head == "SSH" and not close:
        return f"{unknown}: put user, port, keys and jump hosts into ~/.ssh/config, under this host"
    return f"{unknown}; did you mean {close[0]}?" if close else unknown


def _names_of(kind: type[AccountSettings]) -> str:
    return ", ".join(str(field_extras(field).get("ini", key)) for key, field in kind.model_fields.items())
