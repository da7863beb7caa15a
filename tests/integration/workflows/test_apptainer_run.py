"""The complete job on a real cluster: SLURM starts job.sh, Apptainer runs the converter and the nuclei workflow."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.domain.manifest import InputImage, InputManifest, PhysicalSize
from biomeroworker.errors import NodeFault, Permanent
from biomeroworker.imaging import ome_zarr, reader
from biomeroworker.workflows import attempt_folder
from biomeroworker.workflows.descriptor import Workflow
from biomeroworker.workflows.markers import read_markers
from biomeroworker.workflows.outcome import verdict
from biomeroworker.workflows.parameters import arguments, validate
from biomeroworker.workflows.store import DescriptorStore
from sandbox import images, score
from sandbox.workflow import build
from tests.ome_zarr_images import VERSIONS, write_image
from tests.sandbox_fixtures import Sandbox

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    return DescriptorStore(tmp_path_factory.mktemp("cache")).load(
        str(Path(build.__file__).with_name("descriptor.json"))
    )


@pytest.fixture(scope="module")
def pulled(apptainer: Sandbox, registry: str) -> dict[str, str]:
    """Both images, on the cluster, by name."""
    build.build_and_push(registry, print)
    paths = {}
    for image in build.IMAGES:
        path = f"{apptainer.env['CLUSTER_HOME']}/{image.name.rpartition('/')[2]}.sif"
        # Built as a pull would, but packed with less zeal.
        done = apptainer.ssh(
            "apptainer", "build", "--force", "--disable-cache", "--no-https",
            "--mksquashfs-args", "'-Xcompression-level 1'", path, f"docker://{registry}/{image.reference}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        paths[image.name] = path
    return paths


class Job:
    """A run's folder on the cluster, and its one job."""

    def __init__(self, cluster: Sandbox, name: str) -> None:
        self.cluster = cluster
        self.run = Path(cluster.env["CLUSTER_HOME"], "data", name)
        shutil.rmtree(self.run, ignore_errors=True)
        self.attempt = self.run / "attempt-1"
        (self.run / "in").mkdir(parents=True)

    def sbatch(self, *options: str) -> JobStatus:
        user = self.cluster.env["CLUSTER_USER"]
        subprocess.run(["chown", "-R", user, self.run.parent], check=True)
        done = self.cluster.ssh(
            "sbatch", "--parsable", *options, f"--output={self.attempt}/slurm.out", f"--chdir={self.attempt}",
            f"{self.attempt}/job.sh", str(self.attempt),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        number = int(done.stdout)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            shown = self.cluster.ssh("scontrol", "show", "job", "-o", str(number)).stdout
            word = shown.partition("JobState=")[2].partition(" ")[0]
            if word in {"COMPLETED", "FAILED", "TIMEOUT"}:
                return JobStatus("x", number, JobState[word], word, node="n")
            time.sleep(0.2)
        pytest.fail(f"the job did not end: {shown}")


@pytest.mark.timeout(400)
def test_nuclei_of_both_images_are_found_and_measured(
    apptainer: Sandbox, pulled: dict[str, str], workflow: Workflow
) -> None:
    job = Job(apptainer, "nuclei")
    samples = images.samples()
    inputs = []
    for number, sample in enumerate(samples, start=1):
        pixels = tifffile.imread(sample.image)
        stack = pixels.reshape((1,) * (5 - pixels.ndim) + pixels.shape)
        size = {axis: PhysicalSize(value=value) for axis, value in sample.pixel_size.items()}
        ome_zarr.write_image(
            job.run / f"in/image-{number}.ome.zarr", stack, name=sample.name, pixel_size=size, channels=["DAPI"]
        )
        inputs.append(
            InputImage(
                key=f"image-{number}",
                path=f"image-{number}.ome.zarr",
                name=sample.name,
                shape=stack.shape,
                pixel_type="uint16",
            )
        )
    (job.run / "inputs.json").write_text(InputManifest(run="r", images=tuple(inputs)).model_dump_json())
    runtime = Apptainer()
    image, converter = pulled[build.NUCLEI.name], pulled[build.CONVERT.name]
    attempt_folder.prepare_attempt(
        job.attempt,
        remote_attempt=str(job.attempt),
        prefix=runtime.run_prefix(image, binds=[str(job.run)]),
        converter_prefix=runtime.exec_prefix(converter, binds=[str(job.run)]),
        arguments=arguments(workflow, validate(workflow, {}), attempt_folder.folders(str(job.attempt), tiff=True)),
        image_path=image,
        converter_image=converter,
        data_folder=str(job.run.parent),
    )
    status = job.sbatch("--cpus-per-task=2")
    results = verdict(status, job.attempt, "r", 1)
    assert {one.path for one in results.files} == {"image-1_mask.tif", "image-2_mask.tif", "nuclei.csv"}
    for number, (sample, least) in enumerate(zip(samples, (0.8, 0.75), strict=True), start=1):
        file = job.attempt / f"out/image-{number}_mask.tif"
        found, truth = tifffile.imread(file), tifffile.imread(sample.truth)
        assert found.dtype == np.uint16
        assert score.score(truth, found).f1 >= least
        with tifffile.TiffFile(file) as tiff:
            assert tiff.ome_metadata is not None
            assert 'PhysicalSizeX="0.5"' in tiff.ome_metadata
    with (job.attempt / "out/nuclei.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    first = tifffile.imread(job.attempt / "out/image-1_mask.tif")
    assert sum(row["image"] == "image-1" for row in rows) == first.max()
    assert float(rows[0]["size_um"]) == int(rows[0]["size_px"]) * 0.25
    assert not list(job.attempt.parent.glob("tiff*"))
    assert read_markers(job.attempt).started is not None


def test_a_failed_container_is_reported_with_its_output(
    apptainer: Sandbox, pulled: dict[str, str], workflow: Workflow
) -> None:
    job = Job(apptainer, "empty")
    (job.run / "inputs.json").write_text(InputManifest(run="r", images=()).model_dump_json())
    image = pulled[build.NUCLEI.name]
    attempt_folder.prepare_attempt(
        job.attempt,
        remote_attempt=str(job.attempt),
        prefix=Apptainer().run_prefix(image, binds=[str(job.run)]),
        converter_prefix=None,
        arguments=arguments(workflow, validate(workflow, {}), attempt_folder.folders(str(job.attempt), tiff=False)),
        image_path=image,
        data_folder=str(job.run.parent),
    )
    status = job.sbatch()
    with pytest.raises(Permanent, match="exit code 2") as caught:
        verdict(status, job.attempt, "r", 1)
    assert "no TIFF in" in caught.value.detail


def test_an_invalid_image_is_a_fault_and_never_a_success(apptainer: Sandbox) -> None:
    job = Job(apptainer, "broken")
    (job.run / "inputs.json").write_text(InputManifest(run="r", images=()).model_dump_json())
    image = job.run / "broken.sif"
    image.write_bytes(b"this is not an image" * 400)
    attempt_folder.prepare_attempt(
        job.attempt,
        remote_attempt=str(job.attempt),
        prefix=Apptainer().run_prefix(str(image), binds=[str(job.run)]),
        converter_prefix=None,
        arguments=[],
        image_path=str(image),
        data_folder=str(job.run.parent),
    )
    status = job.sbatch()
    with pytest.raises(NodeFault, match="could not be started") as caught:
        verdict(status, job.attempt, "r", 1)
    assert "FATAL" in caught.value.detail


#: A workflow that reads all images in a folder and prints their shapes.
READER = """\
import json, sys
from pathlib import Path
import numpy, tifffile, zarr
seen = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    if path.suffix == ".zarr":
        group = zarr.open_group(path, mode="r")
        ome = dict(group.attrs).get("ome") or dict(group.attrs)
        axes = "".join(axis["name"] for axis in ome["multiscales"][0]["axes"])
        pixels, size = numpy.asarray(group["0"]), ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        names, sizes = [one["label"] for one in ome["omero"]["channels"]], size[0]["scale"][-2:]
        target = zarr.open_group(Path(sys.argv[2], path.name), mode="w", zarr_format=group.metadata.zarr_format)
        target.attrs.update(dict(group.attrs))
        target.create_array("0", data=pixels + 1)
    else:
        with tifffile.TiffFile(path) as tiff:
            axes, pixels = tiff.series[0].axes.lower(), tiff.asarray()
            ome = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
            names, sizes = [one["Name"] for one in ome["Channel"]], [ome["PhysicalSizeY"], ome["PhysicalSizeX"]]
    seen[path.name.partition(".")[0]] = [axes, pixels.shape, int(pixels.sum()), names, sizes]
Path(sys.argv[2], "seen.json").write_text(json.dumps(seen))
"""


@pytest.mark.parametrize("tiff", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["zarr", "tiff"])
def test_workflows_read_both_versions_of_ome_zarr_directly_or_as_tiff(
    apptainer: Sandbox, pulled: dict[str, str], tiff: bool
) -> None:
    job = Job(apptainer, "reader-tiff" if tiff else "reader-zarr")
    pixels = np.random.default_rng(3).integers(0, 60_000, (2, 3, 2, 33, 21)).astype("uint16")
    size: dict[Any, PhysicalSize] = {"x": PhysicalSize(value=0.5), "y": PhysicalSize(value=0.25)}
    for number, version in enumerate(VERSIONS, start=1):
        path = job.run / f"in/image-{number}.ome.zarr"
        write_image(path, pixels, name="a", pixel_size=size, channels=["r", "g", "b"], version=version)
    (job.run / "inputs.json").write_text(InputManifest(run="r", images=()).model_dump_json())
    (job.run / "reader.py").write_text(READER)
    runtime = Apptainer()
    image, converter = pulled[build.NUCLEI.name], pulled[build.CONVERT.name]
    folders = attempt_folder.folders(str(job.attempt), tiff=tiff)
    attempt_folder.prepare_attempt(
        job.attempt,
        remote_attempt=str(job.attempt),
        prefix=[*runtime.exec_prefix(image, binds=[str(job.run)]), "python3", str(job.run / "reader.py")],
        converter_prefix=runtime.exec_prefix(converter, binds=[str(job.run)]) if tiff else None,
        arguments=[folders.input, folders.output],
        image_path=image,
        converter_image=converter if tiff else "",
        data_folder=str(job.run.parent),
    )
    results = verdict(job.sbatch("--cpus-per-task=2"), job.attempt, "r", 1)
    seen = json.loads((job.attempt / "out/seen.json").read_text())
    expected = ["tczyx", list(pixels.shape), int(pixels.sum()), ["r", "g", "b"], [0.25, 0.5]]
    assert {name: [one[0], *one[1:4], [float(length) for length in one[4]]] for name, one in seen.items()} == {
        "image-1": expected,
        "image-2": expected,
    }
    if not tiff:
        assert any(one.path.startswith("image-2.ome.zarr/") for one in results.files)
        for number in (1, 2):
            back = reader.read(job.attempt / f"out/image-{number}.ome.zarr")
            np.testing.assert_array_equal(back.values, pixels + 1)
            assert back.channels == ("r", "g", "b")
            assert back.pixel_size == size
