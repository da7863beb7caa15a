"""What saving does to the graph, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import omero
import omero.clients
import pytest
from graph_world import World, make_world, named
from omero.rtypes import rint, rstring

from omero_stand_in.graph import Graph


@pytest.fixture
def world() -> World:
    return make_world()


def reference(thing: Any) -> Any:
    return type(thing)(thing.id.val, False)


def link(parent: Any, child: Any) -> Any:
    made = omero.model.DatasetImageLinkI()
    made.parent, made.child = reference(parent), reference(child)
    return made


def test_a_graph_saved_at_once_comes_back_with_ids_and_loaded_collections(world: World) -> None:
    project, dataset, image = (named(kind, "x") for kind in ("Project", "Dataset", "Image"))
    project.linkDataset(dataset)
    dataset.linkImage(image)

    saved = world.save(world.ada, project)

    below = saved.copyDatasetLinks()[0].child
    assert below.copyImageLinks()[0].child.id.val > 0
    assert saved.sizeOfAnnotationLinks() == 0
    assert saved.details.owner.isLoaded()
    assert saved.details.owner.id.val == world.ada.user


def test_what_get_loads_is_the_object_and_its_group(world: World) -> None:
    number = world.save(world.ada, named("Dataset", "x")).id.val
    with world.graph.transaction(world.ada) as tx:
        found = tx.load(tx.get("Dataset", number))
    assert not found.isImageLinksLoaded()
    assert found.details.group.isLoaded()
    assert not found.details.owner.isLoaded()
    assert found.version is None


@pytest.mark.parametrize(
    ("kind", "field"),
    [("DatasetI", "containers.Dataset.name"), ("DatasetImageLinkI", "containers.DatasetImageLink.child")],
)
def test_a_required_field_left_out_is_named(world: World, kind: str, field: str) -> None:
    with pytest.raises(omero.ValidationException) as raised:
        world.save(world.ada, getattr(omero.model, kind)())
    first, _, _ = raised.value.message.partition(";")
    assert first == f"not-null property references a null or transient value: ome.model.{field}"


def test_a_failed_save_leaves_nothing_behind(world: World) -> None:
    dataset = named("Dataset", "not saved")
    dataset.linkImage(omero.model.ImageI())
    with pytest.raises(omero.ValidationException):
        world.save(world.ada, dataset)
    assert world.query(world.ada, "select d from Dataset d") == []
    assert world.query(world.ada, "select l from DatasetImageLink l") == []


def test_the_same_link_cannot_be_saved_twice(world: World) -> None:
    dataset, image = (world.save(world.ada, named(kind, "x")) for kind in ("Dataset", "Image"))
    world.save(world.ada, link(dataset, image))
    with pytest.raises(omero.ValidationException):
        world.save(world.ada, link(dataset, image))
    assert world.query(world.ada, "select count(l) from DatasetImageLink l") == [(1,)]


def test_two_wells_cannot_share_a_place(world: World) -> None:
    plate = world.save(world.ada, named("Plate", "x"))

    def well() -> Any:
        made = omero.model.WellI()
        made.plate, made.row, made.column = reference(plate), rint(0), rint(0)
        return made

    world.save(world.ada, well())
    with pytest.raises(omero.ValidationException) as raised:
        world.save(world.ada, well())
    assert "constraint [well_col_row]" in raised.value.message


def test_a_copy_older_than_the_row_is_refused(world: World) -> None:
    number = world.save(world.ada, named("Dataset", "x")).id.val
    with world.graph.transaction(world.ada) as tx:
        one, two = tx.load(tx.get("Dataset", number)), tx.load(tx.get("Dataset", number))
    one.description, two.description = rstring("first"), rstring("second")
    world.save(world.ada, one)
    with pytest.raises(omero.OptimisticLockException):
        world.save(world.ada, two)


def test_an_unloaded_collection_is_unchanged_and_an_emptied_one_loses_its_links(world: World) -> None:
    dataset = named("Dataset", "x")
    dataset.linkImage(named("Image", "y"))
    number = world.save(world.ada, dataset).id.val
    with world.graph.transaction(world.ada) as tx:
        plain = tx.load(tx.get("Dataset", number))
    plain.description = rstring("changed")
    world.save(world.ada, plain)
    assert world.query(world.ada, "select count(l) from DatasetImageLink l") == [(1,)]

    with world.graph.transaction(world.ada) as tx:
        entity = tx.get("Dataset", number)
        loader = tx.loader()
        loader.fetch(entity)
        loader.collect(entity, "imageLinks")
        for one in tx.members(entity, "imageLinks"):
            loader.fetch(one)
        full = loader.map(entity)
    full.clearImageLinks()
    world.save(world.ada, full)
    assert world.query(world.ada, "select count(l) from DatasetImageLink l") == [(0,)]


def test_an_enumeration_may_be_named_by_its_value_but_not_made(world: World) -> None:
    image = named("Image", "x")
    image.format = omero.model.FormatI()
    image.format.value = rstring("OMETiff")
    assert world.save(world.ada, image).format.id.val > 0
    image = named("Image", "y")
    image.format = omero.model.FormatI()
    image.format.value = rstring("Nonsense")
    with pytest.raises(omero.SecurityViolation):
        world.save(world.ada, image)


def test_shapes_keep_the_order_in_which_they_were_added(world: World) -> None:
    roi = omero.model.RoiI()
    for x in (3.0, 1.0, 2.0):
        point = omero.model.PointI()
        point.x = omero.rtypes.rdouble(x)
        roi.addShape(point)
    saved = world.save(world.ada, roi)
    assert [shape.x.val for shape in saved.copyShapes()] == [3.0, 1.0, 2.0]


def test_everything_is_there_after_the_file_was_closed_and_opened(tmp_path: Path) -> None:
    graph = Graph.open(tmp_path)
    with graph.transaction(graph.server()) as tx:
        note = tx.insert("MapAnnotation", mapValue=[["k", "v"]])
        tx.insert("Mask", roi=tx.insert("Roi").id, bytes=b"\x00\xff", x=1.5)
        tx.store_value("password", "0", {"hash": "x"})
    graph.close()

    again = Graph.open(tmp_path)
    with again.transaction(again.server()) as tx:
        assert tx.get("MapAnnotation", note.id).get("mapValue") == [["k", "v"]]
        assert next(tx.rows("Mask")).get("bytes") == b"\x00\xff"
        assert tx.load_value("password", "0") == {"hash": "x"}
        assert tx.insert("Roi").id > next(tx.rows("Roi")).id
    again.close()


def test_a_client_cannot_choose_the_repository_of_a_file(world: World) -> None:
    file = omero.model.OriginalFileI()
    file.name, file.path, file.repo = rstring("x"), rstring("/"), rstring("elsewhere")
    with pytest.raises(omero.SecurityViolation) as raised:
        world.save(world.ada, file)
    assert raised.value.message.startswith("cannot set repo property of ome.model.core.OriginalFile:Id_")


def test_a_row_counts_its_changes_which_only_queries_show(world: World) -> None:
    saved = world.save(world.ada, named("Dataset", "x"))
    saved.description = rstring("changed")
    assert world.save(world.ada, saved).version is None
    assert world.query(world.ada, "select d.version from Dataset d") == [(1,)]
