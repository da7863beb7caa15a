"""The fields with which a user chooses a run."""

import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from omero.rtypes import unwrap

from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.records import RunSummary
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.omero.scripts import run_choice

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)


def run(number=1, *, state=RunState.RUNNING, ended=None, paused=False, modified=LONG_AGO, managed=True):
    return RunSummary(
        id=UUID(int=number << 96), name="nuclei", workflow="nuclei", state=state, paused=paused, pause_reason="",
        cancel_requested=False, user=7, group=3, attempt=1, job_id=None, started=LONG_AGO, modified=modified,
        ended=ended, message="", managed=managed,
    )  # fmt: skip


def test_runs_that_can_be_cancelled_resumed_and_repeated_are_offered():
    running, paused, done = run(1), run(2, paused=True), run(3, state=RunState.DONE, ended=LONG_AGO)
    offered = {
        wanted: [one for one in (running, paused, done) if wanted(one, NOW)]
        for wanted in (run_choice.is_cancellable, run_choice.is_resumable, run_choice.is_repeatable)
    }
    assert list(offered.values()) == [[running, paused], [paused], [done]]


def test_a_run_stays_in_the_list_for_a_while_after_its_end():
    moments_ago = NOW - timedelta(minutes=1)
    assert run_choice.is_cancellable(run(state=RunState.DONE, ended=moments_ago), NOW)
    assert run_choice.is_resumable(run(modified=moments_ago), NOW)


def test_runs_that_another_program_recorded_are_not_offered():
    foreign = run(paused=True, managed=False)
    assert not any(wanted(foreign, NOW) for wanted in (run_choice.is_cancellable, run_choice.is_resumable))


def test_a_label_starts_with_the_id_and_does_not_change_with_the_state():
    labels = {run_choice.label(one) for one in (run(), run(paused=True), run(state=RunState.DONE, ended=NOW))}
    assert labels == {"00000001 nuclei, 2026-11-28 12:00 UTC"}


def test_the_list_is_bounded():
    many = [run(number, paused=True) for number in range(1, 200)]
    assert len(run_choice.labels(many, run_choice.is_resumable, NOW)) == run_choice.CHOICES


def test_the_dialog_opens_without_a_list_if_the_log_does_not_answer(monkeypatch):
    monkeypatch.setattr(run_choice, "LOG_SECONDS", 0.05)
    end_of_test = threading.Event()
    monkeypatch.setattr(run_choice.RunLog, "open", lambda url: end_of_test.wait(30))
    started = time.monotonic()
    assert run_choice.own_labels(7, run_choice.is_cancellable) == []
    assert time.monotonic() - started < 10
    field, _ = run_choice.fields([], "cancel")
    end_of_test.set()
    assert "You have none" in field.description
    assert unwrap(field.values) is None


def test_the_dialog_opens_without_a_list_if_the_log_cannot_be_opened(tmp_path, monkeypatch, capsys):
    (tmp_path / "broken.ini").write_text("[ANALYTICS]\nsqlalchemy_url = mysql://x\n")
    monkeypatch.setenv("BIOMERO_CONFIG", str(tmp_path / "broken.ini"))
    monkeypatch.delenv("SQLALCHEMY_URL", raising=False)
    assert run_choice.own_labels(7, run_choice.is_cancellable) == []
    assert "ConfigError" in capsys.readouterr().out


def test_a_run_is_chosen_from_the_list_or_by_its_id():
    assert run_choice.chosen({"Run": "00000001 nuclei, 2026-11-28 12:00 UTC"}) == "00000001"
    assert run_choice.chosen({"Run_ID": " 00000001-AA "}) == "00000001-aa"
    assert run_choice.chosen({"Run": "00000001 nuclei", "Run_ID": "00000001-aa"}) == "00000001-aa"


def test_no_run_and_two_runs_are_refused():
    with pytest.raises(RequestRejected, match="no run is chosen"):
        run_choice.chosen({})
    with pytest.raises(RequestRejected, match="two runs"):
        run_choice.chosen({"Run": "00000001 nuclei", "Run_ID": "00000002"})
