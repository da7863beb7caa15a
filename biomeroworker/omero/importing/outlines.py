"""Compute the outlines of the objects in a label image.

An outline follows the edges of pixels, so its corners are integers and its area is exactly the number of pixels inside.
Pixel (x, y) covers the square from (x, y) to (x + 1, y + 1), as in
OMERO's viewers. Pixels that touch by a corner only belong to different pieces. A polygon of OMERO has no holes, so the
holes of an object are covered by its outline (their pixels are counted in `Outline.holes`); a mask does not cover them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

#: With more pieces per label than this, an image is not a label image but intensities, or noise.
PIECES_PER_LABEL = 4
_STEP_X = (1, 0, -1, 0)
_STEP_Y = (0, 1, 0, -1)


@dataclass(frozen=True)
class Outline:
    """The boundary of one piece of one object in one plane."""

    label: int
    points: tuple[tuple[int, int], ...]  #: corners (x, y), clockwise as seen on screen, first not repeated
    area: int  #: pixels inside the outline, holes included
    holes: int = 0  #: pixels of the piece's holes; shared by all pieces of a label, on the largest


def outlines(plane: np.ndarray[Any, Any]) -> list[Outline]:
    """The outlines of all objects of one plane of labels (YX, 0 is background), by label, largest piece first."""
    found = []
    for label, edges, width in _edges_by_label(plane):
        rings = [(points, _area(points)) for points in _rings(edges, width)]
        outer = sorted((ring for ring in rings if ring[1] > 0), key=lambda ring: -ring[1])
        holes = -sum(area for _, area in rings if area < 0)
        found += [Outline(label, points, area, holes if n == 0 else 0) for n, (points, area) in enumerate(outer)]
    return found


def looks_like_labels(planes: list[list[Outline]]) -> bool:
    """Whether the outlines of planes are those of objects. A single label is a mask, with any number of pieces."""
    labels = {outline.label for plane in planes for outline in plane}
    pieces = sum(len(plane) for plane in planes)
    in_planes = sum(len({outline.label for outline in plane}) for plane in planes)
    return len(labels) <= 1 or pieces <= PIECES_PER_LABEL * in_planes


def _edges_by_label(plane: np.ndarray[Any, Any]) -> Iterator[tuple[int, list[int], int]]:
    """For each label the edges between its pixels and others, as sorted codes ``(y · width + x) · 4 + direction``.

    An edge runs with its pixel on the right: 0 to the right along the top, 1 down the right side, 2 to the left along
    the bottom, 3 up the left side; x and y are those of its first corner.
    """
    height, width = plane.shape
    padded = np.zeros((height + 2, width + 2), plane.dtype)
    padded[1:-1, 1:-1] = plane
    inner = padded[1:-1, 1:-1]
    sides = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
    corners_y, corners_x = (0, 0, 1, 1), (0, 1, 1, 0)
    stride = width + 1
    codes, labels = [], []
    for direction, side in enumerate(sides):
        y, x = np.nonzero((inner != side) & (inner != 0))
        labels.append(inner[y, x])
        codes.append(((y + corners_y[direction]) * stride + (x + corners_x[direction])) * 4 + direction)
    every_label, every_code = np.concatenate(labels), np.concatenate(codes)
    order = np.lexsort((every_code, every_label))
    every_label, every_code = every_label[order], every_code[order]
    values, starts = np.unique(every_label, return_index=True)
    for value, part in zip(values, np.split(every_code, starts[1:]), strict=bool(len(values))):
        yield int(value), part.tolist(), stride


def _rings(edges: list[int], stride: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Follow edges into closed rings. Where two rings touch at a corner it turns right, to keep to its own pixel."""
    left = dict.fromkeys(edges)
    steps = tuple((dy * stride + dx) * 4 for dx, dy in zip(_STEP_X, _STEP_Y, strict=True))
    while left:
        first = code = next(iter(left))
        points: list[tuple[int, int]] = []
        before = -1
        while True:
            del left[code]
            direction = code & 3
            if direction != before:
                corner = code >> 2
                points.append((corner % stride, corner // stride))
                before = direction
            at = code - direction + steps[direction]
            for turn in (1, 0, 3):
                code = at + ((direction + turn) & 3)
                if code in left or code == first:
                    break
            if code == first:
                break
        if before == (first & 3):  # the walk began in the middle of a side
            points.pop(0)
        yield tuple(points)


def _area(points: tuple[tuple[int, int], ...]) -> int:
    """Signed area: above 0 for an outer ring, below for a hole (shoelace formula, y downwards)."""
    total = 0
    x0, y0 = points[-1]
    for x, y in points:
        total += x0 * y - x * y0
        x0, y0 = x, y
    return total // 2


def packed_mask(inside: np.ndarray[Any, Any]) -> tuple[int, int, int, int, bytes]:
    """``(x, y, width, height, bytes)`` of a boolean plane, as a Mask of OMERO stores it: bits, most significant first.

    The rectangle is the smallest around all pixels; rows are not padded.
    """
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    box = inside[top:bottom, left:right]
    return int(left), int(top), int(right - left), int(bottom - top), np.packbits(box).tobytes()
