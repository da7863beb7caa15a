"""Where the folders of a cluster are made."""

from pathlib import Path

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.deployment import provision
from tests.fakes.transport import FakeTransport


def test_folders_are_made_where_runs_look_for_them_and_none_is_called_tilde(tmp_path: Path) -> None:
    cluster = Cluster(
        FakeTransport(tmp_path / "me"), Apptainer(), data="~/data", images="$HOME/images", converters="converters"
    )
    provision.make_folders(cluster)
    assert sorted(one.name for one in (tmp_path / "me").iterdir()) == ["converters", "data", "images"]
    assert Path(cluster.remote_paths.data) == tmp_path / "me" / "data"
