"""The images install the requirements of pyproject.toml, in the versions that the tests use."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[3]
IMAGE = CHECKOUT / "container/image"
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
DROP_IN = tomllib.loads((CHECKOUT / "packages/biomero/pyproject.toml").read_text())


def versions(file: Path) -> dict[str, str]:
    """The pinned versions of a lock."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", file.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def unsatisfied(requirements: list[str], lock: dict[str, str]) -> list[str]:
    """The requirements that a lock does not satisfy."""
    wanted = [Requirement(one) for one in requirements]
    return [
        str(one)
        for one in wanted
        if (version := lock.get(canonicalize_name(one.name))) is None or version not in one.specifier
    ]


def test_a_requirement_that_is_not_satisfied_is_found() -> None:
    assert unsatisfied(["numpy>=2", "zarr>=3"], {"numpy": "1.26"}) == ["numpy>=2", "zarr>=3"]


def test_the_lock_has_all_requirements_of_the_extra_omero_except_the_ice_wheel() -> None:
    wanted = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["omero"]
    missing = unsatisfied(wanted, versions(IMAGE / "requirements.lock"))
    assert [Requirement(one).name for one in missing] == ["zeroc-ice"]


def test_the_lock_has_all_requirements_of_the_drop_in_except_this_package() -> None:
    missing = unsatisfied(DROP_IN["project"]["dependencies"], versions(IMAGE / "requirements.lock"))
    assert missing == ["biomeroworker"]


def test_the_lock_has_what_the_scripts_of_others_import() -> None:
    lines = (IMAGE / "scripts.in").read_text().splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert {Requirement(one).name for one in wanted} == {"ezomero", "omero-cli-zarr", "omero-metadata"}
    assert unsatisfied(wanted, versions(IMAGE / "requirements.lock")) == []


def test_the_lock_has_the_versions_that_the_tests_use() -> None:
    tested = versions(CHECKOUT / "requirements.lock")
    image = versions(IMAGE / "requirements.lock")
    assert len(image) > 50
    assert {name: version for name, version in image.items() if tested.get(name) != version} == {}


def test_the_build_environment_has_the_build_requirements_of_this_package() -> None:
    lock = versions(IMAGE / "build-environment.lock")
    assert unsatisfied(PROJECT["build-system"]["requires"] + DROP_IN["build-system"]["requires"], lock) == []


def test_each_file_of_the_locks_has_hashes() -> None:
    for lock in IMAGE.glob("*.lock"):
        entries = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(), flags=re.MULTILINE)[1:]
        assert len(entries) == len(versions(lock))
        assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
