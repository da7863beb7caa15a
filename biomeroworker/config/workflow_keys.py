"""Assign the keys of ``[WORKFLOWS]`` to workflows.

The name of a workflow may contain ``_job_`` or start with the name of another, and the keys may be in any order. So the
names are determined first: a key names a workflow if there is a key with ``_repo`` for it, or if it is not an attribute
of another workflow. An attribute belongs to the longest name that fits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

_ATTRIBUTES = ("_repo", "_job", "_use_gpu", "_cluster", "_accepts")


def names_in(keys: Collection[str]) -> set[str]:
    """The names of the workflows that the keys configure."""
    names = {key.removesuffix("_repo") for key in keys if key.endswith("_repo")}
    for key in sorted(keys, key=len):
        if key in names or _looks_like_attribute(key):
            continue
        if attribute_of(key, (names | set(keys)) - {key}) is None:
            names.add(key)
    return names


def attribute_of(key: str, names: Collection[str]) -> tuple[str, str] | None:
    """The workflow of a key and its attribute: ``repo``, ``job``, ``cluster``, ``use_gpu``, ``job_mem``, …"""
    fitting = [
        name
        for name in names
        if key.startswith(name) and (key[len(name) :] in _ATTRIBUTES or _is_flag(key[len(name) :]))
    ]
    if not fitting:
        return None
    name = max(fitting, key=len)
    return name, key[len(name) + 1 :]


def describe(values: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[str, ...]], list[str]]:
    """Fields by workflow, the place of each key in them, and the keys that belong to no workflow."""
    names = names_in(values)
    found: dict[str, dict[str, Any]] = {name: {"path": name} for name in sorted(names)}
    places: dict[str, tuple[str, ...]] = {}
    unknown = []
    for key, text in values.items():
        if key in names:
            found[key]["path"] = text
            places[key] = (key, "path")
        elif found_in := attribute_of(key, names):
            name, attribute = found_in
            if attribute.startswith("job_"):
                flag = attribute.removeprefix("job_")
                found[name].setdefault("job_params", {})[flag] = text
                places[key] = (name, "job_params", flag)
            else:
                found[name][attribute] = text
                places[key] = (name, attribute)
        else:
            unknown.append(key)
    return found, places, unknown


def _is_flag(rest: str) -> bool:
    return rest.startswith("_job_") and len(rest) > len("_job_")


def _looks_like_attribute(key: str) -> bool:
    """Whether a key has the form of an attribute, of a workflow that has no key of its own."""
    return key.endswith(_ATTRIBUTES) or "_job_" in key
