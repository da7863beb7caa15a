"""Pulls of several images, a few in parallel, and their progress reports."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from biomeroworker.cluster.containers import pull, registry_auth
from biomeroworker.cluster.containers.images import Images
from biomeroworker.cluster.containers.pull import PullJobs, PullRequest, pull_all
from biomeroworker.cluster.containers.runtime import Reference, RegistryCredentials
from biomeroworker.cluster.paths import RemotePaths
from biomeroworker.cluster.transport.transport import Completed
from biomeroworker.errors import ConfigError, Permanent, Transient
from tests.fakes.runtime import FakeRuntime
from tests.fakes.transport import FakeTransport


@pytest.fixture
def runtime(tmp_path: Path) -> FakeRuntime:
    fake = FakeRuntime(tmp_path / "registry")
    for name in ("one", "two", "three", "four"):
        fake.put(f"lab/{name}", "v1", "echo ran")
    return fake


@pytest.fixture
def transport(tmp_path: Path) -> FakeTransport:
    return FakeTransport(tmp_path / "home", path=[tmp_path / "bin"])


@pytest.fixture
def images(transport: FakeTransport, runtime: FakeRuntime) -> Images:
    folders = RemotePaths(transport, data="data", images="images", converters="converters")
    return Images(transport, runtime, folders, {"zarr_to_tiff": "lab/two:v1"})


WANTED = [PullRequest(name, f"lab/{name}:v1", f"w/{name}") for name in ("one", "two", "three", "four")]


def test_a_few_are_pulled_at_a_time(images: Images, transport: FakeTransport) -> None:
    inside, most, lock, several = 0, 0, threading.Lock(), threading.Event()

    def run(command: Sequence[str], stdin: bytes) -> Completed:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == 2:
                several.set()
        several.wait(20)
        done = transport.run(command, stdin=stdin)
        with lock:
            inside -= 1
        return done

    lines: list[str] = []
    outcomes = pull_all(images, WANTED, lines.append, max_parallel=2, run=run)
    assert most == 2
    assert [outcome.request for outcome in outcomes] == WANTED
    assert all(outcome.image and outcome.image.digest for outcome in outcomes)
    assert [line[:5] for line in lines if line.startswith("[")] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]


def test_a_failed_pull_does_not_stop_the_others(images: Images) -> None:
    wanted = [
        *WANTED[:2],
        PullRequest("bad", "lab/none:v1", "w/bad"),
        PullRequest("worse", "no image!", "w/x"),
        *WANTED[2:],
    ]
    lines: list[str] = []
    outcomes = pull_all(images, wanted, lines.append, max_parallel=2)
    assert [bool(outcome.image) for outcome in outcomes] == [True, True, False, False, True, True]
    assert isinstance(outcomes[2].fault, Permanent)
    assert "there is no image lab/none:v1" in str(outcomes[2].fault)
    assert "does not name a container image" in str(outcomes[3].fault)
    assert any("bad: there is no image" in line for line in lines)


def test_a_second_pull_transfers_nothing(images: Images, transport: FakeTransport) -> None:
    pull_all(images, [*WANTED, PullRequest("zarr_to_tiff", "lab/two:v1")], print, max_parallel=2)
    before = transport.executions
    outcomes = pull_all(images, WANTED, print, max_parallel=2)
    assert all(outcome.image for outcome in outcomes)
    assert transport.executions == before + len(WANTED)  # one look each
    assert images.converter().path.endswith("converters/convert_zarr_to_tiff_v1.sif")


def test_long_pulls_are_reported(images: Images, transport: FakeTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "REPORT_INTERVAL_SECONDS", 0.05)
    reported = threading.Event()

    def run(command: Sequence[str], stdin: bytes) -> Completed:
        assert reported.wait(20)
        return transport.run(command, stdin=stdin)

    def report_line(line: str) -> None:
        if "still pulling one" in line:
            reported.set()

    assert pull_all(images, WANTED[:1], report_line, max_parallel=1, run=run)[0].image


def test_a_killed_pull_leaves_no_incomplete_image_and_the_next_one_removes_its_files(
    images: Images, runtime: FakeRuntime, transport: FakeTransport
) -> None:
    folder = transport.home / "images/w/one"
    whole = "echo ran\n" * 20_000
    runtime.put("lab/one", "v1", whole)
    command = runtime.pull_command(Reference.parse("lab/one:v1"), str(folder / "one_v1.sif"))
    for milliseconds in range(2, 62, 4):
        transport.run(["timeout", "-s", "KILL", f"{milliseconds / 1000}", *command])
        if (folder / "one_v1.sif").exists():
            assert (folder / "one_v1.sif").read_text() == whole
            assert images.image("w/one", "lab/one:v1").digest, "the record is there before the image"
            (folder / "one_v1.sif").unlink()
    for dead in folder.glob(".pull-*"):
        (dead / "lock").touch()  # killed before it could make its lock: the next hour's pulls leave it alone
    pull_all(images, WANTED[:1], print, max_parallel=1)
    assert (folder / "one_v1.sif").read_text() == whole
    assert sorted(path.name for path in folder.iterdir()) == ["one_v1.sif", "one_v1.sif.json"]


# -- in jobs -----------------------------------------------------------------------------------------------------------

SBATCH = """#!/bin/sh
echo "$@" >>"$HOME/sbatch.log"
case "$*" in *--mem=wrong*) echo 'sbatch: error: Invalid --mem specification' >&2; exit 1 ;; esac
for last do :; done
(setsid bash "$last" >/dev/null 2>&1 </dev/null &)
echo 7
"""
SQUEUE = """#!/bin/sh
[ ! -e "$HOME/queued" ] || echo PENDING
"""


@pytest.fixture
def jobs(tmp_path: Path, transport: FakeTransport, monkeypatch: pytest.MonkeyPatch) -> PullJobs:
    monkeypatch.setattr(pull, "POLL_INTERVAL_SECONDS", 0.05)
    (tmp_path / "bin").mkdir()
    for name, script in (("sbatch", SBATCH), ("squeue", SQUEUE)):
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    return PullJobs(transport, "images/.pulls", {"cpus-per-task": "8", "mem": "32G", "exclusive": ""})


def test_a_job_pulls_with_its_cores_and_memory_and_leaves_nothing(
    images: Images, jobs: PullJobs, transport: FakeTransport
) -> None:
    image = pull_all(images, WANTED[:1], print, max_parallel=1, run=jobs)[0].image
    assert image is not None
    assert image.digest
    submitted = (transport.home / "sbatch.log").read_text()
    assert "--cpus-per-task=8 --mem=32G --exclusive" in submitted
    assert transport.list_dir("images/.pulls") == []


def test_a_failed_pull_job_is_reported_like_one_on_the_login_node(images: Images, jobs: PullJobs) -> None:
    fault = pull_all(images, [PullRequest("bad", "lab/none:v1", "w/bad")], print, max_parallel=1, run=jobs)[0].fault
    assert isinstance(fault, Permanent)
    assert "there is no image" in str(fault)


def test_a_waiting_pull_job_of_an_earlier_call_is_not_submitted_again(
    images: Images, jobs: PullJobs, transport: FakeTransport
) -> None:
    (transport.home / "queued").touch()
    command = images._runtime.pull_command(Reference.parse("lab/one:v1"), f"{transport.home}/images/w/one/one_v1.sif")
    done: list[Completed] = []
    waiting = threading.Thread(target=lambda: done.append(jobs(command, b"ada\nsecret\n")))
    waiting.start()
    deadline = threading.Event()
    while not (folders := list((transport.home / "images/.pulls").glob("*/job.sh"))) and not deadline.wait(0.02):
        pass
    for _ in range(500):  # it queries, and finds a job of that name
        if sum("status" in command for command in transport.commands) >= 2:
            break
        deadline.wait(0.02)
    folder = folders[0].parent
    assert not (transport.home / "sbatch.log").exists()
    assert not (folder / "login").exists()
    (folder / "answer").write_text("\nrecord {}\n")
    (folder / "complaint").touch()
    (folder / "code").write_text("0\n")
    waiting.join(20)
    assert done[0].ok


def test_credentials_of_a_pull_job_are_on_no_command_line_and_removed_when_it_runs(
    jobs: PullJobs, transport: FakeTransport
) -> None:
    look = 'read -r name; read -r word; ls; printf "%s:%s\\n" "$name" "$word"'
    done = jobs(["sh", "-c", look], b"ada\nsec'ret\n")
    assert done.stdout.endswith("ada:sec'ret\n")
    assert "login" not in done.stdout.split()
    assert not any("sec'ret" in word for command in transport.commands for word in command)


def test_a_lost_connection_does_not_end_a_pull_job(jobs: PullJobs, transport: FakeTransport) -> None:
    transport.fail(Transient("link down"), after=3)  # two files, the submission, and then the first question
    assert jobs(["echo", "pulled"], b"").stdout == "pulled\n"


def test_a_job_that_sbatch_refuses_names_the_settings(transport: FakeTransport, jobs: PullJobs) -> None:
    with pytest.raises(Permanent, match="refuses the job") as caught:
        PullJobs(transport, "images/.pulls", {"mem": "wrong"})(["true"], b"")
    assert "image_pull_mem" in caught.value.hint
    assert "Invalid --mem" in caught.value.detail


def test_a_lost_pull_job_is_not_waited_for_forever(
    transport: FakeTransport, jobs: PullJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "_LOST_SECONDS", 0.3)
    with pytest.raises(Transient, match="no exit code"):
        jobs(["sh", "-c", "kill -9 $PPID"], b"")


# -- logins ------------------------------------------------------------------------------------------------------------


def secrets(path: Path, **entries: str) -> Path:
    auths = {key: {"auth": base64.b64encode(value.encode()).decode()} for key, value in entries.items()}
    path.write_text(json.dumps({"auths": auths}))
    path.chmod(0o600)
    return path


def test_the_credentials_of_the_registry_with_the_longest_path_are_used(tmp_path: Path) -> None:
    file = secrets(
        tmp_path / "auth.json",
        **{"ghcr.io": "a:1", "ghcr.io/lab": "b:2", "https://index.docker.io/v1/": "hub:3", "reg:5000": "c:with:colons"},
    )
    for reference, login in (
        ("ghcr.io/other/x:v1", RegistryCredentials("a", "1")),
        ("ghcr.io/lab/x", RegistryCredentials("b", "2")),
        ("ghcr.io/laboratory/x", RegistryCredentials("a", "1")),
        ("org/name:v1", RegistryCredentials("hub", "3")),
        ("reg:5000/x", RegistryCredentials("c", "with:colons")),
        ("quay.io/org/name", None),
    ):
        assert registry_auth.login_for(Reference.parse(reference), file) == login, reference
    assert registry_auth.reader(None)(Reference.parse("ghcr.io/lab/x")) is None


def test_an_unsafe_or_invalid_credentials_file_is_refused_without_showing_its_content(tmp_path: Path) -> None:
    wanted = Reference.parse("ghcr.io/lab/x")
    file = secrets(tmp_path / "auth.json", **{"ghcr.io": "ada:hunter2"})
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        registry_auth.login_for(wanted, file)
    for content in (
        "hunter2",
        '{"auths": {"ghcr.io": "hunter2"}}',
        '{"auths": {"ghcr.io": {"auth": "hunter2"}}}',
        "[]",
    ):
        file.write_text(content)
        file.chmod(0o600)
        with pytest.raises(ConfigError) as refused:
            registry_auth.login_for(wanted, file)
        assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        registry_auth.login_for(wanted, tmp_path / "none")


def test_a_pull_that_has_not_locked_its_folder_yet_is_not_removed(
    images: Images, transport: FakeTransport, tmp_path: Path
) -> None:
    slow = tmp_path / "home/slow"
    slow.touch()
    shim = tmp_path / "bin/flock"
    shim.parent.mkdir()
    shim.write_text('#!/bin/sh\n[ ! -e "$HOME/slow" ] || { rm "$HOME/slow"; sleep 2; }\nexec /usr/bin/flock "$@"\n')
    shim.chmod(0o755)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(images.pull, "w/one", "lab/one:v1")
        deadline = time.monotonic() + 20
        while slow.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        images.pull("w/one", "lab/two:v1")
        assert first.result().digest
