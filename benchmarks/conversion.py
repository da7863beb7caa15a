"""Conversion from OME-Zarr to TIFF on two cores: speed and peak memory of our converter and the incumbent's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
import zarr

from benchmarks import incumbent
from benchmarks.context import Context
from benchmarks.figures import OURS, THEIRS, Figures
from benchmarks.processes import Usage, run_measured
from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.imaging.ome_zarr import create_image, named_channels
from biomeroworker.remote import convert

#: The incumbent's own requirements; numcodecs is limited because the pinned zarr needs an old version.
PINS = (
    "zarr==2.16.1",
    "tifffile==2020.9.3",
    "dask[array]==2021.3.0",
    "numpy==1.26.4",
    "numcodecs<0.16",
    "setuptools<81",
)
CORES = "0,1"


def _interpreter() -> Path:
    return incumbent.environment("incumbent-converter", lambda python: incumbent.install(python, *PINS))


def _script(context: Context) -> Path:
    """The incumbent's converter, which its package installs."""
    done = subprocess.run(
        [context.pythons["theirs"], "-c", "import resources; print(list(resources.__path__)[0])"],
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip()) / "convert_zarr_to_tiff.py"


def make_stack(folder: Path, planes: int, side: int) -> Path:
    """A z-stack of nuclei-like blobs with noise, in the layout of an export."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:side, :side]
    cells = 400 * (1 + np.sin(x / 37) * np.sin(y / 29))
    path = folder / "image-1.ome.zarr"
    array = create_image(
        path,
        name="stack",
        shape=(1, 1, planes, side, side),
        dtype="uint16",
        pixel_size={
            axis: PhysicalSize(value=size, unit="micrometer") for axis, size in zip("zyx", (1, 0.2, 0.2), strict=True)
        },
        omero=named_channels("stack", ["DAPI"]),
    )
    slices = [rng.poisson(cells * depth + 100).astype("uint16") for depth in (0.3, 0.7, 1.1)]
    for plane in range(planes):
        array[0, 0, plane] = np.roll(slices[plane % 3], 11 * plane, axis=0)
    return path


def measure(context: Context) -> Figures:
    """Run each converter on the same stack, alternately, several times."""
    planes, side = context.size(120, 4), context.size(2048, 256)
    size = planes * side * side * 2 / 1e6
    figures = Figures(
        "conversion",
        f"OME-Zarr to TIFF, a z-stack of {planes} × {side} × {side}, 16 bit ({size:,.0f} MB)",
        "Time from the start of the program to its end, as in a job, on two cores. Input and output are on a RAM disk, "
        "so that the disk is not measured. MB/s of pixels. *Memory* is the peak resident memory of the program and its "
        "children together. *Anonymous memory* excludes pages of files, which the system can reclaim.",
    )
    with context.in_memory("conversion", int(3.5e6 * size)) as folder:
        _compare(context, figures, folder, planes, side, size)
    return figures.grouped()


def _compare(context: Context, figures: Figures, folder: Path, planes: int, side: int, size: float) -> None:
    context.report("creating the stack")
    source = make_stack(folder / "in", planes, side)
    expected = zarr.open(str(source / "0"), mode="r")
    figures.remarks.append(
        f"chunks {expected.chunks}, compression ratio {expected.nbytes / max(1, expected.nbytes_stored()):.2f}."
    )
    results: dict[str, list[Usage]] = {}
    for _ in range(context.times):
        for who in (OURS, *([THEIRS] if "theirs" in context.pythons else [])):
            context.report(f"conversion, {who}")
            out = folder / "out"
            out.mkdir()
            command = _ours(source, out) if who == OURS else _theirs(context, source, out)
            spent = run_measured(["taskset", "-c", CORES, *command])
            (made,) = out.rglob("*.tif*")
            if who not in results:
                _check(made, expected)
            results.setdefault(who, []).append(spent)
            shutil.rmtree(out)
    for who, spents in results.items():
        figures.add("speed", who, [size / one.seconds for one in spents], "MB/s")
        figures.add("memory, peak", who, [one.peak for one in spents], "MB")
        figures.add("anonymous memory, peak", who, [one.peak_anonymous for one in spents], "MB")
        figures.add("processor time", who, [one.cpu for one in spents], "s")
    if (ratio := figures.compare("speed", [THEIRS])) is not None:
        spared = figures.compare("processor time", [THEIRS], more_is_better=False)
        figures.remarks.append(f"ours is {ratio:.1f} × as fast, with {1 / (spared or 1):.2f} × the processor time.")


def _ours(source: Path, out: Path) -> Sequence[str]:
    return [sys.executable, convert.__file__, str(source.parent), str(out), "--jobs", "2"]


def _theirs(context: Context, source: Path, out: Path) -> Sequence[str]:
    return [str(_interpreter()), str(_script(context)), str(source), "--output", str(out / "image-1.tif")]


def _check(made: Path, expected: zarr.Array) -> None:
    with tifffile.TiffFile(made) as tiff:
        pages = tiff.series[0].pages
        for plane in (0, len(pages) // 2, len(pages) - 1):
            page = pages[plane]
            assert page is not None
            if not np.array_equal(page.asarray(), expected[0, 0, plane]):
                raise RuntimeError(f"{made.name}: plane {plane} is not what it was")
