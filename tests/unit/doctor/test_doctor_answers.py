"""The doctor's commands with unusual values of the ini, and the findings that it makes from outputs."""

from __future__ import annotations

import contextlib
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from biomeroworker.cluster.registry import Clusters
from biomeroworker.cluster.transport import remote_scripts
from biomeroworker.config import Settings
from biomeroworker.doctor import front_end, interpret, local_checks, probe
from biomeroworker.doctor.examination import examine
from biomeroworker.domain.findings import Finding
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.workflows.catalogue import Catalogue

NASTY = 'it\'s $(touch injected) "x" `touch injected`;touch injected & [end 0] *'


def settings(tmp_path: Path, text: str = "") -> Settings:
    file = tmp_path / "site.ini"
    file.write_text(text)
    return Settings.load(file, {"HOME": str(tmp_path)}, standard=[])


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with these programs only; ``sbatch`` records its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "date", "id", "env", "sed", "timeout", "dirname", "df", "tail", "awk", "stat", "grep", "sort",
                 "head", "mkdir", "cat", "rm", "sleep"):  # fmt: skip
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    for name in ("scontrol", "sinfo", "squeue", "sacct", "scancel", "sacctmgr"):
        (folder / name).write_text("#!/bin/sh\nexit 0\n")
    (folder / "sbatch").write_text('#!/bin/sh\nprintf "%s\\0" "$@" >>"$HOME/words"\necho 4711\n')
    for file in folder.iterdir():
        if not file.is_symlink():
            file.chmod(0o755)
    return {"PATH": str(folder), "HOME": str(tmp_path)}


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd=environment["HOME"])
    return done.stdout


def test_values_of_the_ini_reach_the_commands_unchanged_and_execute_nothing(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    strange = tmp_path / NASTY
    strange.mkdir()
    answer = front_end.parse(
        run(front_end.command([str(strange), "absent"], "nothing", [{"comment": NASTY, "hold": ""}]), environ)
    )
    assert answer["folder 0"].lines[:3] == ["folder", "exists", "writable"]
    assert "exists" not in answer["folder 1"].lines
    assert "can-be-made" in answer["folder 1"].lines
    words = (tmp_path / "words").read_text().split("\0")
    assert words[:4] == ["--test-only", f"--comment={NASTY}", "--hold", "--wrap=true"]
    assert answer.value("test 0") == "4711"
    assert answer.value("program nothing") == ""
    assert not (tmp_path / "injected").exists()


def test_values_of_the_ini_reach_a_probe_unchanged_and_its_folder_is_removed(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    (tmp_path / NASTY).mkdir()
    found = settings(tmp_path).clusters[""]  # it would refuse such a path; the probe does not depend on that
    found = found.model_copy(update={"slurm": found.slurm.model_copy(update={"slurm_data_path": f"~/{NASTY}"})})
    nodes = [probe.Node("n1", "cpu", "idle")]
    command = probe.command(found, nodes, {"cpu": {"account": NASTY}}, token="abc", deadline=1, runtime="apptainer")
    assert "submitted n1 4711" in run(command, environ)
    words = (tmp_path / "words").read_text().split("\0")
    assert f"--account={NASTY}" in words
    assert words[-5:-1] == [f"{tmp_path}/{NASTY}/.probe-abc", "abc", "", "apptainer"]
    assert list((tmp_path / NASTY).iterdir()) == []
    assert not (tmp_path / "injected").exists()


def examine_answer(
    found: Settings, answer: front_end.Answer, seen: tuple[float, float], runtime: str
) -> Iterator[Finding]:
    return interpret.examine(found, found.clusters[""], answer, [], seen, runtime)


def probed(found: Settings, nodes: list[probe.Node], text: str) -> dict[str, Finding]:
    return {one.subject: one for one in probe.examine(found.clusters[""], nodes, text, deadline=9, runtime="apptainer")}


@pytest.mark.parametrize(
    ("code", "message", "line"),
    [
        (1, "does not see the data folder", "slurm_data_path"),
        (2, "another, or an older, data folder", "slurm_data_path"),
        (4, "cannot write", "slurm_data_path"),
        (8, "does not see the images", "slurm_images_path"),
        (16, "has no apptainer", "container_runtime"),
        (32, "temporary folder", "sbatch_exclude"),
        (17, "does not see the data folder, has no apptainer", "container_runtime"),
    ],
)
def test_the_exit_code_of_a_probe_becomes_a_finding(tmp_path: Path, code: int, message: str, line: str) -> None:
    job = f"JobId=12 JobName=p JobState=FAILED Reason=NonZeroExitCode ExitCode={code}:0 NodeList=n1"
    text = f"submitted n1 12\njob {job}\n"
    finding = probed(settings(tmp_path), [probe.Node("n1", "cpu", "idle")], text)["node n1"]
    assert (finding.level, message in finding.message) == ("fail", True), finding
    assert line in finding.setting
    assert "sbatch_exclude = n1" in finding.remedy


def test_a_node_that_could_not_be_probed_is_a_warning_not_a_failure(tmp_path: Path) -> None:
    nodes = [
        probe.Node("n1", "cpu", "drained*", "bad disk"),
        probe.Node("n2", "cpu", "alloc"),
        probe.Node("n3", "cpu", "idle"),
        probe.Node("n4", "cpu", "idle"),
        probe.Node("n5", "cpu", "idle"),
    ]
    text = """submitted n2 1
refused n3 Invalid account or account/partition combination specified
submitted n4 2
submitted n5 3
job JobId=1 JobState=PENDING Reason=Resources ExitCode=0:0
job JobId=2 JobState=COMPLETED Reason=None ExitCode=0:0
job JobId=3 JobState=NODE_FAIL Reason=NodeDown ExitCode=0:1
"""
    found = probed(settings(tmp_path), nodes, text)
    assert [found[f"node n{number}"].level for number in range(1, 6)] == ["warn", "warn", "warn", "ok", "fail"]
    assert "bad disk" in found["node n1"].message
    assert "(Resources)" in found["node n2"].message
    assert "Invalid account" in found["node n3"].message
    assert "NODE_FAIL" in found["node n5"].message


CLUSTER = """[clock]
1000

[end 0]
[program sbatch]
/usr/bin/sbatch

[end 0]
"""


def test_missing_slurm_commands_are_one_finding_and_end_the_examination(tmp_path: Path) -> None:
    found = {
        one.subject: one
        for one in examine_answer(settings(tmp_path), front_end.parse(CLUSTER), (1000.2, 1003.4), "apptainer")
    }
    assert found["clock"].message == "the same on both sides"
    assert found["slurm"].level == "fail"
    assert "squeue, sacct" in found["slurm"].message
    assert "[SSH] host" in found["slurm"].setting
    assert "partition" not in str(found)


def test_a_missing_or_too_old_python3_is_reported_with_the_host_and_what_to_do(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def finding() -> Finding:
        answer = front_end.parse(run(front_end.command([], "apptainer", []), environ))
        site = settings(tmp_path, "[SSH]\nhost = login1\n")
        return next(one for one in examine_answer(site, answer, (0, 0), "x") if one.subject == "python")

    python = tmp_path / "python3"
    monkeypatch.setattr(remote_scripts, "PYTHONS", str(python))
    assert finding().message == "login1 has no python3 of version 3.6 or later (found: none)"
    assert "[SSH] host" in finding().setting
    assert "install python3" in finding().remedy
    python.write_text('#!/bin/sh\n[ "$1" = -V ] || exit 1\necho Python 3.4.10\n')
    python.chmod(0o755)
    assert (finding().level, finding().message) == (
        "fail", f"login1 has no python3 of version 3.6 or later (found: {python} (Python 3.4.10))",
    )  # fmt: skip
    monkeypatch.setattr(remote_scripts, "PYTHONS", sys.executable)
    assert finding() == Finding("ok", "python", f"{sys.executable} {platform.python_version()}")


@pytest.mark.parametrize(("there", "level"), [(1000, "ok"), (1040, "warn"), (960, "warn"), (9000, "fail")])
def test_a_difference_between_the_clocks_is_reported(tmp_path: Path, there: int, level: str) -> None:
    text = CLUSTER.replace("1000", str(there))
    found = {
        one.subject: one for one in examine_answer(settings(tmp_path), front_end.parse(text), (1000.0, 1001.0), "x")
    }
    assert found["clock"].level == level


def test_a_site_without_accounting_gets_a_warning_with_the_consequence(tmp_path: Path) -> None:
    programs = "".join(f"[program {name}]\n/usr/bin/{name}\n\n[end 0]\n" for name in front_end.PROGRAMS)
    text = f"""{programs}[config]
AccountingStorageType   = accounting_storage/none
MinJobAge               = 300 sec

[end 0]
[accounting]
Slurm accounting storage is disabled

[end 1]
"""
    found = {one.subject: one for one in examine_answer(settings(tmp_path), front_end.parse(text), (0, 0), "apptainer")}
    assert found["sacct"].level == "warn"
    assert "does not record finished jobs" in found["sacct"].message
    assert "300 sec" in found["sacct"].message


def test_a_missing_section_counts_as_failed() -> None:
    assert front_end.parse("").value("clock") == ""
    assert front_end.parse("").records("partitions") == []


def test_the_database_check_creates_no_tables(tmp_path: Path) -> None:
    found = settings(tmp_path)
    findings = list(local_checks.database(found))
    assert (findings[0].level, "empty" in findings[0].message) == ("ok", True)
    assert not (tmp_path / ".local").exists()
    with RunLog.open(found.database_url) as log:
        log.accept({}, name="w", description="w", user=-1, group=-1)
    assert "1 unfinished runs" in next(iter(local_checks.database(found))).message


def test_a_log_of_biomero_is_recognised_and_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "old.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as old:
        old.execute("create table workflowtracker_events (id integer primary key)")
    found = settings(tmp_path, f"[ANALYTICS]\nsqlalchemy_url = sqlite:///{file}\n")
    assert "a log of biomero" in next(iter(local_checks.database(found))).message
    with contextlib.closing(sqlite3.connect(file)) as old:
        assert [row[0] for row in old.execute("select name from sqlite_master")] == ["workflowtracker_events"]


def test_a_work_folder_that_cannot_be_examined_is_a_finding(tmp_path: Path) -> None:
    found = local_checks.work_folder(settings(tmp_path, f"[WORKER]\nwork_folder = {tmp_path}/{'x' * 300}\n"))
    assert (found.level, found.setting.partition(": ")[2]) == ("fail", "[WORKER] work_folder")
    assert "cannot be examined" in found.message


@pytest.mark.parametrize(
    ("content", "mode", "level", "message"),
    [
        (None, 0o600, "fail", "cannot be read (FileNotFoundError)"),
        ("{", 0o600, "fail", "cannot be read"),
        ('{"auths": {}}', 0o644, "fail", "chmod 600"),
        ('{"auths": {"reg.lab": {"auth": "!"}}}', 0o600, "fail", "no name and password for reg.lab"),
        ('{"auths": {"reg.lab": {"auth": "bWU6cHc="}}}', 0o600, "ok", "a login for 1 of 1 images"),
    ],
)
def test_the_file_with_registry_logins_is_checked(
    tmp_path: Path, content: str | None, mode: int, level: str, message: str
) -> None:
    file = tmp_path / "auth.json"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    configured = f"[SLURM]\nregistry_credentials = {file}\n[CONVERTERS]\nzarr_to_tiff = reg.lab/convert:v1\n"
    deployment = settings(tmp_path, configured + "[SSH]\nhost = nowhere.invalid\n")
    findings = {one.subject: one for one in examine(deployment, Clusters(deployment), Catalogue(deployment))}
    found = findings["registry credentials"]
    assert (found.level, message in found.message) == (level, True), found
    assert (found.setting.endswith("site.ini:2: [SLURM] registry_credentials")) == (level == "fail")
