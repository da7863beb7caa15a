#!/usr/bin/env python3
"""Find nuclei in fluorescence images: smoothing, Otsu's threshold, watershed of the distance transform; 2-D and 3-D.

A BIAFLOWS-style workflow: reads every TIFF of ``--infolder``; for each it writes ``<stem>_mask.tif`` (labels, 0 is
background) to ``--outfolder``, and for all together ``nuclei.csv``, with one row for each nucleus.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.measure import regionprops
from skimage.segmentation import relabel_sequential, watershed

MICROMETERS = {"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
NUCLEAR = re.compile(r"dapi|hoechst|draq|sytox|nucle|h2b|histone", re.IGNORECASE)

#: Lengths of the method, in diameters of a nucleus.
NOISE_DIAMETERS = 0.04  # smoothing before the threshold
NEIGHBOURHOOD_DIAMETERS = 0.6  # smoothing for the local mean; a nucleus is brighter than that
BLUR_DIAMETERS = 0.09  # smoothing of the landscape for the watershed
MIN_DISTANCE_DIAMETERS = 0.14  # two maxima with a smaller distance are one nucleus
#: Weight of the brightness in the landscape; the rest is the distance from the edge.
BRIGHTNESS_WEIGHT = 0.3

COLUMNS = (
    "image", "label", "time", "dimensions", "size_px", "size_um", "centroid_x_um", "centroid_y_um", "centroid_z_um",
    "mean_intensity", "max_intensity",
)  # fmt: skip


@dataclass(frozen=True)
class Stack:
    """One channel of an image: TZYX pixels, and the size of a pixel in µm (1 if the file has none)."""

    name: str
    pixels: np.ndarray
    size: dict[str, float]

    @classmethod
    def read(cls, file: Path) -> Stack:
        """Read a TIFF; of several channels the one with the name of a nuclear stain, otherwise the first."""
        with tifffile.TiffFile(file) as tiff:
            series = tiff.series[0]
            pixels, axes = series.asarray(), series.axes.replace("S", "C").replace("I", "Z").replace("Q", "Z")
            size, channels = _metadata(tiff.ome_metadata)
        for axis in "TCZYX":
            if axis not in axes:
                pixels, axes = pixels[np.newaxis], axis + axes
        pixels = np.moveaxis(pixels, [axes.index(axis) for axis in "TCZYX"], range(5))
        stain = next((number for number, name in enumerate(channels) if NUCLEAR.search(name)), 0)
        return cls(file.stem.removesuffix(".ome"), pixels[:, min(stain, pixels.shape[1] - 1)], size)


def segment(image: np.ndarray, diameter: float, min_size: float, spacing: tuple[float, ...]) -> np.ndarray:
    """Label the nuclei of one plane or stack.

    Parameters
    ----------
    diameter
        Diameter of a typical nucleus in pixels of the last axis; 0: estimate it from the image.
    min_size
        In pixels; smaller objects become background.
    spacing
        Size of a pixel along each axis, relative to the last one.
    """
    image = image.astype(np.float32)
    if image.max() == image.min():
        return np.zeros(image.shape, np.uint16)
    scale = np.asarray(spacing)
    diameter = diameter or _estimate(image, scale)
    smooth = ndimage.gaussian_filter(image, NOISE_DIAMETERS * diameter / scale)
    local_mean = ndimage.gaussian_filter(smooth, NEIGHBOURHOOD_DIAMETERS * diameter / scale)
    mask = _bright(smooth, 0.9) & (smooth > local_mean)
    mask = ndimage.binary_opening(mask)
    if image.ndim == 2:
        mask = ndimage.binary_fill_holes(mask)
    depth = ndimage.distance_transform_edt(mask, sampling=scale) / (0.35 * diameter)
    blur = BLUR_DIAMETERS * diameter / scale
    relief = ndimage.gaussian_filter(image, blur) / np.maximum(local_mean, 1e-6)
    landscape = (1 - BRIGHTNESS_WEIGHT) * ndimage.gaussian_filter(depth, blur) + BRIGHTNESS_WEIGHT * relief
    seeds = _summits(landscape, mask, MIN_DISTANCE_DIAMETERS * diameter / scale)
    labels = watershed(-landscape, seeds, mask=mask)
    sizes = np.bincount(labels.ravel())
    labels[(sizes < max(min_size, 1))[labels]] = 0
    labels = relabel_sequential(labels)[0]
    return labels.astype(np.uint16 if labels.max() < 2**16 else np.uint32)


def _bright(smooth: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Above Otsu's threshold of the square root, which balances shot noise and dim nuclei."""
    root = np.sqrt(np.maximum(smooth - np.percentile(smooth, 0.1), 0) + 1)
    return root > threshold_otsu(root) * share


def _estimate(image: np.ndarray, scale: np.ndarray) -> float:
    """Twice the median depth of the bright parts at their summits."""
    mask = _bright(ndimage.gaussian_filter(image, 1 / scale))
    depth = ndimage.distance_transform_edt(mask, sampling=scale)
    summits = _summits(ndimage.gaussian_filter(depth, 1 / scale), mask, 2 / scale)
    found = depth[summits > 0]
    return max(2 * float(np.median(found)), 3.0) if found.size else 10.0


def _summits(landscape: np.ndarray, mask: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Number the local maxima of the mask that have no higher maximum within ``apart`` pixels (by axis)."""
    reach = np.maximum(1, np.round(apart).astype(int))
    parts = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))[0]
    box = np.ones(tuple(2 * reach + 1), bool)
    points = peak_local_max(landscape, labels=parts, footprint=box, exclude_border=False)
    seeds = np.zeros(landscape.shape, np.int32)
    seeds[tuple(points.T)] = np.arange(1, len(points) + 1)
    return seeds


def measure(stack: Stack, time: int, labels: np.ndarray, pixels: np.ndarray) -> Iterator[dict[str, object]]:
    """One row for each nucleus; lengths in µm, sizes in µm² (2-D) or µm³ (3-D)."""
    axes = "zyx"[-labels.ndim :]
    volume = float(np.prod([stack.size[axis] for axis in axes]))
    for region in regionprops(labels, intensity_image=pixels):
        centre = dict(zip(axes, region.centroid, strict=True))
        yield {
            "image": stack.name,
            "label": region.label,
            "time": time,
            "dimensions": labels.ndim,
            "size_px": int(region.area),
            "size_um": round(region.area * volume, 4),
            **{f"centroid_{axis}_um": round(centre.get(axis, 0.0) * stack.size[axis], 4) for axis in "xyz"},
            "mean_intensity": round(float(region.mean_intensity), 3),
            "max_intensity": float(region.max_intensity),
        }


def write_mask(file: Path, labels: np.ndarray, size: dict[str, float]) -> None:
    """Write TZYX labels as OME-TIFF with the pixel sizes of the image."""
    metadata: dict[str, object] = {"axes": "TZYX", "Channel": {"Name": ["nuclei"]}}
    for axis in "xyz":
        metadata[f"PhysicalSize{axis.upper()}"] = size[axis]
        metadata[f"PhysicalSize{axis.upper()}Unit"] = "µm"
    tifffile.imwrite(file, labels, ome=True, photometric="minisblack", metadata=metadata, compression="zlib")


def _metadata(text: str | None) -> tuple[dict[str, float], list[str]]:
    size = dict.fromkeys("xyz", 1.0)
    if not text:
        return size, []
    pixels = ElementTree.fromstring(text).find(".//{*}Pixels")
    if pixels is None:
        return size, []
    for axis in "XYZ":
        value = pixels.get(f"PhysicalSize{axis}")
        unit = MICROMETERS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if value and unit:
            size[axis.lower()] = float(value) * unit
    return size, [channel.get("Name") or "" for channel in pixels.findall("{*}Channel")]


def _yes(word: str) -> bool:
    if word.lower() not in {"true", "false", "1", "0", "yes", "no"}:
        raise argparse.ArgumentTypeError(f"{word!r}: write True or False")
    return word.lower() in {"true", "1", "yes"}


def main() -> int:
    """Run the workflow; returns its exit code."""
    parser = argparse.ArgumentParser(description="Find nuclei in fluorescence images.")
    parser.add_argument("--infolder", type=Path, required=True)
    parser.add_argument("--outfolder", type=Path, required=True)
    parser.add_argument("--gtfolder", type=Path, help="not used")
    parser.add_argument("--local", action="store_true", help="not used")
    parser.add_argument("-nmc", "--no_metrics_computation", action="store_true", help="not used")
    parser.add_argument("--diameter", type=float, default=0, help="diameter of a nucleus in pixels; 0: estimate it")
    parser.add_argument("--min_size", type=float, default=10, help="smallest nucleus in pixels (voxels in 3-D)")
    parser.add_argument("--export_csv", type=_yes, default=True)
    given = parser.parse_args()
    files = sorted(file for file in given.infolder.iterdir() if file.suffix.lower() in {".tif", ".tiff"})
    if not files:
        print(f"no TIFF in {given.infolder}", file=sys.stderr)
        return 2
    rows: list[dict[str, object]] = []
    for number, file in enumerate(files, start=1):
        stack = Stack.read(file)
        flat = stack.pixels.shape[1] == 1
        spacing = (1.0, 1.0) if flat else (stack.size["z"] / stack.size["x"], 1.0, 1.0)
        masks = []
        for time, pixels in enumerate(stack.pixels):
            image = pixels[0] if flat else pixels
            labels = segment(image, given.diameter, given.min_size, spacing)
            rows += measure(stack, time, labels, image)
            masks.append(labels.reshape(pixels.shape))
        widest = max(masks, key=lambda mask: mask.dtype.itemsize).dtype
        write_mask(given.outfolder / f"{stack.name}_mask.tif", np.stack(masks).astype(widest), stack.size)
        print(
            f"{file.name}: {sum(int(mask.max()) for mask in masks)} nuclei, {100 * number // len(files)}%", flush=True
        )
    if given.export_csv:
        with (given.outfolder / "nuclei.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
