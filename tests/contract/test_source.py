"""The contract of sources: inputs named by id with a manifest, results delivered once, invalid requests refused."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import tifffile
import zarr

from biomeroworker.deployment.folder_source import FolderSource
from biomeroworker.domain.manifest import ResultFile, ResultManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Provenance, Source
from biomeroworker.errors import Permanent, RequestRejected
from tests.fakes.guards import UNGUARDED

with contextlib.suppress(ModuleNotFoundError):  # without OMERO's client library the folder alone is a source
    from tests.integration.omero.conftest import person, server, session  # noqa: F401

PIXELS = [np.random.default_rng(n).integers(0, 4000, (1, 1, 3, 24, 32)).astype("uint16") for n in range(2)]
NAMES = ["a b [1];$(touch x)", "b µ"]


@dataclass
class Case:
    """A source with two images in it."""

    source: Source
    request: RunRequest
    bad: RunRequest

    def results(self) -> Any:
        """The delivered results, to compare before and after."""
        raise NotImplementedError


class InFolder(Case):
    def results(self):
        folder = Path(self.request.outputs["folder"])
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "provenance.json"}


class InOmero(Case):
    session: Any

    def results(self):
        kinds = ("Image", "Dataset", "Roi", "FileAnnotation", "MapAnnotation", "OriginalFile")
        return {kind: sorted(self.session.rows(f"select o.id from {kind} o")) for kind in kinds}


@pytest.fixture
def folder_case(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        tifffile.imwrite(images / f"{name}.tif", pixels[0, 0], photometric="minisblack", metadata={"axes": "ZYX"})
    request = RunRequest(
        workflow="w", source="folder", inputs={"folder": str(images)}, outputs={"folder": str(tmp_path / "results")}
    )
    bad = request.model_copy(update={"inputs": {"folder": str(tmp_path / "no such")}})
    return InFolder(FolderSource(), request, bad)


@pytest.fixture
def omero_case(request):
    from biomeroworker.omero.source import OmeroSource
    from tests.integration.omero.omero_objects import make_dataset, make_image

    server, person, session = (request.getfixturevalue(name) for name in ("server", "person", "session"))
    dataset = make_dataset(session)
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        make_image(session, name, pixels, dataset=dataset)
    accepted = RunRequest(
        workflow="w", source="omero", inputs={"type": "Dataset", "ids": [dataset]}, user=person.id, group=person.group
    )
    bad = accepted.model_copy(update={"inputs": {"type": "Dataset", "ids": [999999999]}})
    case = InOmero(OmeroSource(server.provider()), accepted, bad)
    case.session = session
    return case


@pytest.fixture(params=["folder", "omero"])
def case(request):
    return request.getfixturevalue(f"{request.param}_case")


@pytest.fixture
def run(case, tmp_path):
    """The run's inputs on disk, and results as a workflow writes them."""
    name = str(uuid4())
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    inputs = case.source.list_inputs(name, case.request)
    case.source.stage_in(name, case.request, inputs.portions(), folder, lambda fraction, word: None, UNGUARDED)
    out = tmp_path / "out"
    out.mkdir()
    files = []
    for image in inputs.images:
        labels = np.zeros((3, 24, 32), np.uint16)
        labels[:, 3:9, 4:12] = 1
        tifffile.imwrite(out / f"{image.key}_mask.tif", labels, photometric="minisblack", metadata={"axes": "ZYX"})
        files.append(f"{image.key}_mask.tif")
    (out / "notes.txt").write_text("words")
    files.append("notes.txt")
    results = ResultManifest(
        run=name,
        attempt=1,
        files=tuple(ResultFile(path=path, size=(out / path).stat().st_size, sha256="0") for path in sorted(files)),
    )
    return name, folder, inputs, out, results


def test_unavailable_inputs_are_refused_at_the_check(case):
    case.source.check(case.request)
    with pytest.raises(RequestRejected):
        case.source.check(case.bad)


def test_inputs_are_named_by_id_and_contain_the_pixels(case, run):
    _, folder, inputs, _, _ = run
    assert [image.name for image in inputs.images] == NAMES
    assert sorted(path.name for path in folder.iterdir()) == sorted(image.path for image in inputs.images)
    for image, pixels in zip(inputs.images, PIXELS, strict=True):
        assert image.path == f"{image.key}.ome.zarr"
        assert image.shape == pixels.shape
        assert image.pixel_type == "uint16"
        assert np.array_equal(zarr.open_array(folder / image.path / "0", mode="r")[:], pixels)


def test_repeated_stage_in_gives_the_same_manifest(case, run):
    name, folder, inputs, _, _ = run
    fractions = []
    assert case.source.list_inputs(name, case.request) == inputs
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    case.source.stage_in(
        name, case.request, inputs.portions(), folder, lambda fraction, word: fractions.append(fraction), UNGUARDED
    )
    assert fractions[-1] == 1.0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "what is whole is adopted"


def test_a_part_of_the_inputs_is_staged_in_alone(case, tmp_path):
    inputs = case.source.list_inputs("r", case.request)
    second = inputs.portions()[1:]
    case.source.stage_in("r", case.request, second, tmp_path / "part", lambda fraction, word: None, UNGUARDED)
    assert [path.name for path in (tmp_path / "part").iterdir()] == [second[0].image.path]


def test_a_rerun_of_failed_inputs_uses_only_these_inputs(case):
    inputs = case.source.list_inputs("r", case.request)
    failed = inputs.images[1]
    again = case.request.model_copy(update={"only": {failed.key: failed.name}})
    assert case.source.list_inputs("r", again).images == (failed,)
    gone = case.request.model_copy(update={"only": {"image-999999": "gone"}})
    with pytest.raises(Permanent):
        case.source.list_inputs("r", gone)


def test_every_result_is_staged_out_and_repetition_creates_nothing(case, run):
    name, _, inputs, out, results = run
    by = Provenance(name, 1, "w", "v1", "lab/w:v1", "sha256:1", {"a": 1}, 5)
    first = case.source.stage_out(case.request, inputs, results, out, by, lambda fraction, word: None, UNGUARDED)
    assert {file.path for file in results.files} <= {one.result for one in first}
    there = case.results()
    assert (
        case.source.stage_out(case.request, inputs, results, out, by, lambda fraction, word: None, UNGUARDED) == first
    )
    assert case.results() == there
