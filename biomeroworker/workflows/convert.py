#!/usr/bin/env python3
"""Turn every OME-Zarr of a folder into OME-TIFF: ``convert.py IN OUT [--jobs N] [--progress FILE]``.

A program of its own: it is sent with a run and executed inside the converter's container image, so it needs nothing
but numpy, tifffile and zarr (2.16 or later for OME-Zarr 0.4, 3 for 0.5) and runs on Python 3.9.

``image-7.ome.zarr`` becomes ``image-7.tif``; each field of a plate becomes ``plate-3_B2_0.tif`` (well, field). Axes,
pixel sizes with their units, channel names and the image's name are kept; channels are never made into RGB.

The pixels of an uncompressed TIFF are one block whose layout is known before the first is written. So the file is laid
out empty, and bands of it (one row of chunks, over the full width) are read once and written where they belong, in any
order, by as many threads as the job has cores. A band is all that a thread ever holds.

Exit codes: 0 done; 1 an input that cannot be converted; 74 reading or writing failed (``EX_IOERR`` of sysexits.h).
"""

# ruff: noqa: B905  (zip has no `strict` in Python 3.9)
from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

IO_ERROR = 74

#: OME-NGFF names units as UDUNITS-2 does, OME-XML by symbol (OME schema 2016-06, UnitsLength and UnitsTime).
LENGTHS = {
    "angstrom": "Å", "attometer": "am", "centimeter": "cm", "decimeter": "dm", "exameter": "Em", "femtometer": "fm",
    "foot": "ft", "gigameter": "Gm", "hectometer": "hm", "inch": "in", "kilometer": "km", "megameter": "Mm",
    "meter": "m", "micrometer": "µm", "mile": "mi", "millimeter": "mm", "nanometer": "nm", "parsec": "pc",
    "petameter": "Pm", "picometer": "pm", "terameter": "Tm", "yard": "yd", "yoctometer": "ym", "yottameter": "Ym",
    "zeptometer": "zm", "zettameter": "Zm",
}  # fmt: skip
TIMES = {
    "attosecond": "as", "centisecond": "cs", "day": "d", "decisecond": "ds", "femtosecond": "fs", "hour": "h",
    "microsecond": "µs", "millisecond": "ms", "minute": "min", "nanosecond": "ns", "picosecond": "ps", "second": "s",
}  # fmt: skip
CENTIMETERS = {"Å": 1e-8, "pm": 1e-10, "nm": 1e-7, "µm": 1e-4, "mm": 0.1, "cm": 1.0, "dm": 10.0, "m": 100.0}

#: Pixel types that OME-XML has no name for, and what holds their values.
STORED_AS = {"bool": "uint8", "float16": "float32", "int64": "int32", "uint64": "uint32"}

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class Unconvertible(Exception):
    """An input is not what it should be; the message names it."""


class Progress:
    """Writes the percentage of bands done, whenever it has changed."""

    def __init__(self, file: Path | None, total: int) -> None:
        self.file, self.total, self.done, self.shown = file, max(total, 1), 0, -1
        self.lock = threading.Lock()

    def step(self) -> None:
        """One more band is done."""
        with self.lock:
            self.done += 1
            percent = 100 * self.done // self.total
            if self.file is not None and percent != self.shown:
                self.shown = percent
                part = self.file.with_name(self.file.name + ".part")
                part.write_text(f"{percent}\n")
                part.replace(self.file)


class Image:
    """One multiscale image: its full-resolution array, and what is known about it."""

    def __init__(self, folder: Path, label: str) -> None:
        self.label = label
        metadata = attributes(folder)
        multiscales = metadata.get("multiscales")
        if not multiscales or not multiscales[0].get("datasets"):
            raise Unconvertible(f"{label}: no multiscales metadata, so it is no OME-Zarr image")
        scale = multiscales[0]
        dataset = scale["datasets"][0]
        path = folder / dataset["path"]
        if (path / "zarr.json").exists() and int(zarr.__version__.split(".")[0]) < 3:
            raise Unconvertible(
                f"{label}: zarr format 3 (OME-Zarr 0.5) needs zarr 3; this image has {zarr.__version__}"
            )
        self.array = zarr.open(str(path), mode="r")
        self.name = _NOT_XML.sub("", str(scale.get("name") or ""))
        given = scale.get("axes") or list("tczyx")
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in given]
        self.axes = "".join(str(axis["name"]).upper() for axis in axes)
        self._check_axes()
        self.units = {str(axis["name"]).upper(): axis.get("unit") for axis in axes}
        self.scale = dict(zip(self.axes, self._scales(dataset, scale)))
        channels = (metadata.get("omero") or {}).get("channels") or []
        self.channels = [_NOT_XML.sub("", str(channel.get("label") or "")) for channel in channels]

    def _check_axes(self) -> None:
        if len(self.axes) != self.array.ndim:
            raise Unconvertible(f"{self.label}: {len(self.axes)} axes ({self.axes}) for {self.array.ndim} dimensions")
        if "".join(sorted(self.axes, key="TCZYX".find)) != self.axes or set(self.axes) - set("TCZYX"):
            raise Unconvertible(f"{self.label}: axes {self.axes} are not some of T, C, Z, Y, X in this order")
        if not self.axes.endswith("YX"):
            raise Unconvertible(f"{self.label}: axes {self.axes} lack Y and X")
        if 0 in self.array.shape:
            raise Unconvertible(f"{self.label}: shape {self.array.shape} has no pixels")

    def _scales(self, *levels: dict[str, Any]) -> list[float]:
        """Scale of the dataset, times that of the whole image (OME-NGFF 0.4, "multiscales" metadata)."""
        product = [1.0] * len(self.axes)
        for level in levels:
            for transformation in level.get("coordinateTransformations") or []:
                if transformation.get("type") == "scale" and "scale" in transformation:
                    product = [a * float(b) for a, b in zip(product, transformation["scale"])]
        return product

    @property
    def dtype(self) -> np.dtype:
        """How its pixels are stored in the TIFF."""
        kind = np.dtype(self.array.dtype)
        stored: np.dtype = np.dtype(STORED_AS.get(kind.name, kind.name)).newbyteorder("<")
        return stored

    def ome(self) -> dict[str, Any]:
        """What goes into the OME-XML, in the words of tifffile's ``metadata`` argument."""
        found: dict[str, Any] = {"axes": self.axes}
        if self.name:
            found["Name"] = self.name
        for axis in "XYZ":
            unit = LENGTHS.get(self.units.get(axis) or "")
            if unit and self.scale.get(axis, 0) > 0:
                found[f"PhysicalSize{axis}"] = self.scale[axis]
                found[f"PhysicalSize{axis}Unit"] = unit
        unit = TIMES.get(self.units.get("T") or "")
        if unit and self.scale.get("T", 0) > 0:
            found["TimeIncrement"], found["TimeIncrementUnit"] = self.scale["T"], unit
        if self.channels:
            count = self.array.shape[self.axes.index("C")] if "C" in self.axes else 1
            names = [*self.channels, *[""] * count][:count]
            found["Channel"] = {"Name": [name or f"Channel {number}" for number, name in enumerate(names)]}
        return found

    def resolution(self) -> dict[str, Any]:
        """Pixels per centimetre, for programs that read TIFF tags and no OME-XML."""
        metadata = self.ome()
        try:
            x, y = (metadata[f"PhysicalSize{a}"] * CENTIMETERS[metadata[f"PhysicalSize{a}Unit"]] for a in "XY")
        except KeyError:
            return {}
        return {"resolution": (1 / x, 1 / y), "resolutionunit": "CENTIMETER"}

    def bands(self) -> Iterator[tuple[slice, ...]]:
        """Regions that cover every chunk exactly once: chunks in all axes but X, which is taken whole."""
        grid = getattr(self.array, "shards", None) or self.array.chunks
        steps = [
            [slice(start, min(start + step, size)) for start in range(0, size, step)]
            for size, step in zip(self.array.shape[:-1], grid[:-1])
        ]
        for region in itertools.product(*steps):
            yield (*region, slice(0, self.array.shape[-1]))

    def read(self, region: tuple[slice, ...]) -> np.ndarray:
        """The pixels of a band, in the type that the TIFF stores."""
        band = np.asarray(self.array[region])
        if band.dtype.name in ("int64", "uint64") and band.size:
            limits = np.iinfo(self.dtype)
            if band.min() < limits.min or band.max() > limits.max:
                raise Unconvertible(
                    f"{self.label}: values beyond {self.dtype.name}, which is the widest that OME-TIFF has"
                )
        return np.ascontiguousarray(band, dtype=self.dtype)


class Target:
    """An OME-TIFF that was laid out empty and is filled in any order; it has its name only once it is whole."""

    def __init__(self, image: Image, path: Path) -> None:
        self.image, self.path = image, path
        self.part = path.with_name(path.name + ".part")
        size = image.dtype.itemsize * int(np.prod(image.array.shape, dtype=np.int64))
        with tifffile.TiffWriter(str(self.part), ome=True, bigtiff=size > 2**32 - 2**25, byteorder="<") as tiff:
            tiff.write(
                shape=image.array.shape,
                dtype=image.dtype,
                photometric="minisblack",
                metadata=image.ome(),
                **image.resolution(),
            )
        with tifffile.TiffFile(str(self.part)) as tiff:
            series = tiff.series[0]
            offset = series.dataoffset if hasattr(series, "dataoffset") else series.offset  # tifffile 2022 and before
        if offset is None or offset + size > self.part.stat().st_size:
            raise Unconvertible(f"{image.label}: the TIFF could not be laid out in one block")
        self.offset = offset
        self.strides = [
            image.dtype.itemsize * int(np.prod(image.array.shape[i + 1 :])) for i in range(image.array.ndim)
        ]
        self.descriptor = os.open(self.part, os.O_WRONLY)

    def copy(self, region: tuple[slice, ...]) -> None:
        """Read a band and write it where it belongs: each plane's rows lie together."""
        band = self.image.read(region)
        for index in np.ndindex(band.shape[:-2]):
            start = [part.start + i for part, i in zip(region, index)] + [region[-2].start]
            place = self.offset + sum(i * stride for i, stride in zip(start, self.strides))
            rows = band[index].reshape(-1).view(np.uint8).data
            while rows:
                written = os.pwrite(self.descriptor, rows, place)
                rows, place = rows[written:], place + written

    def publish(self) -> None:
        """Close the file and give it its name."""
        os.close(self.descriptor)
        self.part.replace(self.path)


def attributes(folder: Path) -> dict[str, Any]:
    """A group's OME metadata, wherever its version keeps it (0.5: ``zarr.json``; before: ``.zattrs``)."""
    for name in ("zarr.json", ".zattrs"):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise Unconvertible(f"{folder.name}/{name}: {error}") from error
        return (content.get("attributes") or {}).get("ome") or {} if name == "zarr.json" else content
    raise Unconvertible(f"{folder.name}: no zarr metadata in it")


def find_images(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every image below a folder of OME-Zarr: where it is, and the stem of its TIFF's name."""
    for entry in sorted(folder.iterdir()):
        if entry.suffix != ".zarr" or not entry.is_dir():
            continue
        stem = re.sub(r"(\.ome)?\.zarr$", "", entry.name)
        metadata = attributes(entry)
        if "plate" in metadata:
            yield from _fields(entry, stem, metadata["plate"])
        elif "multiscales" not in metadata and "bioformats2raw.layout" in metadata:
            for series in sorted((one for one in entry.iterdir() if one.name.isdigit()), key=lambda one: int(one.name)):
                yield series, f"{stem}_{series.name}"
        else:
            yield entry, stem


def _fields(plate: Path, stem: str, metadata: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for well in metadata.get("wells") or []:
        path = plate / well["path"]
        for field in (attributes(path).get("well") or {}).get("images") or []:
            yield path / field["path"], f"{stem}_{well['path'].replace('/', '')}_{field['path']}"


def convert(source: Path, target: Path, jobs: int, progress: Path | None) -> int:
    """Convert all images of a folder; returns their number."""
    target.mkdir(parents=True, exist_ok=True)
    images = [Image(folder, stem) for folder, stem in find_images(source)]
    if not images:
        raise Unconvertible(f"{source}: no OME-Zarr in it")
    told = Progress(progress, sum(1 for image in images for _ in image.bands()))
    with ThreadPoolExecutor(max(jobs, 1)) as pool:
        for image in images:
            tiff = Target(image, target / f"{image.label}.tif")
            running: set[Future[None]] = set()
            for region in image.bands():
                running.add(pool.submit(_band, tiff, region, told))
                if len(running) > 2 * jobs:  # no more in the queue than keeps all threads busy
                    running = _settle(running, FIRST_COMPLETED)
            _settle(running, FIRST_EXCEPTION)
            tiff.publish()
            shape = "x".join(map(str, image.array.shape))
            print(f"{image.label}.tif: {image.axes} {shape} {image.dtype.name}", flush=True)
    return len(images)


def _band(tiff: Target, region: tuple[slice, ...], told: Progress) -> None:
    tiff.copy(region)
    told.step()


def _settle(running: set[Future[None]], until: str) -> set[Future[None]]:
    """Wait; raise what went wrong in any that is done; give back those that are not done."""
    done, rest = wait(running, return_when=until)
    for one in done:
        one.result()
    return rest


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = argparse.ArgumentParser(description="Turn every OME-Zarr of a folder into OME-TIFF.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--progress", type=Path)
    given = parser.parse_args(argv)
    try:
        convert(given.source, given.target, given.jobs, given.progress)
    except Unconvertible as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return IO_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
