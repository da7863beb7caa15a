"""The demo's segmentation and its score, on images whose truth is known because they were drawn."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sandbox.score import overlay, score
from sandbox.workflow import nuclei
from sandbox.workflow.oci import Layer, write_layout


def drawn(
    shape: tuple[int, ...], radius: float, spacing: tuple[float, ...], seed: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Balls on a grid with noise: the image and its truth. ``spacing`` is the size of a pixel along each axis."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    truth, image = np.zeros(shape, np.uint16), rng.poisson(20, shape).astype(np.float32)
    ends = [np.arange(1.5 * radius, n * s - radius, 2.6 * radius) for n, s in zip(shape, spacing, strict=True)]
    for number, centre in enumerate(np.stack(np.meshgrid(*ends), -1).reshape(-1, len(shape)), start=1):
        ball = sum((g - c) ** 2 for g, c in zip(grids, centre, strict=True)) < radius**2
        truth[ball] = number
        image[ball] += rng.poisson(rng.uniform(60, 160), int(ball.sum()))
    return image.astype(np.uint16), truth


@pytest.mark.parametrize(
    ("shape", "radius", "spacing"),
    [((160, 200), 9, (1, 1)), ((40, 80, 80), 8, (1, 1, 1)), ((20, 80, 80), 8, (2, 1, 1))],
)
@pytest.mark.parametrize("known", [True, False])
def test_drawn_nuclei_are_found(shape: tuple[int, ...], radius: float, spacing: tuple[float, ...], known: bool) -> None:
    image, truth = drawn(shape, radius, spacing)
    found = nuclei.segment(image, 2 * radius if known else 0, 10, spacing)
    assert score(truth, found).f1 > 0.95


def test_small_things_are_background_and_labels_have_no_gaps() -> None:
    image, truth = drawn((160, 200), 9, (1, 1))
    everything = nuclei.segment(image, 18, 10, (1, 1))
    assert nuclei.segment(image, 18, 10_000, (1, 1)).max() == 0
    assert set(np.unique(everything)) == set(range(int(truth.max()) + 1))


@pytest.mark.parametrize("image", [np.zeros((30, 30), np.uint16), np.full((5, 30, 30), 7, np.uint8)])
def test_a_uniform_image_has_no_nuclei(image: np.ndarray) -> None:
    assert nuclei.segment(image, 0, 10, (1.0,) * image.ndim).max() == 0


def test_the_program_measures_the_channel_with_the_name_of_a_stain(tmp_path: Path) -> None:
    image, truth = drawn((120, 120), 9, (1, 1))
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    tifffile.imwrite(
        tmp_path / "in/image-5.tif", np.stack([np.zeros_like(image), image]), ome=True, photometric="minisblack",
        metadata={"axes": "CYX", "PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5,
                  "Channel": {"Name": ["GFP", "Hoechst 33342"]}},
    )  # fmt: skip
    argv = ["--infolder", tmp_path / "in", "--outfolder", tmp_path / "out", "--gtfolder", tmp_path, "--local", "-nmc"]
    subprocess.run([sys.executable, nuclei.__file__, *map(str, argv)], check=True, timeout=60)
    mask = tifffile.imread(tmp_path / "out/image-5_mask.tif")
    assert score(truth, mask).f1 > 0.95
    with (tmp_path / "out/nuclei.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == mask.max()
    for row in rows:
        here = mask == int(row["label"])
        assert row["image"] == "image-5"
        assert float(row["size_um"]) == pytest.approx(here.sum() * 0.25)
        assert float(row["mean_intensity"]) == pytest.approx(image[here].mean(), abs=0.01)
        assert float(row["centroid_x_um"]) == pytest.approx(np.nonzero(here)[1].mean() * 0.5, abs=0.001)


def test_the_score_counts_pairs_one_to_one() -> None:
    truth = np.zeros((10, 30), int)
    truth[2:8, 2:8], truth[2:8, 12:18], truth[2:8, 22:28] = 5, 9, 2
    split = truth.copy()
    split[2:5, 2:8] = 77  # half of one: at most one half can match it, and neither exceeds the other
    assert score(truth, truth).f1 == 1
    assert score(truth, np.zeros_like(truth)).f1 == 0
    result = score(truth, split)
    assert (result.matched, result.truth, result.found) == (3, 3, 4)
    assert score(truth, split, iou=0.6).matched == 2
    assert score(np.zeros((3, 3), int), np.zeros((3, 3), int)).f1 == 1
    with pytest.raises(ValueError, match="shape"):
        score(truth, truth[1:])


def test_the_overlay_is_drawn(tmp_path: Path) -> None:
    image, truth = drawn((60, 80), 9, (1, 1))
    stack, labels = drawn((20, 40, 40), 8, (2, 1, 1))
    overlay([("2-D", image, truth, truth), ("3-D", stack, labels, labels)], tmp_path / "demo/overlay.png")
    assert (tmp_path / "demo/overlay.png").stat().st_size > 10_000


def test_equal_files_give_equal_images_with_correct_digests(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        files = tmp_path / name / "files/app"
        files.mkdir(parents=True)
        (files / "run.sh").write_text("#!/bin/sh\n")
        target = tmp_path / name / "layout"
        target.mkdir()
        layer = Layer.of_folder(files.parent, tmp_path / name / "layer.tar.gz")
        assert Layer.cached(layer.blob) == layer
        digests.append(write_layout(target, "v1", [layer], ["/app/run.sh"], {}))
        for blob in (target / "blobs/sha256").iterdir():
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        index = json.loads((target / "index.json").read_text())
        assert index["manifests"][0]["digest"] == digests[-1]
    assert digests[0] == digests[1]
