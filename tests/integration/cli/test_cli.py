"""The command line as a person uses it, with the embedded defaults: no OMERO, no Postgres."""

import json
import re
import subprocess

import pytest

from tests.integration.cli.conftest import PROGRAM


def test_run_executes_in_the_foreground_and_show_prints_it_from_the_log(command, tmp_path):
    images = command.site.images("one.tif", "two.tif")
    done = command("run", "obedient", "-i", images, "-o", tmp_path / "out", "-p", "text=hi there", "--json")
    answer = json.loads(done.stdout)
    assert answer["state"] == "done"
    assert (tmp_path / "out/one_text.txt").read_text() == "hi there"
    assert list(command.state.rglob("*.sqlite")), "the embedded log"

    assert answer["run"] in {run["id"] for run in json.loads(command("runs", "--json").stdout)}
    assert json.loads(command("runs", "--json", "--since", "2999-01-01").stdout) == []
    shown = json.loads(command("show", answer["run"][:8], "--json").stdout)
    assert (shown["workflow"], shown["attempts"][0]["job_id"]) == ("obedient", shown["job_ids"][0])
    assert shown["request"]["parameters"] == {"text": "hi there"}
    assert shown["events"][0]["name"] == "WorkflowInitiated"
    assert shown["events"][-1]["name"] == "WorkflowCompleted"
    assert shown["seconds"]["queued"] > 0
    text = command("show", answer["run"][:8]).stdout
    assert "obedient" in text
    assert re.search(r"importing \d+\.\d s", text)
    assert "working on" in command("logs", answer["run"]).stdout
    assert "working on" in json.loads(command("logs", answer["run"], "--follow", "--json").stdout)["text"]
    assert "is not on the cluster" not in command("logs", answer["run"], "--stream", "slurm").stderr


def test_a_failed_run_prints_the_cause_and_exits_with_1(command, tmp_path):
    images = command.site.images("one.tif")
    done = command("run", "obedient", "-i", images, "-o", tmp_path / "out", "-p", "exit=3", code=1)
    for part in ("failed", "exit code 3", "failing on purpose with 3", "biomeroworker retry"):
        assert part in done.stdout
    run = json.loads(command("runs", "--state", "failed", "--json").stdout)[0]["id"]
    again = command("retry", run).stdout.strip()
    assert json.loads(command("show", again, "--json").stdout)["state"] == "accepted"
    command("cancel", again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "zzz"), "no run has an ID that starts with 'zzz'"),
        (("resume", "zzz"), "no run has an ID that starts with 'zzz'"),
        (("run", "obedient", "-i", ".", "-o", "out", "-p", "nonsense"), "NAME=VALUE"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_traceback(command, arguments, message):
    done = command(*arguments, code=1)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_named_with_file_and_line(command, tmp_path):
    config = tmp_path / "bad.ini"
    config.write_text("[SLURM]\npoll_seconds = often\n")
    done = subprocess.run([PROGRAM, "config", "show", "--config", config], text=True, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert f"{config}:2" in done.stderr
    assert "poll_seconds" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_doctor_reports_each_problem_and_changes_nothing(command):
    findings = {one["subject"]: one for one in json.loads(command("doctor", "--json", code=1).stdout)}
    assert findings["ssh"]["level"] == "ok"
    assert findings["slurm"]["level"] == "ok"
    assert findings["image of obedient"]["level"] == "ok"
    assert findings["workflow broken"]["level"] == "fail"


def test_every_setting_is_shown_with_its_origin(command):
    shown = json.loads(command("config", "show", "--json").stdout)
    assert shown["SLURM.poll_seconds"]["origin"].startswith(str(command.site.config))
    assert shown["SLURM.container_runtime"]["origin"] == "default"


def test_help_and_version_need_no_configuration(command):
    assert command("--version").stdout.strip()
    assert "supervise" in command("--help").stdout
