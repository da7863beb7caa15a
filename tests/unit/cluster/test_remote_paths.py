"""Paths and names of runs on the cluster."""

from uuid import UUID, uuid4

import pytest

from biomeroworker.cluster import paths
from biomeroworker.errors import ConfigError

RUN = UUID("3f0e8f9a-1111-4222-8333-444455556666")


def test_an_attempts_name_is_read_back() -> None:
    run = uuid4()
    assert paths.parse_attempt_name(paths.attempt_name(run, 12)) == (run, 12)
    assert paths.attempt_name(RUN, 1) == f"biomero-{RUN}-1"


@pytest.mark.parametrize("name", ["", "omero-job-cellpose", f"biomero-{RUN}", f"biomero-{RUN}-0", f"xbiomero-{RUN}-1"])
def test_other_jobs_are_none_of_ours(name: str) -> None:
    assert paths.parse_attempt_name(name) is None


def test_attempts_lie_below_their_run() -> None:
    places = paths.RemotePaths("/data", "/images", "/conv")
    assert places.attempt_folder(str(RUN), 2) == f"/data/biomero_{RUN}/attempt-2"
    assert places.images_of("workflows/cellpose") == "/images/workflows/cellpose"


@pytest.mark.parametrize("path", ["", "..", "a/../..", "a//b", "./a"])
def test_an_image_folder_stays_below_the_images(path: str) -> None:
    with pytest.raises(ConfigError):
        paths.RemotePaths("/d", "/i", "/c").images_of(path)


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
def test_what_only_a_shell_could_expand_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"only ~/ and \$HOME/ are expanded"):
        paths.expand_home(path, "/home/u")
