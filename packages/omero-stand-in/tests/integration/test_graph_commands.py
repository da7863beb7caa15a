"""Commands over graphs of objects, submitted as clients submit them."""

import time

import omero
import omero.callbacks
import omero.clients
import omero.cmd
import omero.cmd.graphs
import pytest
from omero.rtypes import rstring


def saved(client, thing, **context):
    return client.sf.getUpdateService().saveAndReturnObject(thing, {k.replace("_", "."): v for k, v in context.items()})


def container(client, kind, **context):
    thing = getattr(omero.model, kind + "I")()
    thing.name = rstring("a " + kind)
    return saved(client, thing, **context)


def linked(client, kind, parent, child):
    link = getattr(omero.model, kind + "I")()
    link.parent, link.child = type(parent)(parent.id.val, False), type(child)(child.id.val, False)
    return saved(client, link)


def tag(client):
    thing = omero.model.TagAnnotationI()
    thing.textValue = rstring("red")
    return saved(client, thing)


def there(client, thing):
    kind = type(thing).__name__.removesuffix("I")
    query, parameters = f"select x.id from {kind} x where x.id = :id", omero.sys.ParametersI().addId(thing.id.val)
    return bool(client.sf.getQueryService().projection(query, parameters, {"omero.group": "-1"}))


def run(client, request):
    """The response, a failure too."""
    callback = client.submit(request, loops=60, ms=200, failonerror=False)
    try:
        return callback.getResponse()
    finally:
        callback.close(True)


@pytest.fixture
def world(ada):
    """A project with a dataset with an image that has a tag."""
    project, dataset, image, red = (*(container(ada, kind) for kind in ("Project", "Dataset", "Image")), tag(ada))
    linked(ada, "ProjectDatasetLink", project, dataset)
    linked(ada, "DatasetImageLink", dataset, image)
    linked(ada, "ImageAnnotationLink", image, red)
    return project, dataset, image, red


def test_deleting_takes_along_what_nothing_else_holds(ada, world):
    project = world[0]
    response = run(ada, omero.cmd.Delete2(targetObjects={"Project": [project.id.val]}))
    assert {name.rsplit(".", 1)[-1] for name in response.deletedObjects} == {
        "Project", "ProjectDatasetLink", "Dataset", "DatasetImageLink", "Image", "ImageAnnotationLink", "TagAnnotation",
    }  # fmt: skip
    assert not any(there(ada, one) for one in world)


def test_an_object_that_another_one_links_to_is_not_deleted(ada, world):
    _, dataset, image, red = world
    linked(ada, "DatasetImageLink", container(ada, "Dataset"), image)
    run(ada, omero.cmd.Delete2(targetObjects={"Dataset": [dataset.id.val]}))
    assert [there(ada, one) for one in (dataset, image, red)] == [False, True, True]


def test_a_child_option_keeps_a_class(ada, world):
    _, dataset, image, _ = world
    keep = [omero.cmd.graphs.ChildOption(excludeType=["Image"])]
    run(ada, omero.cmd.Delete2(targetObjects={"Dataset": [dataset.id.val]}, childOptions=keep))
    assert [there(ada, one) for one in (dataset, image)] == [False, True]


def test_a_dry_run_changes_nothing(ada, world):
    response = run(ada, omero.cmd.Delete2(targetObjects={"Project": [world[0].id.val]}, dryRun=True))
    assert response.deletedObjects["ome.model.core.Image"] == [world[2].id.val]
    assert all(there(ada, one) for one in world)


def test_what_is_not_the_callers_is_not_deleted(login, new_user, new_group):
    group = new_group("rwr---")
    owner, other = login(new_user(group)), login(new_user(group))
    image = container(owner, "Image")
    response = run(other, omero.cmd.Delete2(targetObjects={"Image": [image.id.val]}))
    assert (type(response).__name__, response.message) == (
        "GraphException", f"not permitted to delete ome.model.core.Image[{image.id.val}]",
    )  # fmt: skip
    assert there(owner, image)


def test_the_image_of_a_well_cannot_be_deleted_the_plate_can(ada):
    plate, image = container(ada, "Plate"), container(ada, "Image")
    well, sample = omero.model.WellI(), omero.model.WellSampleI()
    well.plate, well.row, well.column = plate.proxy(), omero.rtypes.rint(0), omero.rtypes.rint(0)
    sample.image = image.proxy()
    well.addWellSample(sample)
    saved(ada, well)
    response = run(ada, omero.cmd.Delete2(targetObjects={"Image": [image.id.val]}))
    assert isinstance(response, omero.cmd.GraphException)
    run(ada, omero.cmd.Delete2(targetObjects={"Plate": [plate.id.val]}))
    assert not there(ada, image)


def test_moving_to_another_group_cuts_the_links_to_what_is_not_moved(login, new_user, new_group):
    first, second = new_group(), new_group()
    client = login(new_user(first, second))
    project, dataset, image = (container(client, kind) for kind in ("Project", "Dataset", "Image"))
    cut = linked(client, "ProjectDatasetLink", project, dataset)
    moved_link = linked(client, "DatasetImageLink", dataset, image)
    response = run(client, omero.cmd.Chgrp2(targetObjects={"Dataset": [dataset.id.val]}, groupId=second))
    assert response.deletedObjects == {"ome.model.containers.ProjectDatasetLink": [cut.id.val]}
    query = client.sf.getQueryService()
    for thing, kind in ((dataset, "Dataset"), (image, "Image"), (moved_link, "DatasetImageLink")):
        assert query.get(kind, thing.id.val, {"omero.group": str(second)}).details.group.id.val == second
    assert there(client, project)


def test_several_requests_in_one_are_all_done_or_none(ada):
    datasets = [container(ada, "Dataset") for _ in range(2)]
    requests = [omero.cmd.Delete2(targetObjects={"Dataset": [one.id.val]}) for one in datasets]
    bad = omero.cmd.Delete2(targetObjects={"Dataset": [999_999_999]})
    assert isinstance(run(ada, omero.cmd.DoAll([requests[0], bad])), omero.cmd.ERR)
    assert there(ada, datasets[0])
    assert len(run(ada, omero.cmd.DoAll(requests)).responses) == 2
    assert not any(there(ada, one) for one in datasets)


def test_children_are_found_down_to_the_requested_class(ada, world):
    project, dataset, image, _ = world
    find = omero.cmd.FindChildren({"Project": [project.id.val]}, ["Image"], [])
    assert run(ada, find).children == {"ome.model.core.Image": [image.id.val]}
    find.stopBefore = ["Dataset"]
    assert run(ada, find).children == {}
    up = omero.cmd.FindParents({"Image": [image.id.val]}, ["Project", "Dataset"], [])
    assert run(ada, up).parents == {
        "ome.model.containers.Dataset": [dataset.id.val], "ome.model.containers.Project": [project.id.val],
    }  # fmt: skip


def test_an_unknown_request_has_no_handle_and_one_not_implemented_is_an_error(ada):
    assert ada.sf.submit(omero.cmd.Request()) is None
    response = run(ada, omero.cmd.ResetPasswordRequest("a", "b"))
    assert response.parameters["message"].startswith("omero.cmd.ResetPasswordRequest is not implemented")


def test_a_copied_dataset_refers_to_the_same_images(ada, world):
    dataset, image = world[1:3]
    refused = run(ada, omero.cmd.Duplicate(targetObjects={"Dataset": [dataset.id.val]}))
    assert "copies of Image are not implemented" in refused.parameters["message"]
    copied = omero.cmd.Duplicate(targetObjects={"Dataset": [dataset.id.val]}, typesToReference=["Image"])
    made = run(ada, copied).duplicates
    assert {name: len(ids) for name, ids in made.items()} == {
        "ome.model.containers.Dataset": 1, "ome.model.containers.DatasetImageLink": 1,
    }  # fmt: skip
    link = ada.sf.getQueryService().get("DatasetImageLink", made["ome.model.containers.DatasetImageLink"][0])
    assert [link.parent.id.val] == made["ome.model.containers.Dataset"] != [dataset.id.val]
    assert link.child.id.val == image.id.val


def test_a_long_request_does_not_hold_up_others(ada):
    handle = ada.sf.submit(omero.cmd.Timing(20, 100))
    started = time.monotonic()
    container(ada, "Dataset")
    assert time.monotonic() - started < 1.5
    assert handle.getResponse() is None
    assert handle.cancel()


def test_a_handle_is_gone_after_its_close(ada):
    handle = ada.sf.submit(omero.cmd.Timing(1, 1))
    callback = omero.callbacks.CmdCallbackI(ada, handle)
    callback.loop(50, 200)
    assert (callback.isFailure(), callback.isCancelled()) == (False, False)
    callback.close(True)
    with pytest.raises(Exception, match="ObjectNotExist"):
        handle.getResponse()


def test_a_request_that_is_cancelled_is_given_up_before_its_next_step(ada):
    handle = ada.sf.submit(omero.cmd.Timing(steps=1000, millisPerStep=20))
    time.sleep(0.2)
    assert handle.cancel()
    response, status = handle.getResponse(), handle.getStatus()
    assert (type(response), response.name) == (omero.cmd.ERR, "not-ready")
    assert {str(flag) for flag in status.flags} == {"CANCELLED", "FAILURE"}
    assert 0 < status.currentStep < status.steps == 1000
    handle.close()
