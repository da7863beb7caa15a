"""The report of a run is built from its history, at each moment of its life."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from biomeroworker.domain.manifest import InputImage, InputManifest, ResultFile, ResultManifest
from biomeroworker.domain.source import Output
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.report.build import build, describe_inputs
from biomeroworker.report.model import RunReport
from biomeroworker.report.render import render
from tests.log_steps import accept, bring_to
from tests.unit.report.report_runs import STATISTICS, new_log

NOW = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def log() -> Iterator[RunLog]:
    with new_log() as made:
        yield made


def built(log: RunLog, run: UUID, **more: object) -> RunReport:
    made = build(log.run(run), log.periods(run), NOW, **more)  # type: ignore[arg-type]
    render(made)
    return made


@pytest.mark.parametrize("state", list(RunState))
def test_a_run_in_any_state_has_a_report(log: RunLog, state: RunState) -> None:
    run = accept(log)
    if state is RunState.FAILED:
        bring_to(log, run, RunState.RUNNING)
        log.fail(run, {"stage": "running", "message": "exit code 3", "detail": "boom", "next_step": "fix it"})
    elif state is RunState.CANCELLED:
        log.request_cancel(run, "ada")
        log.cancelled(run, {"stage": "accepted", "message": "cancelled by ada"})
    else:
        bring_to(log, run, state)
    made = built(log, run)
    assert (made.run, made.workflow, made.inputs, made.state) == (str(run), "nuclei", "Dataset 7", state.value)
    assert (made.ended is not None) == state.is_terminal
    assert made.commands[0][1] == f"biomeroworker retry {run}"


def test_a_failed_run_says_where_why_and_what_to_do(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.RUNNING)
    log.fault(run, RunState.RUNNING, attempt=1, kind="permanent", message="exit code 3")
    log.fail(run, {"stage": "fetching", "message": "exit code 3", "detail": "boom", "next_step": "retry it"})
    made = built(log, run)
    assert made.outcome == "Failed"
    assert made.failure is not None
    assert (made.failure.text, made.failure.detail, made.failure.next_step) == (
        "at fetching: exit code 3",
        "boom",
        "retry it",
    )
    assert made.warnings == (), "the fault that ended the run is not a warning as well"
    assert [job.job_id for job in made.jobs] == [101]


def test_a_paused_run_says_how_to_resume_it(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.QUEUED)
    log.pause(run, "the cluster asks for a password", RunState.QUEUED)
    made = built(log, run)
    assert made.outcome == "Paused at queued"
    assert made.failure is not None
    assert f"biomeroworker resume {run}" in made.failure.next_step
    assert made.stages[-1].paused


def test_equal_faults_are_one_warning(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.TRANSFERRING)
    for number in range(3):
        log.fault(run, RunState.TRANSFERRING, attempt=1, kind="transient", message="link lost", detail=str(number))
    (warning,) = built(log, run).warnings
    assert (warning.text, warning.detail) == ("A fault at transferring (3 times): link lost", "2")


def test_inputs_without_a_result_are_named_before_the_end_is_recorded(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.IMPORTING)
    partial = {
        "failed": [{"inputs": {"image-1": "one"}, "message": "exit code 3", "hint": ""}],
        "skipped": {"image-2": "two", "image-3": "three"},
        "next_step": "biomeroworker retry X --failed",
    }
    made = built(log, run, state=RunState.DONE, partial=partial, made=[])
    assert made.outcome == "Partly done"
    assert [(one.text, one.detail) for one in made.warnings] == [
        ("1 input failed: exit code 3", "one"),
        ("2 inputs have no result, although the workflow ended without an error", "two (image-2)\nthree (image-3)"),
    ]


def test_long_lists_of_inputs_are_shortened(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.IMPORTING)
    partial = {"skipped": {f"image-{number}": "x" for number in range(60)}}
    (warning,) = built(log, run, state=RunState.DONE, partial=partial, made=[]).warnings
    assert warning.detail.endswith("image-49)\nand 10 more")


def test_what_was_left_out_is_a_warning_and_not_a_result(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.IMPORTING)
    outputs = [
        Output("Roi", "Image:1", "m.tif", 19),
        Output("RoiLeftOut", "Plate:2", "p.tif"),
        Output("Dataset", "Dataset:1", ""),
    ]
    made = built(log, run, state=RunState.DONE, made=outputs, partial={})
    assert made.made == "19 ROIs"
    assert [one.text for one in made.warnings] == [
        "No ROIs from 1 label image of a whole plate (ROIs belong to single images)"
    ]


def test_odd_files_are_warnings(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.IMPORTING)
    image = InputImage(key="image-1", path="image-1.ome.zarr", name="a.tif", shape=(1, 1, 1, 4, 4), pixel_type="uint8")
    sizes = {"image-1_mask.tif": 9, "image-2_mask.tif": 9, "empty.csv": 0, "x.zarr/0": 0, "summary.csv": 5}
    files = tuple(ResultFile(path=path, size=size, sha256="0") for path, size in sizes.items())
    made = built(
        log,
        run,
        inputs=InputManifest(run="r", images=(image,)),
        results=ResultManifest(run="r", attempt=1, files=files),
    )
    assert [(one.text, one.detail) for one in made.warnings] == [
        ("1 result file is named after an image that is not an input", "image-2_mask.tif"),
        ("1 result file is empty", "empty.csv"),
    ]


def test_a_run_on_a_folder_that_has_its_results_is_repeated_into_another_folder(log: RunLog) -> None:
    run = accept(log, source="folder", inputs={"folder": "/data/in"}, outputs={"folder": "/data/out"}, version="")
    bring_to(log, run, RunState.DONE)
    ((_, command),) = built(log, run).commands
    assert command.startswith("biomeroworker run nuclei --input /data/in --output NEW_FOLDER --version v1.0.0")


def test_a_retry_without_a_version_takes_the_newest(log: RunLog) -> None:
    run = accept(log, version="")
    assert "newest version" in built(log, run).commands[0][0]
    assert "newest version" not in built(log, accept(log)).commands[0][0]


def test_statistics_and_outputs_of_the_log_are_used(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.IMPORTING)
    output = {"kind": "Image", "reference": "Image:9", "result": "a.tif", "count": 1}
    log.complete(run, RunState.IMPORTING, attempt=1, made=[output], statistics=[STATISTICS.to_event()])
    log.finish(run)
    made = built(log, run)
    assert made.made == "1 image"
    assert [job.statistics for job in made.jobs] == [STATISTICS]


def test_the_command_on_a_folder_is_quoted_for_a_shell(log: RunLog) -> None:
    run = accept(log, parameters={"name": "it's $(x)", "off": None}, job_options={"time": "5"})
    made = built(log, run)
    assert made.commands[1][1] == (
        "biomeroworker run nuclei --input FOLDER_WITH_IMAGES --output NEW_FOLDER --version v1.0.0"
        " --parameter 'name=it'\"'\"'s $(x)' --job-option time=5"
    )


def test_the_names_of_the_inputs_are_listed(log: RunLog) -> None:
    run = accept(log)
    image = InputImage(key="image-1", path="image-1.ome.zarr", name="a.tif", shape=(1, 1, 1, 4, 4), pixel_type="uint8")
    assert built(log, run, inputs=InputManifest(run="r", images=(image,))).input_names == (("image-1", "a.tif"),)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [({"type": "Plate", "ids": [3, 4]}, "Plate 3, 4"), ({"folder": "/data/x"}, "folder /data/x"), ({}, "")],
)
def test_the_request_is_described(inputs: dict[str, object], words: str) -> None:
    assert describe_inputs(inputs) == words


def test_a_run_of_another_program_has_a_report(log: RunLog) -> None:
    run = log.tracker.initiate_workflow("their workflow", "", 1, 2)
    made = built(log, run)
    assert (made.workflow, made.commands, made.jobs) == ("their workflow", (), ())


def test_the_periods_of_a_run_follow_each_other(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.RUNNING)
    log.pause(run, "why", RunState.RUNNING)
    log.resume(run)
    log.fail(run, {"message": "over"})
    found = [(one.state, one.paused) for one in log.periods(run)]
    assert found[-3:] == [(RunState.RUNNING, False), (RunState.RUNNING, True), (RunState.RUNNING, False)]
    assert sum(one.seconds for one in log.periods(run)) == pytest.approx(
        sum(log.time_in_states(run).values()), abs=0.01
    )
