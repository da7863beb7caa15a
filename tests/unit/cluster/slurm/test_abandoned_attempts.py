"""The marker that stops a late job of an abandoned attempt, as the commands on the cluster write it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from biomeroworker.cluster.slurm import submit_once


def run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    folder = tmp_path / "attempt-1"
    folder.mkdir()
    return folder


def test_abandoning_an_attempt_writes_the_marker(attempt: Path) -> None:
    assert submit_once.parse_holder(run(submit_once.give_up_command(str(attempt)))) is None
    assert (attempt / submit_once.HOLDER).readlink() == Path(submit_once.GIVEN_UP)


def test_an_attempt_whose_job_has_started_cannot_be_abandoned(attempt: Path) -> None:
    (attempt / submit_once.HOLDER).symlink_to("12")
    assert submit_once.parse_holder(run(submit_once.give_up_command(str(attempt)))) == 12
    assert (attempt / submit_once.HOLDER).readlink() == Path("12")


def test_cancelling_a_job_writes_the_marker_before_it_calls_scancel(
    attempt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scancel = tmp_path / "scancel"
    scancel.write_text(f"#!/bin/sh\nreadlink {attempt}/{submit_once.HOLDER}\n")
    scancel.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert run(submit_once.cancel_command(["biomero-1"], [str(attempt)])).strip() == submit_once.GIVEN_UP
