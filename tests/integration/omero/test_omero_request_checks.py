"""Requests that are refused before anything is computed: other groups, missing rights, images that do not fit."""

import json

import omero.model
import pytest

from biomeroworker.config import Settings
from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import Blocked, RequestRejected
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.request_checks import check_access
from biomeroworker.omero.scripts.acceptance import check_request
from biomeroworker.workflows.catalogue import Catalogue
from biomeroworker.workflows.store import Network
from tests.integration.omero.omero_objects import make_dataset, make_group, make_image, make_person, noise

DESCRIPTOR = {
    "schema-version": "biomero-0.1",
    "name": "flat",
    "description": "",
    "container-image": {"image": "lab/flat", "type": "oci"},
    "command-line": "run",
    "inputs": [
        {
            "id": "images", "type": "image", "name": "images", "format": "zarr", "sub-type": "grayscale",
            "set-by-server": True,
        },
        {"id": "size", "type": "integer", "name": "size", "default-value": 3, "minimum": 1},
    ],
    "outputs": [],
}  # fmt: skip


def request(kind, ids, **outputs):
    return RunRequest(workflow="flat", source="omero", inputs={"type": kind, "ids": ids}, outputs=outputs)


def named(session, group):
    ((name,),) = session.rows("select g.name from ExperimenterGroup g where g.id = :id", everywhere=True, id=group)
    return name


@pytest.fixture
def check(session, tmp_path):
    """The check of the script, for a workflow with two conditions."""
    (tmp_path / "descriptor.json").write_text(json.dumps(DESCRIPTOR))
    config = tmp_path / "slurm-config.ini"
    config.write_text(
        f"[WORKFLOWS]\nflat = flat\nflat_repo = {tmp_path}\nflat_accepts = channels: 1-2; dimensions: 2D\n"
    )
    settings = Settings.load(config, {"HOME": str(tmp_path)}, standard=[])
    catalogue = Catalogue(settings, Network.NEVER)
    return lambda wanted: check_request(session.client, wanted, settings, catalogue)


def test_a_script_refuses_an_image_that_the_workflow_does_not_accept_and_names_it(session, check):
    good, bad = (make_image(session, name, noise(1, c, 1, 9, 9)) for name, c in (("good", 2), ("bad", 3)))
    check(request("Image", [good]))
    with pytest.raises(RequestRejected, match=rf"channels: 1-2, but bad \(image-{bad}\) has 3 channels; choose other"):
        check(request("Image", [good, bad]))
    check(request("Image", [good, bad]).model_copy(update={"only": {f"image-{good}": "good"}}))
    with pytest.raises(RequestRejected, match="size"):
        check(request("Image", [good]).model_copy(update={"parameters": {"size": 0}}))
    assert session.sf.getAdminService().getEventContext().userName, "the session of the script stays open"


def test_a_mixture_of_groups_is_refused_and_the_other_group_is_named(server, session, person):
    other = make_group(server, "rwra--")
    with server.root() as root:
        account = root.sf.getAdminService().getExperimenter(person.id)
        root.sf.getAdminService().addGroups(account, [omero.model.ExperimenterGroupI(other, False)])
    here = make_image(session, "here", noise(1, 1, 1, 9, 9))
    with OmeroSession.login(server.host, server.port, person.name, person.password, group=other) as elsewhere:
        there, dataset = make_image(elsewhere, "there", noise(1, 1, 1, 9, 9)), make_dataset(elsewhere, "results")
        name = named(elsewhere, other)
    with pytest.raises(
        RequestRejected, match=rf"image {there} \(there\) is in group {name}: choose images of one group"
    ):
        check_access(session, request("Image", [here, there]))
    with pytest.raises(
        RequestRejected, match=rf"results \(dataset {dataset}\) is in group {name}: choose a dataset in"
    ):
        check_access(session, request("Image", [here], dataset_id=dataset))


def test_a_user_who_lost_the_membership_of_the_group_is_named_with_the_group(server, person):
    other = make_group(server, "rwra--")
    group = omero.model.ExperimenterGroupI(other, False)
    with server.root() as root:
        admin = root.sf.getAdminService()
        name = named(root, other)
        admin.addGroups(admin.getExperimenter(person.id), [group])
        server.provider().open(person.id, other).close()
        admin.removeGroups(admin.getExperimenter(person.id), [group])
    with pytest.raises(Blocked, match=f"{person.name} is not a member of the group {name} any more") as refused:
        server.provider().open(person.id, other)
    assert "add the user to the group again" in refused.value.hint


def test_rois_on_images_of_a_colleague_are_refused_if_they_are_the_only_results(server):
    group = make_group(server, "rwr---")
    owner, reader = make_person(server, group), make_person(server, group)
    with OmeroSession.login(server.host, server.port, owner.name, owner.password) as owners:
        image = make_image(owners, "theirs", noise(1, 1, 1, 9, 9))
        only_rois = request("Image", [image], images=False, tables=False, files=False)
        check_access(owners, only_rois)
    with OmeroSession.login(server.host, server.port, reader.name, reader.password) as readers:
        with pytest.raises(RequestRejected, match=rf"may only view theirs \(image-{image}\)"):
            check_access(readers, only_rois)
        check_access(readers, request("Image", [image]))


def test_the_number_of_queries_does_not_grow_with_the_number_of_images(session, check, monkeypatch):
    queries = []
    for name in ("query", "rows"):
        real = getattr(OmeroSession, name)
        monkeypatch.setattr(
            OmeroSession, name, lambda self, hql, real=real, **values: queries.append(hql) or real(self, hql, **values)
        )
    counts = []
    for number in (1, 4):
        dataset = make_dataset(session)
        for _ in range(number):
            make_image(session, "i", noise(1, 1, 1, 9, 9), dataset=dataset)
        queries.clear()
        check(request("Dataset", [dataset], images=False, tables=False, files=False))
        counts.append(len(queries))
    assert counts[0] == counts[1] > 0
