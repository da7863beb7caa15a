"""The report of a run as a browser shows it: at the widths of a desk and of a telephone, and without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import tifffile
from playwright.sync_api import Page

from biomeroworker.domain.manifest import InputImage, InputManifest, ResultFile, ResultManifest
from biomeroworker.imaging import ome_zarr
from biomeroworker.report import figures
from biomeroworker.report.model import Figures, Notice, RunReport
from biomeroworker.report.render import render
from tests.unit.report.report_runs import report

WIDTHS = (1280, 390)
#: A word without a space, wider than any window.
LONG = "Z" * 400
COUNT = 96


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """Real pictures: cells that are drawn here, exported and segmented, of 96 images."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "out").mkdir()
    random = np.random.default_rng(7)
    images, files = [], []
    for number in range(1, COUNT + 1):
        key = f"image-{number}"
        images.append(
            InputImage(
                key=key, path=f"{key}.ome.zarr", name=f"Control well B{number % 12 + 1:02d} field {number:02d}.tif",
                shape=(1, 1, 1, 300, 300), pixel_type="uint16",
            )
        )  # fmt: skip
        cells, labels = _cells(random)
        if number <= figures.PICTURES:
            ome_zarr.write_image(folder / "in" / f"{key}.ome.zarr", cells[None, None, None], name=key)
        tifffile.imwrite(folder / "out" / f"{key}_nuclei.tif", labels)
        files.append(ResultFile(path=f"{key}_nuclei.tif", size=1, sha256="0"))
    inputs = InputManifest(run="r", images=tuple(images))
    results = ResultManifest(run="r", attempt=1, files=tuple(files))
    drawn = figures.draw(inputs, folder / "in", folder / "none", results, folder / "out")
    counted = tuple((image.name, int(random.poisson(19))) for image in images)
    return replace(drawn, objects={"nuclei": counted})


def _cells(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Blurred ellipses on a noisy background, and their labels."""
    y, x = np.mgrid[:300, :300]
    cells, labels = random.normal(300, 25, (300, 300)), np.zeros((300, 300), "uint16")
    for label in range(1, int(random.integers(12, 26))):
        cy, cx, ry, rx = (
            random.integers(20, 280),
            random.integers(20, 280),
            random.integers(9, 19),
            random.integers(9, 19),
        )
        distance = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2
        cells += random.integers(700, 1600) * np.exp(-(distance**2))
        labels[(distance < 1) & (labels == 0)] = label
    return cells.clip(0, 65535).astype("uint16"), labels


def done(pictures: Figures) -> RunReport:
    return report(
        outcome="Partly done",
        made=f"{COUNT} images, 1829 ROIs, 1 table",
        input_names=tuple((f"image-{n}", f"Control well B{n % 12 + 1:02d} field {n:02d}.tif") for n in range(COUNT)),
        figures=pictures,
        warnings=(
            Notice(
                "2 inputs have no result, although the workflow ended without an error",
                "Control well B07 field 95.tif (image-95)\nControl well B08 field 96.tif (image-96)",
                "biomeroworker retry 4f0c6f2e-96d1-4f6a-8f0e-7b7d6b7f0c11 --failed",
            ),
            Notice("A fault at transferring (3 times): the connection to the cluster was lost"),
        ),
    )


def failed(pictures: Figures) -> RunReport:
    return report(
        state="failed",
        outcome="Failed",
        made="",
        figures=Figures(),
        failure=Notice(
            "at fetching: the container ended with exit code 3",
            "Traceback (most recent call last):\n  ValueError: diameter must be positive",
            "fix the cause, then run: biomeroworker retry 4f0c6f2e-96d1-4f6a-8f0e-7b7d6b7f0c11",
        ),
    )


def hostile(pictures: Figures) -> RunReport:
    """Long words, markup and right-to-left text wherever a user can type."""
    text = f"<script>document.title='owned'</script><img src=https://example.org/x.png> שלום \u202e {LONG}"
    made = report(
        workflow=text, version=text, user=text, group=text, inputs=text, input_names=((LONG, text),),
        parameters=((text, text, True),), job_options=((text, text),), provenance=((text, text),),
        commands=((text, text),), failure=Notice(text, text, text), warnings=(Notice(text, text, text),),
        figures=Figures(
            (replace(pictures.pictures[0], name=text, objects={text: 3}),), 1, {text: ((text, 3), ("empty", 0))}
        ),
    )  # fmt: skip
    late = [replace(stage, seconds=stage.seconds * 1e5, start=stage.start + timedelta(days=9)) for stage in made.stages]
    return replace(made, stages=(*made.stages, *late))


def unfinished(pictures: Figures) -> RunReport:
    return report(state="running", outcome="In progress: running", ended=None, made="", jobs=(), figures=Figures())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", [done, failed, hostile, unfinished])
def test_the_report_fits_the_window_and_loads_nothing(
    new_page: Callable[..., Page],
    screenshots: Path,
    pictures: Figures,
    tmp_path: Path,
    kind: Callable[[Figures], RunReport],
    width: int,
) -> None:
    file = tmp_path / "run-report.html"
    file.write_text(render(kind(pictures)), encoding="utf-8")
    page = new_page(width=width, height=900)
    requests: list[str] = []
    messages: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))

    page.goto(file.as_uri())

    page.screenshot(path=screenshots / f"run-report-{kind.__name__}-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the window"
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    assert page.title() != "owned"
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_the_names_of_all_inputs_open_with_a_click(page: Page, pictures: Figures, tmp_path: Path) -> None:
    file = tmp_path / "run-report.html"
    file.write_text(render(done(pictures)), encoding="utf-8")
    page.goto(file.as_uri())
    last = page.get_by_text("field 95.tif image-95")
    assert not last.is_visible()
    page.get_by_text("Names of the inputs").click()
    assert last.is_visible()


def test_the_report_can_be_printed(page: Page, pictures: Figures, tmp_path: Path, screenshots: Path) -> None:
    file = tmp_path / "run-report.html"
    file.write_text(render(done(pictures)), encoding="utf-8")
    page.goto(file.as_uri())
    page.pdf(path=screenshots / "run-report.pdf", format="A4", margin={"top": "15mm", "bottom": "15mm"})
    assert (screenshots / "run-report.pdf").read_bytes().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('section')).borderLeftWidth") == "0px"
