"""The page shows all facts as text, whatever a user typed."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from biomeroworker.domain.job_statistics import JobStatistics
from biomeroworker.report import render
from biomeroworker.report.model import Figures, Job, Notice, Picture, RunReport, Stage
from tests.unit.report.report_runs import GIB, START, STATISTICS, report

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "</style><style>*{display:none}",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; & <b>",
    "שלום‏ \u202egpj.exe",
    "\x00\x1b[31m\ud800 end",
]


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]


def page_of(made: RunReport) -> Page:
    return Page(render.render(made))


def with_text_everywhere(text: str) -> RunReport:
    notice = Notice(text, text, text)
    return report(
        workflow=text,
        version=text,
        made=text,
        user=text,
        group=text,
        inputs=text,
        input_names=((text, text),),
        parameters=((text, text, False),),
        jobs=(Job(1, text, 1, JobStatistics(1, text, partition=text, node=text)),),
        job_options=((text, text),),
        figures=Figures(
            (Picture(text, text, b"x", {text: 1}, text), Picture(text, text, None, {}, text)), 3, {text: ((text, 1),)}
        ),
        failure=notice,
        warnings=(notice,),
        provenance=((text, text),),
        commands=((text, text),),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text: str) -> None:
    harmless, hostile = page_of(with_text_everywhere("plain")), page_of(with_text_everywhere(text))
    assert hostile.tags() == harmless.tags(), "the same elements, whatever the text is"
    for before, after in zip(harmless.elements, hostile.elements, strict=True):
        assert before[1].keys() == after[1].keys(), "and the same attributes"


def test_texts_are_shown_as_they_are() -> None:
    text = "<b>a & 'b' \"c\"</b> {{ 7 * 7 }}"
    assert text in page_of(with_text_everywhere(text)).text
    assert "49" not in page_of(report(workflow="{{ 7 * 7 }}")).text


def test_control_characters_and_lone_surrogates_are_replaced() -> None:
    html = render.render(report(workflow="a\x00b\ud800c\nd"))
    html.encode()
    assert "a\ufffdb\ufffdc" in html
    assert "\x00" not in html


def test_the_page_needs_nothing_from_a_network() -> None:
    found = page_of(with_text_everywhere("https://example.org/x.png"))
    for _, attributes in found.elements:
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "data:").startswith("data:"), attributes
    assert "script" not in found.tags()
    (policy,) = [one["content"] for tag, one in found.elements if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_requested_and_used_resources_are_compared() -> None:
    found = {one.name: (one.requested, one.used, one.percent) for one in render.resources(STATISTICS)}
    assert found == {
        "Time": ("45 min", "4 min 20 s", 9.6),
        "Memory": ("5.0 GiB", "3.2 GiB", 64.0),
        "Cores": ("4", "11 min 40 s of processor time of 17 min 20 s", 67.3),
        "GPU": ("1", render.UNKNOWN, None),
    }


def test_values_that_the_cluster_did_not_record_are_named_as_such() -> None:
    rows = render.resources(JobStatistics(7))
    assert all((one.requested, one.used) == (render.UNKNOWN, render.UNKNOWN) for one in rows)
    assert all(one.percent is None for one in rows)
    assert render.UNKNOWN in page_of(report(jobs=(Job(1, "a", 7),))).text
    assert "No job was submitted" in page_of(report(jobs=())).text


def test_the_images_that_are_not_shown_are_counted() -> None:
    pictures = tuple(Picture(f"{n}.tif", f"image-{n}", b"x") for n in range(24))
    assert "and 72 more images" in page_of(report(figures=Figures(pictures, 96))).text
    assert " more image" not in page_of(report(figures=Figures(pictures, 24))).text


def test_a_stage_that_was_entered_twice_has_one_row_with_two_bars() -> None:
    stages = [Stage("running", START, 6), Stage("queued", START, 2), Stage("running", START, 2, paused=True)]
    rows = render.timeline(stages)
    assert [(row.name, len(row.bars), row.value) for row in rows] == [
        ("running", 2, "8.0 s (2.0 s paused)"),
        ("queued", 1, "2.0 s"),
    ]
    assert all(bar.left >= 0 and bar.left + bar.width <= 100 for row in rows for bar in row.bars)
    assert render.timeline([]) == []
    assert render.timeline([Stage("accepted", START, 0)])[0].value == "0.0 s"


def test_few_images_have_bars_and_many_a_histogram() -> None:
    few = render.plot("mask", [("a", 4), ("b", 0), ("c", 8)])
    assert [(row.name, [bar.width for bar in row.bars], row.value) for row in few.rows] == [
        ("a", [50.0], "4"),
        ("b", [], "0"),
        ("c", [100.0], "8"),
    ]
    assert (few.total, few.summary) == (12, "median 4, from 0 to 8 per image")
    many = render.plot("mask", [(str(number), number) for number in range(100)])
    assert (len(many.bins), sum(count for _, _, count in many.bins), many.rows) == (20, 100, ())
    uneven = render.plot("mask", [(str(number), number) for number in range(45)])
    assert [count for _, _, count in uneven.bins] == [3] * 15, "each bin holds the same number of values"
    equal = render.plot("mask", [(str(number), 3) for number in range(100)])
    assert [count for _, _, count in equal.bins] == [100]


def test_a_plot_of_images_without_objects_is_empty() -> None:
    assert [row.bars for row in render.plot("mask", [("a", 0)]).rows] == [()]
    page_of(report(figures=Figures((), 1, {"mask": (("a", 0),)})))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (12.6, "13 s"), (59.99, "60 s"), (3600, "1 h"), (7325, "2 h 2 min"), (187200, "2 d 4 h")],
)
def test_durations_are_written_for_people(seconds: float, words: str) -> None:
    assert render.duration(seconds) == words


def test_memory_is_written_in_the_units_of_slurm() -> None:
    assert [render.memory(one) for one in (512, 356 << 10, 5 * GIB, 3 << 40)] == [
        "512 B",
        "356 KiB",
        "5.0 GiB",
        "3.0 TiB",
    ]


def test_every_section_has_its_facts() -> None:
    text = page_of(report(warnings=(Notice("two inputs have no result"),))).text
    for fact in (
        "nuclei v1.3.1 Done",
        "2 images, 19 ROIs from 2 images",
        "Ada Lovelace (7)",
        "Imaging (12)",
        "Dataset 301",
        "one.tif",
        "two inputs have no result",
        "mask : 19 objects in 2 images",
        "diameter 30",
        "model (default) nuclei",
        "Job 101: COMPLETED on node-3 , partition gpu",
        "--time=00:45:00 --exclusive",
        "sha256:abc",
        "biomeroworker retry 4f0c6f2e",
    ):
        assert re.sub(r"\s", "", fact) in re.sub(r"\s", "", text), fact
