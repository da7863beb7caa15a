"""Which key of [WORKFLOWS] belongs to which workflow.

Names may hold ``_job_`` and may begin with one another's, and the keys come in any order, so the names are found first:
a workflow is what has a ``_repo``, or what is no other workflow's attribute. An attribute belongs to the longest name
that it can belong to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

_ATTRIBUTES = ("_repo", "_job", "_use_gpu", "_cluster")


def names_in(keys: Collection[str]) -> set[str]:
    """The names of the workflows that these keys describe."""
    names = {key.removesuffix("_repo") for key in keys if key.endswith("_repo")}
    for key in sorted(keys, key=len):
        if key not in names and attribute_of(key, (names | set(keys)) - {key}) is None and not _looks_like_one(key):
            names.add(key)
    return names


def attribute_of(key: str, names: Collection[str]) -> tuple[str, str] | None:
    """The workflow that a key describes, and what it tells of it (``repo``, ``job``, ``cluster``, ``job_mem``, …)."""
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
    """What the keys say: fields by workflow, the place of each key in them, and the keys that belong to nothing."""
    names = names_in(values)
    found: dict[str, dict[str, Any]] = {name: {"path": name} for name in sorted(names)}
    places: dict[str, tuple[str, ...]] = {}
    lost = []
    for key, text in values.items():
        if key in names:
            found[key]["path"] = text
            places[key] = (key, "path")
        elif attribute := attribute_of(key, names):
            name, what = attribute
            if what.startswith("job_"):
                flag = what.removeprefix("job_")
                found[name].setdefault("job_params", {})[flag] = text
                places[key] = (name, "job_params", flag)
            else:
                found[name][what] = text
                places[key] = (name, what)
        else:
            lost.append(key)
    return found, places, lost


def _is_flag(rest: str) -> bool:
    return rest.startswith("_job_") and len(rest) > len("_job_")


def _looks_like_one(key: str) -> bool:
    """Whether a key is an attribute of a workflow that is named nowhere."""
    return key.endswith(_ATTRIBUTES) or "_job_" in key
