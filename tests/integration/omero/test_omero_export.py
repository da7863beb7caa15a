"""Export from OMERO: every pixel with its metadata, complete or not at all."""

import subprocess
import sys

import numpy as np
import omero.model
import pytest
import zarr
from omero.rtypes import rstring

from biomeroworker.errors import RequestRejected, Transient
from biomeroworker.eventlog.store.fence import LeaseLost
from biomeroworker.omero.exporting import export as exporting
from biomeroworker.omero.exporting.describe import select
from biomeroworker.omero.exporting.export import export
from tests.fakes.guards import UNGUARDED, FakeGuard
from tests.integration.omero.omero_objects import make_dataset, make_image, make_plate, make_project, noise


def quiet(fraction, word):
    pass


def pixels_of(folder, path):
    return zarr.open_array(folder / path / "0", mode="r")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_pixels_of_each_type_are_exported_unchanged(session, tmp_path, dtype):
    values = noise(2, 2, 3, 31, 47, dtype=dtype)
    if dtype.startswith(("int", "float")):
        values = values - np.array(100, dtype)
    image = make_image(session, "x", values)
    (described,) = export(session, select(session, "Image", [image]), tmp_path, quiet, UNGUARDED)
    stored = pixels_of(tmp_path, described.path)
    assert stored.dtype == np.dtype(dtype)
    assert np.array_equal(stored[:], values)
    assert described.shape == values.shape


def test_names_sizes_and_channels_are_exported_and_the_file_is_named_by_id(session, tmp_path):
    name = "a b [1];$(touch x)/../µ.tif"
    image = make_image(
        session, name, noise(1, 2, 1, 20, 30), sizes={"x": 0.25, "y": 0.25, "z": 1.5}, channels=("DAPI", "GFP")
    )
    (described,) = export(session, select(session, "Image", [image]), tmp_path, quiet, UNGUARDED)
    assert described.path == f"image-{image}.ome.zarr"
    assert described.name == name
    assert described.channels == ("DAPI", "GFP")
    assert {axis: (size.value, size.unit) for axis, size in described.pixel_size.items()} == {
        "x": (0.25, "micrometer"),
        "y": (0.25, "micrometer"),
        "z": (1.5, "micrometer"),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [described.path]
    attributes = zarr.open_group(tmp_path / described.path, mode="r").attrs.asdict()
    assert attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] == [
        1,
        1,
        1.5,
        0.25,
        0.25,
    ]
    assert [channel["label"] for channel in attributes["omero"]["channels"]] == ["DAPI", "GFP"]


def test_a_dataset_exports_its_images_and_progress_ends_at_one(session, tmp_path):
    project = make_project(session)
    dataset = make_dataset(session, project=project)
    images = [make_image(session, f"i{n}", noise(1, 1, 1, 9, 9, seed=n), dataset=dataset) for n in range(3)]
    fractions = []
    made = export(session, select(session, "Dataset", [dataset]), tmp_path, lambda f, w: fractions.append(f), UNGUARDED)
    assert [one.origin["id"] for one in made] == images
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert [one.id for one in select(session, "Project", [project]).images] == images


def test_a_big_plane_is_read_by_tiles(session, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "LARGEST_READ_BYTES", 2 * 1024 * 1024)
    values = noise(1, 1, 2, 1500, 1300)
    image = make_image(session, "big", values)
    (described,) = export(session, select(session, "Image", [image]), tmp_path, quiet, UNGUARDED)
    assert np.array_equal(pixels_of(tmp_path, described.path)[:], values)


def test_a_plate_is_exported_as_hcs_with_the_ids_of_its_images(session, tmp_path):
    values = [noise(1, 1, 1, 8, 9, seed=n) for n in range(4)]
    a, b, c, d = [make_image(session, f"f{n}", value) for n, value in enumerate(values)]
    plate = make_plate(session, {(0, 0): [a, b], (1, 10): [c], (0, 1): [d]})
    (described,) = export(session, select(session, "Plate", [plate]), tmp_path, quiet, UNGUARDED)
    assert described.key == f"plate-{plate}"
    assert described.origin == {"type": "Plate", "id": plate, "A/1/0": a, "A/1/1": b, "A/2/0": d, "B/11/0": c}
    folder = tmp_path / described.path
    assert np.array_equal(pixels_of(folder, "A/1/1")[:], values[1])
    assert np.array_equal(pixels_of(folder, "B/11/0")[:], values[2])
    attributes = zarr.open_group(folder, mode="r").attrs.asdict()["plate"]
    assert [well["path"] for well in attributes["wells"]] == ["A/1", "A/2", "B/11"]


def test_complete_exports_are_adopted_and_partial_ones_are_repeated(session, tmp_path, monkeypatch):
    values = noise(1, 1, 4, 20, 20)
    first, second = make_image(session, "1", values), make_image(session, "2", values)
    selection = select(session, "Image", [first, second])
    read, calls = exporting._read, []

    def failing(store, region, image):
        calls.append(image.id)
        if image.id == second:
            raise Transient("the connection is lost")
        return read(store, region, image)

    monkeypatch.setattr(exporting, "_read", failing)
    with pytest.raises(Transient):
        export(session, selection, tmp_path, quiet, UNGUARDED)
    assert [path.name for path in tmp_path.iterdir()] == [f"image-{first}.ome.zarr"]
    (tmp_path / f".image-{second}.ome.zarr.part").mkdir()  # as SIGKILL leaves it

    monkeypatch.setattr(exporting, "_read", lambda *arguments: (calls.append(arguments[2].id), read(*arguments))[1])
    calls.clear()
    export(session, selection, tmp_path, quiet, UNGUARDED)
    assert set(calls) == {second}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"image-{i}.ome.zarr" for i in (first, second))
    assert np.array_equal(pixels_of(tmp_path, f"image-{second}.ome.zarr")[:], values)


def test_a_lease_lost_while_pixels_are_read_is_reported_as_lease_lost(session, tmp_path):
    """The supervisor stops working on the run; the run itself has no fault."""

    def check():
        raise LeaseLost("another process executes the run")

    image = make_image(session, "1", noise(1, 1, 4, 20, 20))
    with pytest.raises(LeaseLost):
        export(session, select(session, "Image", [image]), tmp_path, quiet, FakeGuard(check))
    assert list(tmp_path.iterdir()) == []


def test_a_lease_lost_after_all_pixels_publishes_no_image(session, tmp_path):
    checks = []

    def check():
        checks.append(True)
        if len(checks) == 2:  # once for the only plane, once before the rename
            raise LeaseLost("another process executes the run")

    image = make_image(session, "1", noise(1, 1, 1, 20, 20))
    with pytest.raises(LeaseLost):
        export(session, select(session, "Image", [image]), tmp_path, quiet, FakeGuard(check))
    assert list(tmp_path.iterdir()) == []


def test_two_processes_export_the_same_image_without_interference(session, tmp_path):
    """The first process stalls while it reads; the second takes the run over and exports; then the first continues."""
    values = noise(1, 1, 4, 20, 20)
    image = make_image(session, "1", values)
    selection, places = select(session, "Image", [image]), []

    def stalled(fraction, word):
        if not places:
            places.extend(tmp_path.iterdir())
            export(session, selection, tmp_path, quiet, UNGUARDED)
            assert sorted(tmp_path.iterdir()) == sorted([*places, tmp_path / f"image-{image}.ome.zarr"])

    export(session, selection, tmp_path, stalled, UNGUARDED)
    assert len(places) == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"image-{image}.ome.zarr"]
    assert np.array_equal(pixels_of(tmp_path, f"image-{image}.ome.zarr")[:], values)


def test_files_of_a_killed_process_are_removed(session, tmp_path):
    image = make_image(session, "1", noise(1, 1, 1, 20, 20))
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "image-7.ome.zarr")], stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout.readline() == "writing\n"
    export(session, select(session, "Image", [image]), tmp_path, quiet, UNGUARDED)
    assert len(list(tmp_path.glob(".image-7.*.part"))) == 1  # it lives
    killed.kill()
    killed.communicate(timeout=10)
    export(session, select(session, "Image", [image]), tmp_path, quiet, UNGUARDED)
    assert [path.name for path in tmp_path.iterdir()] == [f"image-{image}.ome.zarr"]


KILLED = """
import sys, time, pathlib
from biomeroworker.omero.exporting.export import _written_beside
with _written_beside(pathlib.Path(sys.argv[1]), lambda: None) as place:
    place.mkdir()
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["Image", "Dataset", "Plate", "Project", "Screen"])
def test_an_unknown_id_is_refused_and_named(session, kind):
    with pytest.raises(RequestRejected, match=f"no {kind.lower()} 999999999"):
        select(session, kind, [999999999])


def test_an_empty_dataset_is_refused(session):
    dataset = make_dataset(session)
    with pytest.raises(RequestRejected, match=f"no images in dataset {dataset}"):
        select(session, "Dataset", [dataset])


def test_a_screen_without_plates_is_refused(session):
    screen = omero.model.ScreenI()
    screen.name = rstring("empty")
    number = session.save_and_return([screen])[0].id.val
    with pytest.raises(RequestRejected, match=f"no plates in screen {number}"):
        select(session, "Screen", [number])


def test_an_image_in_another_group_is_refused_with_the_name_of_that_group(server, session, person):
    image = make_image(session, "i", noise(1, 1, 1, 9, 9))
    ((group,),) = session.rows("select g.name from ExperimenterGroup g where g.id = :id", id=person.group)
    with server.root() as root:
        with pytest.raises(
            RequestRejected, match=rf"image {image} \(i\) is in group {group}: start the run from there"
        ):
            select(root, "Image", [image])
        with pytest.raises(RequestRejected, match=r"can see in the group of this run$"):
            select(root, "Image", [999999999])
