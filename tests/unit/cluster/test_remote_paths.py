"""Paths and names of runs on the cluster."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from biomeroworker.cluster import paths
from biomeroworker.errors import ConfigError, Transient
from tests.fakes.transport import FakeTransport

RUN = UUID("3f0e8f9a-1111-4222-8333-444455556666")


def test_an_attempt_name_is_parsed_back() -> None:
    run = uuid4()
    assert paths.parse_attempt_name(paths.attempt_name(run, 12)) == (run, 12)
    assert paths.attempt_name(RUN, 1) == f"biomero-{RUN}-1"


@pytest.mark.parametrize("name", ["", "omero-job-cellpose", f"biomero-{RUN}", f"biomero-{RUN}-0", f"xbiomero-{RUN}-1"])
def test_names_of_other_jobs_are_not_attempts(name: str) -> None:
    assert paths.parse_attempt_name(name) is None


@pytest.fixture
def transport(tmp_path: Path) -> FakeTransport:
    return FakeTransport(tmp_path)


def test_attempts_lie_below_their_run_and_images_below_their_workflow(transport: FakeTransport) -> None:
    remote = paths.RemotePaths(transport, data="/data", images="/images", converters="/conv")
    assert remote.attempt_folder(str(RUN), 2) == f"/data/biomero_{RUN}/attempt-2"
    assert paths.image_folder(remote.images, "workflows/cellpose") == "/images/workflows/cellpose"


def test_the_home_folder_is_looked_up_once_and_only_for_relative_folders(transport: FakeTransport) -> None:
    remote = paths.RemotePaths(transport, data="data", images="/images", converters="~/conv")
    assert (remote.images, remote.data_from_home) == ("/images", "data")
    assert transport.executions == 0
    assert (remote.data, remote.converters, remote.home) == (
        f"{transport.home}/data", f"{transport.home}/conv", str(transport.home),
    )  # fmt: skip
    assert remote.data_from_home == remote.data
    assert transport.executions == 1


def test_a_home_folder_that_another_answer_contained_is_not_looked_up(transport: FakeTransport) -> None:
    remote = paths.RemotePaths(transport, data="data", images="images", converters="conv")
    remote.learn_home("/home/u")
    assert (remote.data, remote.absolute("x")) == ("/home/u/data", "/home/u/x")
    assert transport.executions == 0


def test_threads_that_need_the_home_folder_at_the_same_time_look_it_up_once(transport: FakeTransport) -> None:
    remote = paths.RemotePaths(transport, data="data", images="images", converters="conv")
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: remote.home, range(8))) == {str(transport.home)}
    assert transport.executions == 1


def test_a_cluster_that_names_no_home_folder_is_transient(transport: FakeTransport) -> None:
    transport.answer(["sh"], stdout="", stderr="cd: no such folder", returncode=1)
    with pytest.raises(Transient, match="home folder"):
        paths.RemotePaths(transport, data="data", images="images", converters="conv").query_home()


@pytest.mark.parametrize("path", ["", "..", "a/../..", "a//b", "./a"])
def test_an_image_folder_must_be_below_the_images(path: str) -> None:
    with pytest.raises(ConfigError):
        paths.image_folder("/i", path)


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("my-scratch/data", "/home/u/my-scratch/data"), ("/gpfs/x/", "/gpfs/x"), ("~/data", "/home/u/data"),
        ("$HOME/data", "/home/u/data"), ("${HOME}/data", "/home/u/data"), ("~", "/home/u"), ("", "/home/u"),
    ],
)  # fmt: skip
def test_paths_start_at_home(path: str, absolute: str) -> None:
    assert paths.expand_home(path, "/home/u") == absolute


@pytest.mark.parametrize("path", ["$SCRATCH/data", "~other/data", "a/$(id)"])
def test_paths_that_need_a_shell_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"only ~/ and \$HOME/ are expanded"):
        paths.expand_home(path, "/home/u")
