"""Score of a segmentation: F1 at a threshold of the intersection over union, and a figure.

Objects are matched one to one, with the maximum number of pairs at the threshold. At 0.5 and above, an object has at
most one partner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix

Labels = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Score:
    """Numbers of matched objects, of objects in the ground truth, and of objects in the result."""

    matched: int
    truth: int
    found: int

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 if neither image has objects."""
        total = self.truth + self.found
        return 2 * self.matched / total if total else 1.0


def score(truth: Labels, found: Labels, iou: float = 0.5) -> Score:
    """Compare two label images of the same shape (0 is background)."""
    if truth.shape != found.shape:
        raise ValueError(f"the ground truth has shape {truth.shape}, the result {found.shape}")
    names, one = np.unique(truth, return_inverse=True)
    others, two = np.unique(found, return_inverse=True)
    pairs = (one.ravel(), two.ravel())
    shared = coo_matrix((np.ones(truth.size, np.int64), pairs), shape=(names.size, others.size)).toarray()
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    good = (shared / union >= iou)[np.ix_(names != 0, others != 0)]
    rows, columns = linear_sum_assignment(good, maximize=True)
    return Score(int(good[rows, columns].sum()), int((names != 0).sum()), int((others != 0).sum()))


def overlay(rows: Sequence[tuple[str, Labels, Labels, Labels]], target: Path) -> None:
    """Draw ``image | ground truth | result`` for each ``(title, image, truth, found)``; for stacks the middle plane."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import ListedColormap

    colours = np.random.default_rng(3).random((256, 3)) * 0.75 + 0.25
    colours[0] = 0
    palette = ListedColormap(colours)
    figure, axes = pyplot.subplots(len(rows), 3, figsize=(12, 4.2 * len(rows)), squeeze=False, layout="constrained")
    for line, (title, image, truth, found) in zip(axes, rows, strict=True):
        result = score(truth, found)
        plane = np.s_[...] if image.ndim == 2 else np.s_[image.shape[0] // 2]
        where = "" if image.ndim == 2 else f", plane {image.shape[0] // 2 + 1} of {image.shape[0]}"
        low, high = np.percentile(image, (1, 99.8))
        line[0].imshow(image[plane], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        line[0].set_title(title + where)
        for panel, labels, words in (
            (line[1], truth, f"ground truth: {result.truth}"),
            (line[2], found, f"result: {result.found}, F1 {result.f1:.2f}"),
        ):
            shown = np.where(labels[plane] > 0, labels[plane].astype(np.int64) * 37 % 255 + 1, 0)
            panel.imshow(shown, cmap=palette, vmin=0, vmax=255, interpolation="nearest")
            panel.set_title(words)
        for panel in line:
            panel.set_axis_off()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
    pyplot.close(figure)
