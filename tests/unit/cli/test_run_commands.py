"""Runs on the command line, as text and as JSON."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner

from biomeroworker.cli import app
from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.eventlog.runlog import RunLog, RunState

#: Control sequences that a container may print: window title, clear screen, NUL.
HOSTILE = "bad \x1b]0;mine\x07\x1b[2J\x00[red]x[/red]"


@pytest.fixture
def deployment(tmp_path: Path) -> tuple[RunLog, UUID, str]:
    """A log with one run whose job is known to SLURM."""
    config = tmp_path / "config.ini"
    url = f"sqlite:///{tmp_path}/log.sqlite"
    config.write_text(f"[SSH]\nhost = nowhere\n[ANALYTICS]\nsqlalchemy_url = {url}\n")
    log = RunLog.open(url)
    run = log.accept({"workflow": "w"}, name="n", description="d", user=7, group=8)
    log.intend(run, RunState.EXPORTING)
    log.begin_attempt(run, 1, f"biomero-{run}-1")
    log.intend(run, RunState.SUBMITTING, attempt=1)
    log.submitted(run, 1, 1234)
    log.observe(run, 1, JobStatus("", -1, JobState.PENDING, "PENDING", reason="Priority"))
    return log, run, str(config)


def output(*words: str) -> str:
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_show_prints_the_job_and_the_time_of_the_next_try(deployment: tuple[RunLog, UUID, str]) -> None:
    log, run, config = deployment
    when = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    log.fault(run, RunState.QUEUED, attempt=1, kind="transient", message="no answer", retry_at=when)
    lines = output("show", str(run)[:8], "--config", config).splitlines()
    assert "  attempt 1 is SLURM job 1234: PENDING (Priority)" in lines
    assert "  failures in a row: 1; the last: no answer; next try at 2030-01-02 03:04:05 UTC" in lines
    assert any(line.startswith("  user 7, group 8; accepted ") for line in lines)


def test_show_prints_user_and_group(deployment: tuple[RunLog, UUID, str]) -> None:
    log, _, config = deployment
    for names, user, group, line in (
        ({"user_name": "ada", "group_name": "lab"}, 7, 8, "  user ada (7), group lab (8); accepted "),
        ({"user_name": "ada"}, -1, -1, "  user ada; accepted "),  # of a folder, without OMERO
    ):
        run = log.accept({"workflow": "w", **names}, name="n", description="d", user=user, group=group)
        assert line in output("show", str(run), "--config", config)


def test_the_list_prints_why_a_run_is_paused(deployment: tuple[RunLog, UUID, str]) -> None:
    log, run, config = deployment
    log.pause(run, "the disk is full\nNext: resume", RunState.QUEUED)
    assert "queued (paused)" in output("runs", "--config", config)
    assert "the disk is full Next: resume" in output("runs", "--config", config)


def test_json_contains_the_last_status_from_slurm(deployment: tuple[RunLog, UUID, str]) -> None:
    _, run, config = deployment
    (attempt,) = json.loads(output("show", str(run), "--json", "--config", config))["attempts"]
    assert (attempt["observation"]["state"], attempt["observation"]["reason"]) == ("PENDING", "Priority")


def test_control_sequences_in_the_output_of_a_container_are_not_printed(deployment: tuple[RunLog, UUID, str]) -> None:
    log, run, config = deployment
    log.fail(run, {"stage": "fetching", "message": f"failed: {HOSTILE}", "detail": HOSTILE})
    for words in (("show", str(run)), ("runs",)):
        text = output(*words, "--config", config)
        assert "[red]x[/red]" in text
        assert not {"\x1b", "\x07", "\x00"} & set(text)


def test_characters_that_a_database_rejects_are_replaced(deployment: tuple[RunLog, UUID, str]) -> None:
    log, run, _ = deployment
    log.fault(run, RunState.QUEUED, attempt=1, kind="transient", message="a\x00b", detail="c\udce9d")
    log.fail(run, {"message": "a\x00b\udce9"})
    assert log.run(run).faults[-1].message == "a\ufffdb"
    assert log.run(run).report["message"] == "a\ufffdb\ufffd"


def test_show_names_a_folder_that_is_not_removed(deployment: tuple[RunLog, UUID, str]) -> None:
    log, _, config = deployment
    run = log.accept({"workflow": "w", "keep_folder": True}, name="n", description="d", user=7, group=8)
    log.intend(run, RunState.EXPORTING, folder="/data/biomero_1")
    assert "folder on the cluster, which is not removed: /data/biomero_1" in output(
        "show", str(run), "--config", config
    )
    assert json.loads(output("show", str(run), "--config", config, "--json"))["folder"] == "/data/biomero_1"
