"""Export, conversion, workflow and import: pixels, pixel sizes and channel names."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from biomeroworker.domain.manifest import PhysicalSize, ResultFile, ResultManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Provenance
from biomeroworker.imaging import reader
from biomeroworker.omero.exporting.describe import select
from biomeroworker.omero.exporting.export import export
from biomeroworker.omero.source import OmeroSource
from biomeroworker.remote import convert
from tests.fakes.guards import UNGUARDED
from tests.integration.omero.omero_objects import make_dataset, make_image, noise
from tests.ome_zarr_images import write_image

PIXELS = noise(2, 2, 3, 30, 40, seed=4)
NAMES = ("DAPI", "µ & <GFP>")
SIZES = {"x": 0.5, "y": 0.25, "z": 2.0}


@pytest.fixture
def made(server, person, session, tmp_path):
    """The images in OMERO that were made of a workflow's results, by what the workflow added to the name."""
    dataset = make_dataset(session)
    image = make_image(session, "a", PIXELS, sizes=SIZES, channels=NAMES, dataset=dataset)
    source, run = OmeroSource(server.provider()), "00000000-0000-4000-8000-000000000000"
    request = RunRequest(
        workflow="w", source="omero", inputs={"type": "Dataset", "ids": [dataset]}, outputs={},
        user=person.id, group=person.group,
    )  # fmt: skip
    inputs = source.list_inputs(run, request)
    source.stage_in(run, request, inputs.portions(), tmp_path / "in", lambda fraction, word: None, UNGUARDED)
    subprocess.run([sys.executable, convert.__file__, tmp_path / "in", tmp_path / "tiff"], check=True, timeout=60)

    out = tmp_path / "out"
    out.mkdir()
    key = f"image-{image}"
    (tmp_path / "tiff" / f"{key}.tif").rename(out / f"{key}_same.tif")
    own = {
        "axes": "CYX", "PhysicalSizeX": 7, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": 9,
        "Channel": {"Name": ["p", "q"]},
    }  # fmt: skip
    tifffile.imwrite(out / f"{key}_small.ome.tif", PIXELS[0, :, 0, ::2, ::2], photometric="minisblack", metadata=own)
    size = {"x": PhysicalSize(value=7, unit="nanometer")}
    zarr = out / f"{key}_z.ome.zarr"
    write_image(zarr, PIXELS[..., :20], name="z", pixel_size=size, channels=("r", "s"), version="0.5")
    write_image(zarr / "labels/cells", PIXELS[:1, :1, ...] > 100, name="cells", version="0.5")
    Image.fromarray(np.moveaxis(PIXELS[0, [0, 1, 0], 0], 0, 2).astype(np.uint8)).save(out / f"{key}_view.png")
    files = tuple(
        ResultFile(path=str(path.relative_to(out)), size=path.stat().st_size, sha256="0")
        for path in sorted(out.rglob("*"))
        if path.is_file()
    )
    by = Provenance(run, 1, "w", "v1", "lab/w:v1", "sha256:abc", {}, 77)
    results = ResultManifest(run=run, attempt=1, files=files)
    made = source.stage_out(request, inputs, results, out, by, lambda fraction, word: None, UNGUARDED)
    numbers = [int(one.reference.partition(":")[2]) for one in made if one.kind == "Image"]
    assert not [one for one in made if one.kind == "File"]
    return {info.name.removeprefix("a_"): info for info in select(session, "Image", numbers).images}


def test_exported_images_are_imported_again_with_all_their_metadata(made, session, tmp_path):
    described = {
        name: (
            info.shape,
            {axis: (size.value, size.unit) for axis, size in info.pixel_size.items()},
            tuple(channel.name for channel in info.channels),
        )
        for name, info in made.items()
    }
    micrometers = {axis: (value, "micrometer") for axis, value in SIZES.items()}
    flat = {axis: micrometers[axis] for axis in "xy"}
    assert described.pop("view")[:2] == ((1, 3, 1, 30, 40), {**flat, "z": micrometers["z"]})
    assert described.pop("z_labels_cells")[0] == (1, 1, 3, 30, 40)
    assert described == {
        "same": (PIXELS.shape, micrometers, NAMES),
        "small": ((1, 2, 1, 15, 20), {"x": (7, "millimeter"), "y": (9, "micrometer")}, ("p", "q")),
        "z": ((2, 2, 3, 30, 20), {"x": (7, "nanometer")}, ("r", "s")),
    }
    again = tmp_path / "again"
    (back,) = export(
        session, select(session, "Image", [made["same"].id]), again, lambda fraction, word: None, UNGUARDED
    )
    np.testing.assert_array_equal(reader.read(again / back.path).values, PIXELS)
