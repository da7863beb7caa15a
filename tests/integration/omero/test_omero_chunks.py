"""Chunks of data in OMERO: a plate is split into plates, and failed fields are run again."""

import numpy as np
import pytest
import zarr

from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.planning import chunks
from biomeroworker.errors import Permanent
from biomeroworker.omero.source import OmeroSource
from biomeroworker.remote import convert
from tests.fakes.guards import UNGUARDED
from tests.integration.omero.omero_objects import make_dataset, make_image, make_plate, noise


def quiet(fraction, word):
    pass


@pytest.fixture
def source(server):
    return OmeroSource(server.provider())


@pytest.fixture
def plate(session):
    """Three wells with two fields each; its id and the pixels by place."""
    values = [noise(1, 1, 1, 8, 9, seed=n) for n in range(6)]
    made = [make_image(session, f"f{n}", value) for n, value in enumerate(values)]
    number = make_plate(session, {(0, 0): made[0:2], (0, 1): made[2:4], (1, 0): made[4:6]})
    places = ("A/1/0", "A/1/1", "A/2/0", "A/2/1", "B/1/0", "B/1/1")
    return number, dict(zip(places, values, strict=True))


def request_of(person, kind, ids, **more):
    return RunRequest(
        workflow="w", source="omero", inputs={"type": kind, "ids": ids}, user=person.id, group=person.group, **more
    )


def test_each_chunk_of_a_plate_is_a_plate_with_some_of_its_wells(source, person, plate, tmp_path):
    number, pixels = plate
    request = request_of(person, "Plate", [number])
    inputs = chunks.split(source.list_inputs("r", request), 4, 1000)
    assert [chunk.fields for chunk in inputs.chunks] == [
        ("A/1/0", "A/1/1", "A/2/0", "A/2/1"),
        ("B/1/0", "B/1/1"),
    ]
    names = []
    for chunk, wells in ((0, ["A/1", "A/2"]), (1, ["B/1"])):
        folder = tmp_path / str(chunk)
        source.stage_in("r", request, inputs.portions(chunk), folder, quiet, UNGUARDED)
        group = zarr.open_group(folder / f"plate-{number}.ome.zarr", mode="r")
        assert [well["path"] for well in group.attrs["plate"]["wells"]] == wells
        for field in inputs.chunks[chunk].fields:
            assert np.array_equal(group[field]["0"][:], pixels[field])
        names += [name for _, name in convert.find_images(folder)]
    assert len(set(names)) == len(names), "converted, no two fields are called the same"


def test_a_rerun_of_failed_fields_contains_only_these_fields(source, person, plate, tmp_path):
    number, pixels = plate
    first = chunks.split(source.list_inputs("r", request_of(person, "Plate", [number])), 2, 1000)
    only = chunks.named_inputs(first, [1])
    assert list(only) == [f"plate-{number}/A/2/0", f"plate-{number}/A/2/1"]
    request = request_of(person, "Plate", [number], only=only)
    again = source.list_inputs("again", request)
    assert again.images[0].fields == ("A/2/0", "A/2/1")
    source.stage_in("again", request, again.portions(), tmp_path, quiet, UNGUARDED)
    group = zarr.open_group(tmp_path / f"plate-{number}.ome.zarr", mode="r")
    assert [well["path"] for well in group.attrs["plate"]["wells"]] == ["A/2"]
    assert np.array_equal(group["A/2/1"]["0"][:], pixels["A/2/1"])


def test_images_deleted_during_the_run_are_named(source, person, session):
    dataset = make_dataset(session)
    images = [make_image(session, f"i{n}", noise(1, 1, 1, 4, 4), dataset=dataset) for n in range(2)]
    request = request_of(person, "Dataset", [dataset], only={f"image-{images[0]}": "i0", "image-987654": "gone"})
    with pytest.raises(Permanent, match="image-987654"):
        source.list_inputs("r", request)
