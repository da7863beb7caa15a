"""Descriptors from disk and from a real HTTP server; a cached copy is used when there is no network."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from biomeroworker.errors import ConfigError
from biomeroworker.workflows.store import NAMES, DescriptorStore, Network, candidates
from tests.unit.workflows.descriptor_server import Site, address

GOOD = json.dumps(
    {"name": "W", "schema-version": "cytomine-0.1", "container-image": {"image": "lab/w:v1"}, "inputs": []}
)


def test_a_folder_is_searched_for_each_name(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(GOOD)
    assert DescriptorStore(tmp_path / "c").load(str(tmp_path)).origin == str(tmp_path / "config.yaml")
    (tmp_path / "descriptor.json").write_text(GOOD.replace('"W"', '"first"'))
    assert DescriptorStore(tmp_path / "c").load(str(tmp_path)).name == "first"


def test_a_missing_descriptor_is_reported_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.json"):
        DescriptorStore(tmp_path).load(str(tmp_path / "nothing.json"))


def test_a_fresh_descriptor_is_not_fetched_again(tmp_path: Path, site: Site) -> None:
    site.pages["/lab/w/descriptor.yaml"] = GOOD
    store = DescriptorStore(tmp_path)
    assert store.load(address(site)).name == "W"
    assert site.requested == ["/lab/w/descriptor.json", "/lab/w/descriptor.yaml"]
    assert store.load(address(site)).name == "W"
    assert len(site.requested) == 2
    store.load(address(site), Network.ALWAYS)
    assert len(site.requested) == 4


def test_a_stale_descriptor_is_used_if_the_network_fails(tmp_path: Path, site: Site) -> None:
    site.pages["/w.json"] = GOOD
    store = DescriptorStore(tmp_path, fresh=0, timeout=0.2)
    store.load(address(site, "/w.json"))
    site.silence = 1.0
    started = time.monotonic()
    assert store.load(address(site, "/w.json")).name == "W"
    assert time.monotonic() - started < 2
    del site.pages["/w.json"]
    site.silence = 0
    assert store.load(address(site, "/w.json")).name == "W"


def test_a_dialog_never_waits_for_the_network(tmp_path: Path, site: Site) -> None:
    with pytest.raises(ConfigError, match="is not in the cache"):
        DescriptorStore(tmp_path).load(address(site), Network.NEVER)
    assert site.requested == []


def test_a_web_page_is_not_a_descriptor_and_is_not_cached(tmp_path: Path, site: Site) -> None:
    site.pages["/w.json"] = "<html>sign in</html>"
    store = DescriptorStore(tmp_path)
    with pytest.raises(ConfigError, match=r"w\.json"):
        store.load(address(site, "/w.json"))
    site.pages["/w.json"] = GOOD
    assert store.load(address(site, "/w.json")).name == "W"


@pytest.mark.parametrize("secret", ["http://me:s3cret@{}/w.json", "http://{}/w.json?private_token=s3cret"])
def test_a_password_in_an_address_is_used_but_neither_printed_nor_cached(
    tmp_path: Path, site: Site, secret: str
) -> None:
    place = secret.format(address(site, "").removeprefix("http://"))
    path = place.partition("/w.json")[2]
    store = DescriptorStore(tmp_path)
    answer_text = []
    for pages in ({}, {f"/w.json{path}": "<html>"}, {f"/w.json{path}": "\xff"}):
        site.pages = pages
        with pytest.raises(ConfigError) as refused:
            store.load(place)
        answer_text.append(str(refused.value))
    with pytest.raises(ConfigError) as refused:
        store.load(place, Network.NEVER)
    answer_text.append(str(refused.value))
    site.pages = {f"/w.json{path}": GOOD}
    answer_text += [store.load(place).origin, *(file.read_text() for file in tmp_path.iterdir())]
    assert len(answer_text) == 6
    assert not [text for text in answer_text if "s3cret" in text]
    assert all("***" in text for text in answer_text)


def test_a_damaged_cache_file_is_fetched_again(tmp_path: Path, site: Site) -> None:
    site.pages["/w.json"] = GOOD
    store = DescriptorStore(tmp_path)
    store.load(address(site, "/w.json"))
    next(tmp_path.glob("*.json")).write_text("{")
    assert store.load(address(site, "/w.json")).name == "W"


def test_a_descriptor_error_names_the_field(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(GOOD.replace("cytomine-0.1", "cwl").replace("container-image", "x"))
    with pytest.raises(ConfigError, match=r"bad\.json: schema-version"):
        DescriptorStore(tmp_path / "c").load(f"{tmp_path}/bad.json")


@pytest.mark.parametrize(
    ("location", "first"),
    [
        ("https://github.com/lab/w", "https://github.com/lab/w/raw/HEAD/descriptor.json"),
        ("https://github.com/lab/w.git", "https://github.com/lab/w/raw/HEAD/descriptor.json"),
        ("https://github.com/lab/w/tree/v1.2", "https://github.com/lab/w/raw/v1.2/descriptor.json"),
        ("https://github.com/lab/w/tree/feature/x", "https://github.com/lab/w/raw/feature/x/descriptor.json"),
        ("https://github.com/lab/w/blob/v1/sub/config.yaml", "https://github.com/lab/w/raw/v1/sub/config.yaml"),
        ("https://gitlab.com/g/sub/w", "https://gitlab.com/g/sub/w/-/raw/HEAD/descriptor.json"),
        ("https://git.lab.org/g/w/-/tree/main", "https://git.lab.org/g/w/-/raw/main/descriptor.json"),
        ("https://any.org/x/w.yml", "https://any.org/x/w.yml"),
        ("https://any.org/x/", "https://any.org/x/descriptor.json"),
    ],
)
def test_the_addresses_of_a_descriptor_are_tried_in_order(location: str, first: str) -> None:
    found = list(candidates(location))
    assert found[0] == first
    assert len(found) in (1, len(NAMES))


@pytest.mark.parametrize("name", ["descriptor.json", "config.yaml"])
def test_a_descriptor_with_a_byte_order_mark_is_read(tmp_path: Path, name: str) -> None:
    text = json.dumps({"name": "n", "container-image": {"image": "lab/n:1"}, "inputs": []})
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert DescriptorStore(tmp_path / "cache").load(str(tmp_path / name)).name == "n"
