"""Folders of data on the cluster: one account of the cluster serves all users."""

from types import SimpleNamespace

import pytest

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.deployment import fetch_results
from biomeroworker.deployment.data_folders import DataFolders
from biomeroworker.deployment.run_actions import Requester
from biomeroworker.domain.manifest import InputImage, InputManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import Permanent, RequestRejected
from biomeroworker.eventlog.runlog import RunLog
from tests.fakes.runtime import FakeRuntime
from tests.fakes.transport import FakeTransport

ADA, BOB, ADMIN = Requester(7), Requester(8), Requester(0, is_admin=True)


@pytest.fixture
def deployment(tmp_path):
    cluster = Cluster(
        FakeTransport(tmp_path / "home"), FakeRuntime(tmp_path / "registry"),
        data="data", images="images", converters="converters", converter_images={},
    )  # fmt: skip
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        yield SimpleNamespace(cluster=cluster, clusters={"": cluster}, log=log)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "image-1.ome.zarr").mkdir(parents=True)
    (folder / "image-1.ome.zarr/.zattrs").write_text("{}")
    return folder


def manifest(*ids):
    images = [
        InputImage(
            key=f"image-{n}", path=f"image-{n}.ome.zarr", name=f"i{n}", shape=(1, 1, 1, 2, 2), pixel_type="uint8"
        )
        for n in ids
    ]
    return InputManifest(run="cells", images=tuple(images))


def test_images_are_sent_and_those_of_a_second_transfer_are_added(deployment, images, tmp_path):
    folders = DataFolders(deployment, ADA)
    folders.send("cells", images, manifest=manifest(1))
    folders.send("cells", images, manifest=manifest(2))
    assert (tmp_path / "home/data/cells/data/in/image-1.ome.zarr/.zattrs").is_file()
    assert [image.key for image in folders.manifest(folders.existing("cells")).images] == ["image-1", "image-2"]


def test_a_folder_belongs_to_the_user_who_made_it(deployment, images):
    DataFolders(deployment, ADA).send("cells", images)
    for act in (
        lambda: DataFolders(deployment, BOB).existing("cells"),
        lambda: DataFolders(deployment, BOB).send("cells", images),
    ):
        with pytest.raises(RequestRejected, match="belongs to another user"):
            act()
    assert DataFolders(deployment, ADMIN).existing("cells")


def test_a_folder_without_an_owner_is_for_administrators(deployment, tmp_path):
    (tmp_path / "home/data/old").mkdir(parents=True)
    with pytest.raises(RequestRejected, match="an administrator may use it"):
        DataFolders(deployment, ADA).existing("old")
    assert DataFolders(deployment, ADMIN).existing("old")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "/etc", ".hidden", "a\nb", "x" * 201])
def test_a_name_that_leaves_the_data_folder_is_refused(deployment, name):
    with pytest.raises(RequestRejected, match="not a name of a folder"):
        DataFolders(deployment, ADMIN).path(name)


def test_the_folder_of_a_run_that_a_supervisor_executes_is_refused(deployment):
    request = RunRequest(workflow="w", source="omero", inputs={}, user=7)
    run = deployment.log.accept(request.model_dump(mode="json"), name="w", description="", user=7, group=1)
    with pytest.raises(RequestRejected, match="a supervisor executes"):
        DataFolders(deployment, ADA).path(f"biomero_{run}")


def test_the_folder_of_a_run_that_a_script_recorded_belongs_to_its_user(deployment, tmp_path):
    run = deployment.log.tracker.initiate_workflow("w", "w", 7, 1)
    (tmp_path / f"home/data/biomero_{run}").mkdir(parents=True)
    assert DataFolders(deployment, ADA).existing(f"biomero_{run}")
    with pytest.raises(RequestRejected, match="belongs to another user"):
        DataFolders(deployment, BOB).existing(f"biomero_{run}")


def test_a_file_is_sent_beside_the_images(deployment, tmp_path):
    (tmp_path / "model.pt").write_text("weights")
    path = DataFolders(deployment, ADA).send_file("cells", tmp_path / "model.pt", "p1")
    assert path.endswith("/cells/data/in/p1/model.pt")
    assert (tmp_path / "home/data/cells/data/in/p1/model.pt").read_text() == "weights"
    with pytest.raises(RequestRejected, match="not a name"):
        DataFolders(deployment, ADA).send_file("cells", tmp_path / "model.pt", "../up")


def job_of(deployment, user, job):
    run = deployment.log.tracker.initiate_workflow("count", "count v1", user, 1)
    task = deployment.log.tracker.add_task_to_workflow(run, "count", "v1", "cells", {"size": 5})
    deployment.log.tracker.add_job_id(task, job)
    return run


def test_a_job_is_for_its_user_and_administrators(deployment):
    job_of(deployment, 7, 41)
    assert fetch_results.run_of_job(deployment, 41, ADA) is None
    assert fetch_results.run_of_job(deployment, 41, ADMIN) is None
    with pytest.raises(RequestRejected, match="not recorded as yours"):
        fetch_results.run_of_job(deployment, 41, BOB)
    with pytest.raises(RequestRejected, match="does not know job 99"):
        fetch_results.run_of_job(deployment, 99, ADA)


def test_results_are_fetched_with_the_names_and_parameters_of_the_log(deployment, images, tmp_path):
    run = job_of(deployment, 7, 41)
    folders = DataFolders(deployment, ADA)
    folders.send("cells", images, manifest=manifest(1))
    path = folders.existing("cells")
    with pytest.raises(Permanent, match="left no results"):
        fetch_results.fetch_folder(deployment, folders, path, 41, "", tmp_path / "none")
    (tmp_path / "home/data/cells/data/out/image-1_count.csv").write_text("n\n5\n")
    fetched = fetch_results.fetch_folder(deployment, folders, path, 41, "", tmp_path / "local")
    assert [(file.path, file.size, file.input_key) for file in fetched.results.files] == [
        ("image-1_count.csv", 4, "image-1")
    ]
    assert fetched.inputs == manifest(1)
    provenance = fetched.provenance
    assert (provenance.run, provenance.workflow, provenance.version, provenance.job_id) == (str(run), "count", "v1", 41)
    assert provenance.parameters == {"size": 5}
