"""What went wrong with descriptors in the program before this one, one test each."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from biomeroworker.cluster.containers.runtime import Reference, image_file, versions
from biomeroworker.config import Settings
from biomeroworker.errors import ConfigError, RequestRejected
from biomeroworker.workflows.catalogue import Catalogue
from biomeroworker.workflows.descriptor import ParameterType
from biomeroworker.workflows.parameters import Folders, arguments, validate
from biomeroworker.workflows.readers import DescriptorFault, read
from biomeroworker.workflows.refresh import Refresher
from biomeroworker.workflows.store import DescriptorStore, candidates
from tests.unit.workflows.descriptor_server import Site, address
from tests.unit.workflows.descriptors import BIAFLOWS, BILAYERS, BIOMERO

FOLDERS = Folders(input="/in", output="/out", ground_truth="/gt")


def without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in copy.deepcopy(content).items() if key not in names}


def test_a_whole_default_does_not_make_a_number_whole() -> None:
    assert read(BIAFLOWS).inputs[0].type is ParameterType.NUMBER
    assert validate(read(BIAFLOWS), {"radius": 2.5})["radius"] == 2.5


def test_neither_description_nor_command_line_is_needed() -> None:
    for content in (BIAFLOWS, BIOMERO):
        assert read(without(content, "description", "command-line")).command_line == ""


def test_outputs_are_read() -> None:
    content = {**copy.deepcopy(BIAFLOWS), "outputs": [{"id": "mask", "type": "image"}]}
    assert [one.id for one in read(content).outputs] == ["mask"]


@pytest.mark.parametrize("content", [BIAFLOWS, BIOMERO])
def test_the_choices_reach_the_dialog(content: dict[str, Any]) -> None:
    assert any(one.choices for one in read(content).parameters)


def test_the_tag_of_a_bilayers_image_counts() -> None:
    assert read(BILAYERS).container_image.endswith(":2.3.2")


@pytest.mark.parametrize("citations", [None, {}, {"algorithm": []}, {"algorithm": None}])
def test_a_bilayers_descriptor_needs_no_citations(citations: Any) -> None:
    assert read({**copy.deepcopy(BILAYERS), "citations": citations}).description == ""


def test_the_word_none_means_no_flag() -> None:
    content = copy.deepcopy(BILAYERS)
    content["parameters"] = [{"name": "x", "type": "textbox", "label": "X", "default": "v", "cli_tag": "None"}]
    words = arguments(read(content), validate(read(content), {}), FOLDERS)
    assert "v" in words
    assert not any("None" in word for word in words)


def test_hidden_arguments_and_the_command_of_bilayers_are_used() -> None:
    workflow = read(BILAYERS)
    assert workflow.command == ("python", "-m", "cellpose")
    assert arguments(workflow, validate(workflow, {}), FOLDERS)[-4:] == ["--verbose", "--channel", "0", "1"]


@pytest.mark.parametrize("command", ["python -m x && rm -rf ~", "python 'x", "cat | sh"])
def test_a_command_with_shell_syntax_disables_the_workflow(command: str) -> None:
    content = copy.deepcopy(BILAYERS)
    content["exec_function"]["cli_command"] = command
    with pytest.raises(DescriptorFault, match=r"exec_function\.cli_command"):
        read(content)


def test_a_switch_is_present_or_absent_and_has_a_word_only_if_declared() -> None:
    workflow = read(BILAYERS)
    words = arguments(workflow, validate(workflow, {"use_gpu": "False", "flag_word": "True"}), FOLDERS)
    assert "--word=True" in words
    assert not any(word.startswith("--use_gpu") for word in words)


def test_an_empty_value_is_not_passed_as_empty_text() -> None:
    workflow = read(BIAFLOWS)
    values = validate(workflow, {"threshold": ""})
    assert "--threshold=0.5" in arguments(workflow, values, FOLDERS)


def test_an_unknown_type_is_refused() -> None:
    content = copy.deepcopy(BILAYERS)
    content["parameters"][0]["type"] = "knob"
    with pytest.raises(DescriptorFault, match="knob"):
        read(content)


@pytest.mark.parametrize(
    ("reference", "file"),
    [
        ("img", "img_latest.sif"),
        ("org/img:v2", "img_v2.sif"),
        ("ghcr.io/org/img", "img_latest.sif"),
        ("ghcr.io/org/img:v1.0", "img_v1.0.sif"),
    ],
)
def test_an_image_file_has_the_name_of_its_image(reference: str, file: str) -> None:
    assert image_file(Reference.parse(reference)) == file


def test_versions_are_compared_by_number() -> None:
    assert versions(["w_v1.9.sif", "w_v1.10.sif", "w_latest.sif"]) == ["v1.10", "v1.9", "latest"]
    assert versions([]) == []


@pytest.mark.parametrize(
    ("location", "address"),
    [
        ("https://gitlab.com/g/w/-/tree/v1", "https://gitlab.com/g/w/-/raw/v1/descriptor.json"),
        ("https://github.com/o/w/tree/feature/x", "https://github.com/o/w/raw/feature/x/descriptor.json"),
        ("https://github.com/o/w", "https://github.com/o/w/raw/HEAD/descriptor.json"),
        ("https://any.org/w.json", "https://any.org/w.json"),
    ],
)
def test_descriptors_come_from_anywhere_and_any_ref(location: str, address: str) -> None:
    assert next(iter(candidates(location))) == address


# -- a deployment ------------------------------------------------------------------------------------------------------


def deployment(tmp_path: Path, **repos: str) -> Settings:
    lines = [f"{name} = {name}\n{name}_repo = {repo}" for name, repo in repos.items()]
    text = f"[WORKER]\nwork_folder = {tmp_path}/work\ndescriptor_refresh_hours = 1\n[WORKFLOWS]\n" + "\n".join(lines)
    (tmp_path / "site.ini").write_text(text)
    return Settings.load(tmp_path / "site.ini", {"HOME": str(tmp_path)}, standard=[])


class Front:
    """A cluster that knows versions, or is away."""

    def __init__(self, **found: list[str]) -> None:
        self.found, self.requested, self.away = found, 0, False

    def versions(self, paths: list[str]) -> dict[str, list[str]]:
        self.requested += 1
        if self.away:
            raise TimeoutError
        return {path: self.found.get(path, []) for path in paths}


def test_an_invalid_descriptor_disables_one_workflow_until_it_is_corrected(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(json.dumps(BIAFLOWS))
    (tmp_path / "bad.yaml").write_text("name: [")
    catalogue = Catalogue(deployment(tmp_path, good=f"{tmp_path}/good.json", bad=f"{tmp_path}/bad.yaml"))
    assert [name for name, _ in catalogue.usable()] == ["good"]
    assert "bad.yaml" in catalogue.problems["bad"]
    with pytest.raises(RequestRejected, match="is disabled"):
        catalogue.get("bad")
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(BIOMERO))
    assert sorted(name for name, _ in catalogue.usable()) == ["bad", "good"]
    assert catalogue.problems == {}


def places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    for key in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield from places(content[key], (*place, key))


STRANGE: list[Any] = [None, True, -1, 10**400, float("nan"), "", "a b", "'", [], [[]], [None], {}, {"a": 1}, ["'"]]


@pytest.mark.parametrize("content", [BIAFLOWS, BIOMERO, BILAYERS], ids=["biaflows", "biomero", "bilayers"])
def test_any_content_of_a_field_is_read_or_refused_with_a_fault(content: dict[str, Any]) -> None:
    usable, faults = 0, []
    for place in places(content):
        for value in STRANGE if place else ():
            changed = inner = copy.deepcopy(content)
            for step in place[:-1]:
                inner = inner[step]
            inner[place[-1]] = copy.deepcopy(value)
            try:
                assert read(changed).container_image
                usable += 1
            except DescriptorFault as fault:
                faults.append(str(fault))
    # much of a descriptor is for people, or optional; the rest is needed
    assert usable > 200
    assert len(faults) > 200
    assert [fault for fault in faults if not re.match(r"[\w.\[\]'-]+:? .*\w", fault)] == []


@pytest.mark.parametrize("content", [BIAFLOWS, BIOMERO, BILAYERS], ids=["biaflows", "biomero", "bilayers"])
def test_an_unchanged_descriptor_is_read(content: dict[str, Any]) -> None:
    assert read(copy.deepcopy(content)).parameters


@pytest.mark.parametrize("text", ["when: 2026-13-45", "n: 0b_", "n: !!bool x", "[" * 100_000, "n: " + "1" * 5000, "\0"])
def test_yaml_that_python_cannot_parse_disables_one_workflow(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    (tmp_path / "good.json").write_text(json.dumps(BIAFLOWS))
    catalogue = Catalogue(Settings.model_validate({
        "workflows": {
            "bad": {"path": "bad", "repo": f"{tmp_path}/bad.yaml"},
            "good": {"path": "good", "repo": f"{tmp_path}/good.json"},
        },
    }))  # fmt: skip
    assert [name for name, _ in catalogue.usable()] == ["good"]
    assert "bad.yaml: is not valid YAML" in catalogue.problems["bad"]


@pytest.mark.parametrize("image", ["lab/x:v1:v2", "lab//x", "Lab/X:v1", "lab/x@sha256:12"])
def test_an_invalid_image_name_disables_one_workflow(tmp_path: Path, image: str) -> None:
    content = copy.deepcopy(BIAFLOWS)
    content["container-image"]["image"] = image
    (tmp_path / "w.json").write_text(json.dumps(content))
    catalogue = Catalogue(Settings.model_validate({"workflows": {"w": {"path": "w", "repo": f"{tmp_path}/w.json"}}}))
    with pytest.raises(RequestRejected, match=r"w\.json: container image: .* does not name a container image"):
        catalogue.get("w")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://[bad", "http://.bad is not a web address"),
        ("git@github.com:lab/w.git", r"did you mean https://github.com/lab/w\?"),
        ("github.com/lab/w", r"did you mean https://github.com/lab/w\?"),
        ("ssh://git@git.lab.org/g/w", r"did you mean https://git.lab.org/g/w\?"),
        ("~nobody-at-all/w", "nobody-at-all"),
        ("a\0b", "cannot be read"),
    ],
)
def test_an_invalid_location_is_refused_with_a_suggestion(tmp_path: Path, location: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        DescriptorStore(tmp_path).load(location)


def test_citations_are_a_list_or_an_object_with_lists() -> None:
    listed = [{"name": "A", "doi": "1"}, {"name": "B", "description": "Segments nuclei."}]
    assert read({**BILAYERS, "citations": listed}).description == "Segments nuclei."
    assert read({**BILAYERS, "citations": {"algorithm": listed}}).description == "Segments nuclei."


def test_a_number_of_bilayers_may_have_the_default_none() -> None:
    one = {"name": "z_axis", "type": "integer", "default": "None", "cli_tag": "--z_axis", "optional": True}
    (parameter,) = read({**BILAYERS, "parameters": [one]}).parameters
    assert parameter.default is None
    text = {"name": "model", "type": "textbox", "default": "None", "cli_tag": "--model"}
    assert read({**BILAYERS, "parameters": [text]}).parameters[0].default == "None"


def test_hidden_arguments_and_citations_of_another_form_are_refused_or_read() -> None:
    content = copy.deepcopy(BILAYERS)
    content["exec_function"]["hidden_args"] = ["--quiet"]
    with pytest.raises(DescriptorFault, match=r"exec_function.hidden_args\[0\]: must be an object"):
        read(content)
    assert read({**BILAYERS, "citations": {"algorithm": "Segments nuclei."}}).description == "Segments nuclei."


def test_a_silent_host_delays_nothing_and_the_cache_is_used(tmp_path: Path, site: Site) -> None:
    site.pages["/w/descriptor.json"] = json.dumps(BIAFLOWS)
    settings = deployment(tmp_path, w=address(site, "/w"))
    front: Any = Front(w=["v2", "v1"])
    refresher = Refresher(settings, {"": front})
    assert refresher.refresh() == 3600
    del site.pages["/w/descriptor.json"]
    site.silence = 5
    requested = len(site.requested)
    from biomeroworker.workflows.store import Network

    dialog = Catalogue(settings, Network.NEVER)
    assert [name for name, _ in dialog.usable()] == ["w"]
    assert dialog.versions("w") == ["v2", "v1"]
    assert refresher.refresh() == 3600, "fresh content is not fetched again"
    assert len(site.requested) == requested


def test_cached_versions_remain_while_a_cluster_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps(BIAFLOWS))
    settings = deployment(tmp_path, w=f"{tmp_path}/w.json")
    front: Any = Front(w=["v1"])
    refresher = Refresher(settings, {"": front})
    refresher.refresh()
    front.away = True
    assert refresher.refresh() < 3600
    assert Catalogue(settings).versions("w") == ["v1"]


def test_a_descriptor_at_a_commit_is_fetched_once(tmp_path: Path, site: Site) -> None:
    from biomeroworker.workflows.store import DescriptorStore

    where = f"/lab/w/-/tree/{'0123456789' * 4}"
    site.pages[where.replace("tree", "raw") + "/descriptor.json"] = json.dumps(BIAFLOWS)
    store = DescriptorStore(tmp_path, fresh=0)
    for _ in range(3):
        store.load(address(site, where))
    assert len(site.requested) == 1
