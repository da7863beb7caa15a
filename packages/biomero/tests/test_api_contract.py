"""Every public name of biomero 2.8.3 is present and takes the same arguments, or is in a list with the reason."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from biomero.compat.removed import RemovedAPI

#: By module: names with kind, and for methods and functions the signature; written from the release itself.
API: dict[str, dict[str, dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "data" / "biomero-2.8.3-api.json").read_text()
)

#: Names that no program outside biomero was found to use. Each raises an error that names the replacement.
REMOVED = {
    "SlurmClient": {
        # make text for a shell out of a user's values, which this program does nowhere
        "generate_slurm_job_for_workflow", "get_cellpose_command", "get_job_status_command",
        "get_jobs_info_command", "get_recent_log_command", "get_update_slurm_scripts_command",
        "workflow_bilayers_folder_params_to_subs", "workflow_params_to_envvars", "workflow_params_to_subs",
        "workflow_template_subs",
        # internals of biomero
        "get_or_create_github_session",
    },
    # the tables are written with the events
    "JobAccounting": {"update_view_table"},
    "JobProgress": {"update_view_table"},
    "WorkflowAnalytics": {"update_view_table"},
    "WorkflowProgress": {"update_view_table"},
    # formats are not extended by adapters
    "DescriptorParserFactory": {"register_adapter"},
    "WorkflowDescriptorParser": {"register_adapter"},
}  # fmt: skip
#: The same for names of modules.
REMOVED_FROM_MODULES = {
    "BiaflowsSchemaAdapter", "BilayersSchemaAdapter", "BiomeroSchemaAdapter", "CREATED_ANY_TABLES",
    "WorkflowDescriptorAdapter", "database_transaction", "retry_on_database_conflict",
}  # fmt: skip


def public_names() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for module, names in API.items():
        for name, described in names.items():
            if not name.startswith("_"):
                yield module, name, described


def members() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for module, name, described in public_names():
        for member, kind in described.get("members", {}).items():
            yield module, name, member, kind


def parameters(signature: str) -> list[inspect.Parameter]:
    """The parameters of a signature as text; annotations are left out, for they name what is not imported here."""
    kinds: list[inspect.Parameter] = []
    text = signature[1:].rpartition(")")[0]
    for part in _split(text):
        name, _, default = (piece.strip() for piece in part.partition("="))
        bare = name.partition(":")[0].strip()
        if bare.startswith("**"):
            kinds.append(inspect.Parameter(bare[2:], inspect.Parameter.VAR_KEYWORD))
        elif bare.startswith("*"):
            kinds.append(inspect.Parameter(bare[1:], inspect.Parameter.VAR_POSITIONAL))
        else:
            given = default or inspect.Parameter.empty
            starred = any(one.kind is one.VAR_POSITIONAL for one in kinds)
            kind = inspect.Parameter.KEYWORD_ONLY if starred else inspect.Parameter.POSITIONAL_OR_KEYWORD
            kinds.append(inspect.Parameter(bare, kind, default=given))
    return kinds


def _split(text: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for character in re.sub(r"'(?:[^'\\]|\\.)*'", "''", text):
        depth += (character in "[({") - (character in "])}")
        if character == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    return [part.strip() for part in [*parts, current] if part.strip()]


def test_signatures_are_read_as_they_are_written() -> None:
    read = parameters("(self, a: Dict[str, int], b: str = 'x, y', *args, c=None, **more) -> Tuple[int, str]")
    assert [(one.name, one.kind.name, one.default is inspect.Parameter.empty) for one in read] == [
        ("self", "POSITIONAL_OR_KEYWORD", True), ("a", "POSITIONAL_OR_KEYWORD", True),
        ("b", "POSITIONAL_OR_KEYWORD", False), ("args", "VAR_POSITIONAL", True),
        ("c", "KEYWORD_ONLY", False), ("more", "VAR_KEYWORD", True),
    ]  # fmt: skip


def accepts(ours: Any, theirs: str) -> str:
    """Why a call that fits their signature does not fit ours; empty if every call does."""
    mine = list(inspect.signature(ours).parameters.values())
    variadic = {one.kind for one in mine} & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    wanted = [one for one in parameters(theirs) if one.name not in ("self", "cls")]
    mine = [one for one in mine if one.name not in ("self", "cls")]
    if len(variadic) == 2 and not any(one.kind is one.POSITIONAL_OR_KEYWORD for one in mine):
        return ""
    by_name = {one.name: one for one in mine}
    positional = [one.name for one in mine if one.kind is one.POSITIONAL_OR_KEYWORD]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for number, one in enumerate(one for one in wanted if one.kind in named):
        if one.name not in by_name:
            return f"{one.name} is missing"
        if one.kind is one.POSITIONAL_OR_KEYWORD and positional[number : number + 1] != [one.name]:
            return f"{one.name} is at another place"
        if one.default is not one.empty and by_name[one.name].default is one.empty:
            return f"{one.name} has no default"
    known = {one.name for one in wanted}
    needed = [one for one in mine if one.kind in named and one.default is one.empty]
    if more := [one.name for one in needed if one.name not in known]:
        return f"{', '.join(more)} must be given"
    if any(one.kind is one.VAR_KEYWORD for one in wanted) and inspect.Parameter.VAR_KEYWORD not in variadic:
        return "no further keywords are taken"
    return ""


@pytest.mark.parametrize("module", API)
def test_every_name_is_there_and_every_call_fits(module: str) -> None:
    loaded = importlib.import_module(module)
    problems = []
    for one, name, described in public_names():
        if one != module or name in REMOVED_FROM_MODULES:
            continue
        if not hasattr(loaded, name):
            problems.append(name)
        elif described["kind"] == "function" and (why := accepts(getattr(loaded, name), described["sig"])):
            problems.append(f"{name}: {why}")
    for one, name, member, described in members():
        if one != module or name in REMOVED_FROM_MODULES or member in REMOVED.get(name, ()):
            continue
        owner = getattr(loaded, name)
        if not hasattr(owner, member) and not (described["kind"] == "attr" and member in _fields(owner)):
            problems.append(f"{name}.{member}")
        elif described.get("sig") and (why := accepts(getattr(owner, member), described["sig"])):
            problems.append(f"{name}.{member}: {why}")
    assert problems == []


def _fields(owner: Any) -> set[str]:
    return set(getattr(owner, "model_fields", ()))


def test_the_values_of_the_constants_are_the_same() -> None:
    from biomero import constants

    for name, described in API["biomero.constants"].items():
        if described["kind"] == "const":
            assert repr(getattr(constants, name)) == described["repr"]
        for member, value in described.get("members", {}).items():
            if value["kind"] == "attr" and "repr" in value:
                assert repr(getattr(getattr(constants, name), member)) == value["repr"]


def test_a_removed_name_raises_an_error_that_names_the_replacement() -> None:
    import biomero
    from biomero.schema_parsers import DescriptorParserFactory

    client = biomero.SlurmClient(config_only=True, sqlalchemy_url="sqlite://")
    for name in REMOVED["SlurmClient"]:
        with pytest.raises(RemovedAPI, match=f"{name} was removed: "):
            getattr(client, name)
    for view in (client.jobAccounting, client.jobProgress, client.wfProgress, client.workflowAnalytics):
        with pytest.raises(RemovedAPI, match="update_view_table was removed: "):
            _ = view.update_view_table
    with pytest.raises(RemovedAPI, match="register_adapter was removed: "):
        DescriptorParserFactory.register_adapter("CWL", object)
    for module, name, _ in public_names():
        if name in REMOVED_FROM_MODULES:
            with pytest.raises(RemovedAPI, match=f"{name} was removed: "):
                getattr(importlib.import_module(module), name)


def test_more_names_than_the_removed_ones_are_there() -> None:
    counted = [(module, name) for module, name, _ in public_names()]
    counted += [(name, member) for _, name, member, kind in members() if kind["kind"] in ("method", "classmethod")]
    removed = [one for one in counted if one[1] in REMOVED_FROM_MODULES | REMOVED.get(one[0], set())]
    assert (len(counted), len(removed)) == (377, 47)
