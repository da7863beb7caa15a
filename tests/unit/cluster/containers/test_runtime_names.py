"""Images by name: references, file names, versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomeroworker.cluster.containers import runtime
from biomeroworker.cluster.containers.runtime import Reference
from biomeroworker.errors import ConfigError

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "registry", "name", "version", "file", "printed"),
    [
        ("cellularimagingcf/w_cellpose:v1.4.0", "", "w_cellpose", "v1.4.0", "w_cellpose_v1.4.0.sif",
         "cellularimagingcf/w_cellpose:v1.4.0"),
        ("org/name", "", "name", "latest", "name_latest.sif", "org/name:latest"),
        ("ubuntu:22.04", "", "ubuntu", "22.04", "ubuntu_22.04.sif", "ubuntu:22.04"),
        ("ghcr.io/org/img:v1.0", "ghcr.io", "img", "v1.0", "img_v1.0.sif", "ghcr.io/org/img:v1.0"),
        ("127.0.0.1:5000/lab/x:v1", "127.0.0.1:5000", "x", "v1", "x_v1.sif", "127.0.0.1:5000/lab/x:v1"),
        ("localhost/a/b", "localhost", "b", "latest", "b_latest.sif", "localhost/a/b:latest"),
        ("docker://org/name:v2", "", "name", "v2", "name_v2.sif", "org/name:v2"),
        (f"org/name@{DIGEST}", "", "name", "sha256-abababababab", "name_sha256-abababababab.sif", f"org/name@{DIGEST}"),
        (f"org/name:v3@{DIGEST}", "", "name", "v3", "name_v3.sif", f"org/name@{DIGEST}"),
    ],
)  # fmt: skip
def test_every_form_of_a_reference_is_read(
    text: str, registry: str, name: str, version: str, file: str, printed: str
) -> None:
    reference = Reference.parse(text)
    assert (reference.registry, reference.name, reference.version) == (registry, name, version)
    assert runtime.image_file(reference) == file
    assert str(reference) == printed
    assert runtime.version_of(file) == version


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "org/name:tag:tag",
        "../x",
        "org//name",
        "$(id)/x",
        "-rf",
        "a/b;c",
        "a\nb",
        "lab/ü:v1",
        "lab/x:-v",
        "`id`",
        "lab/x:v1\n2",
        "lab/'x'",
    ],
)
def test_a_text_that_is_not_an_image_reference_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="does not name a container image"):
        Reference.parse(text)


@given(st.text())
def test_accepted_references_are_safe_in_paths_and_json(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ConfigError:
        return
    assert not set(str(reference) + runtime.image_file(reference)) & set(" \"'\\$`;&|<>\n\0*?~")
    assert "/" not in runtime.image_file(reference)


def test_an_image_reference_at_another_version() -> None:
    reference = Reference.parse(f"ghcr.io/org/name:v1@{DIGEST}")
    assert str(reference.at("v2")) == "ghcr.io/org/name:v2"
    assert reference.at("") is reference
    for version in ("../../v2", "-rf", "$(id)", "`id`", "a b", "v1\n", "v1'", 'v"1', "ü", "v1;x", "a" * 129):
        with pytest.raises(ConfigError, match="is not a version"):
            reference.at(version)


def test_versions_sort_as_versions() -> None:
    names = ["v1.9", "v1.10", "v1.10.0-rc1", "v2.0-beta", "latest", "v1.2.3", "0.9", "v1.10.1", "main"]
    files = [f"w_model_{name}.sif" for name in names]
    assert runtime.versions(files) == [
        "v2.0-beta", "v1.10.1", "v1.10", "v1.10.0-rc1", "v1.9", "v1.2.3", "0.9", "main", "latest",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "version"),
    [("w_2d_v1.0.sif", "v1.0"), ("x_v1_beta.sif", "v1_beta"), ("name_main.sif", "main"), ("nothing.sif", "")],
)
def test_the_version_is_found_in_a_file_name(file: str, version: str) -> None:
    assert runtime.version_of(file) == version


@given(st.lists(st.text(), max_size=6))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    assert len(runtime.versions(names)) <= len(names)


def test_a_record_that_cannot_be_read_is_none() -> None:
    assert runtime.digest_in(runtime.parse_record('{"sha256": "' + "ab" * 32 + '"}')) == "sha256:" + "ab" * 32
    for text in ("", "{", "[]", '{"sha256": "x"}', "null"):
        assert runtime.digest_in(runtime.parse_record(text)) == ""
