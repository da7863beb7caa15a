"""The folders of a cluster."""

from pathlib import Path

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.deployment import provision
from tests.fakes.transport import FakeTransport


def test_folders_are_created_below_home_and_none_is_named_tilde(tmp_path: Path) -> None:
    cluster = Cluster(
        FakeTransport(tmp_path / "me"), Apptainer(), data="~/data", images="$HOME/images", converters="converters"
    )
    provision.make_folders(cluster)
    assert sorted(one.name for one in (tmp_path / "me").iterdir()) == ["converters", "data", "images"]
    assert Path(cluster.remote_paths.data) == tmp_path / "me" / "data"
