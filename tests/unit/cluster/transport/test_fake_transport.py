"""The fake transport injects exactly the faults that a test requests."""

import os
import threading
import time
from pathlib import Path

import pytest

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.cluster.paths import attempt_name
from biomeroworker.cluster.slurm.scheduler import JobSpec
from biomeroworker.cluster.slurm.submit_errors import SubmissionUncertain
from biomeroworker.cluster.slurm.submit_once import AttemptAbandoned, AttemptClaimed
from biomeroworker.domain.job_status import JobState
from biomeroworker.errors import Blocked, Permanent, Transient
from tests.fakes.transport import FakeTransport
from tests.unit.cluster.slurm.slurm_texts import SINCE, answered

NAME = attempt_name("3f0e8f9a-1111-4222-8333-444455556666", 1)


@pytest.fixture
def fake(tmp_path: Path) -> FakeTransport:
    return FakeTransport(tmp_path / "home")


@pytest.fixture
def site(fake: FakeTransport) -> Cluster:
    return Cluster(fake, Apptainer(), data="data", images="images", converters="converters")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    for number in range(20):
        (tmp_path / "tree" / str(number)).write_bytes(os.urandom(500_000))
    return tmp_path / "tree"


def test_the_armed_execution_fails_and_no_other(fake: FakeTransport) -> None:
    fake.fail(Blocked("key refused"), after=1)
    assert fake.run(["true"]).ok
    with pytest.raises(Blocked, match="key refused"):
        fake.run(["true"])
    assert fake.run(["true"]).ok


def test_a_hang_ends_with_the_timeout(fake: FakeTransport) -> None:
    fake.hang()
    began = time.monotonic()
    with pytest.raises(Transient, match="within"):
        fake.run(["true"], timeout=0.3)
    assert time.monotonic() - began < 5
    assert fake.run(["true"]).ok


def test_an_interrupted_upload_continues(fake: FakeTransport, tree: Path) -> None:
    fake.cut(after_bytes=6_000_000)
    with pytest.raises(Transient):
        fake.send_tree(tree, "run")
    assert not fake.exists("run")
    assert 0 < fake.send_tree(tree, "run").bytes_sent < 9_000_000
    assert {p.name: p.read_bytes() for p in (fake.home / "run").iterdir()} == {
        p.name: p.read_bytes() for p in tree.iterdir()
    }


def test_an_interrupted_download_continues(fake: FakeTransport, tree: Path, tmp_path: Path) -> None:
    fake.send_tree(tree, "run")
    fake.cut(after_bytes=6_000_000)
    with pytest.raises(Transient):
        fake.fetch_tree("run", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert 0 < fake.fetch_tree("run", tmp_path / "back").bytes_sent < 9_000_000
    assert {p.name: p.read_bytes() for p in (tmp_path / "back").iterdir()} == {
        p.name: p.read_bytes() for p in tree.iterdir()
    }


def test_a_cut_after_the_end_of_the_transfer_has_no_effect(fake: FakeTransport, tree: Path) -> None:
    fake.cut(after_bytes=100_000_000)
    assert fake.send_tree(tree, "run").files == 20


def test_a_file_has_the_old_or_the_new_content_after_a_lost_connection(fake: FakeTransport) -> None:
    fake.write_file("f", b"old")
    fake.cut(after_bytes=1000)
    with pytest.raises(Transient):
        fake.write_file("f", bytes(100_000))
    assert fake.read_from("f") == b"old"


def test_prepared_answers_run_no_command(fake: FakeTransport) -> None:
    fake.answer(["sbatch"], stdout="17\n")
    assert fake.run(["sbatch", "--parsable", "x"]).stdout == "17\n"
    assert fake.commands == [("sbatch", "--parsable", "x")]
    assert fake.executions == 1


# -- the cluster behind it ---------------------------------------------------------------------------------------------


@pytest.fixture
def attempt(tmp_path: Path) -> JobSpec:
    """An attempt with a folder."""
    folder = tmp_path / "attempt-1"
    folder.mkdir()
    return JobSpec(name=NAME, script="/s", stdout="/o", workdir=str(folder))


def sbatch(tmp_path: Path, program: str) -> Cluster:
    """A cluster whose sbatch is ``program``; it counts its calls in the file ``calls``."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/sh\necho call >>{tmp_path}/calls\n{program}\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    fake = FakeTransport(tmp_path / "home", path=[tmp_path / "bin"])
    return Cluster(fake, Apptainer(), data="data", images="images", converters="converters")


def calls(tmp_path: Path) -> int:
    return len((tmp_path / "calls").read_text().split())


TIMED_OUT = "echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1"


@pytest.mark.parametrize("program", [TIMED_OUT, "echo hello", "kill -9 $$"])
def test_a_submission_without_an_answer_is_uncertain_and_not_repeated(
    tmp_path: Path, attempt: JobSpec, program: str
) -> None:
    site = sbatch(tmp_path, program)
    with pytest.raises(SubmissionUncertain):
        site.submit(attempt)
    for _ in range(2):
        with pytest.raises(AttemptClaimed) as caught:
            site.submit(attempt)
    assert 0 <= caught.value.seconds < 60
    assert calls(tmp_path) == 1


def test_a_second_submission_adopts_the_job_of_the_first(tmp_path: Path, attempt: JobSpec) -> None:
    assert sbatch(tmp_path, "echo 17").submit(attempt) == 17
    assert sbatch(tmp_path, "echo 18").submit(attempt) == 17
    assert calls(tmp_path) == 1


def test_only_one_of_many_parallel_submissions_reaches_the_scheduler(tmp_path: Path, attempt: JobSpec) -> None:
    site = sbatch(tmp_path, "sleep 0.2; echo 17")
    found: list[int | None] = []

    def submit() -> None:
        try:
            found.append(site.submit(attempt))
        except SubmissionUncertain:
            found.append(None)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert calls(tmp_path) == 1
    assert set(found) <= {17, None}
    assert 17 in found


def test_a_lost_answer_of_sbatch_is_read_by_the_next_submission(tmp_path: Path, attempt: JobSpec) -> None:
    site = sbatch(tmp_path, "sleep 0.3; echo 17")
    assert isinstance(site.transport, FakeTransport)
    frame = len(site.transport._word) + 2
    site.transport.cut(after_bytes=frame)  # the frame before the answer, and not the answer
    with pytest.raises(Transient):
        site.submit(attempt)
    eventually = time.monotonic() + 30
    while True:
        assert time.monotonic() < eventually, "the answer never came"
        try:
            assert site.submit(attempt) == 17
            break
        except SubmissionUncertain:
            time.sleep(0.1)
    assert calls(tmp_path) == 1


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("sbatch: error: invalid partition specified: nope", Permanent),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", Transient),
    ],
)
def test_a_refusal_gives_the_attempt_back(tmp_path: Path, attempt: JobSpec, words: str, fault: type[Exception]) -> None:
    with pytest.raises(fault) as caught:
        sbatch(tmp_path, f"echo '{words}' >&2; exit 1").submit(attempt)
    assert not isinstance(caught.value, SubmissionUncertain)
    assert list(Path(attempt.workdir).iterdir()) == []
    assert sbatch(tmp_path, "echo 18").submit(attempt) == 18


def test_an_abandoned_attempt_is_not_submitted(tmp_path: Path) -> None:
    site = sbatch(tmp_path, "echo 17")
    folder = site.attempt_folder("3f0e8f9a-1111-4222-8333-444455556666", 1)
    Path(folder).mkdir(parents=True)
    assert site.abandon("3f0e8f9a-1111-4222-8333-444455556666", 1) is None
    with pytest.raises(AttemptAbandoned):
        site.submit(JobSpec(name=NAME, script="/s", stdout="/o", workdir=folder))
    assert not (tmp_path / "calls").exists()


def test_an_attempt_with_a_started_job_cannot_be_abandoned(tmp_path: Path) -> None:
    site = sbatch(tmp_path, "echo 17")
    folder = Path(site.attempt_folder("3f0e8f9a-1111-4222-8333-444455556666", 1))
    folder.mkdir(parents=True)
    (folder / "holder").symlink_to("23")
    assert site.abandon("3f0e8f9a-1111-4222-8333-444455556666", 1) == 23
    assert site.submit(JobSpec(name=NAME, script="/s", stdout="/o", workdir=str(folder))) == 23


def test_an_attempt_without_a_folder_counts_as_abandoned(tmp_path: Path) -> None:
    assert sbatch(tmp_path, "echo 17").abandon("3f0e8f9a-1111-4222-8333-444455556666", 1) is None


def test_a_silent_scheduler_is_never_an_answer(fake: FakeTransport, site: Cluster) -> None:
    fake.answer(["sh"], stdout=answered("slurm_load_jobs error: Unable to contact slurm controller", "x", 1, 1))
    with pytest.raises(Transient, match="SLURM does not answer"):
        site.status([NAME], SINCE)
    with pytest.raises(Transient, match="SLURM does not answer"):
        site.find(NAME, SINCE)


def test_without_squeue_no_job_counts_as_missing(fake: FakeTransport, site: Cluster) -> None:
    fake.answer(["sh"], stdout=answered("Unable to contact slurm controller", "", 1, 0))
    assert site.status([NAME], SINCE) == {NAME: []}
    with pytest.raises(Transient, match=f"looking for {NAME}"):
        site.find(NAME, SINCE)


def test_without_accounting_the_queue_is_enough_to_adopt_a_job(fake: FakeTransport, site: Cluster) -> None:
    row = f"9|N/A|RUNNING|2026-11-21T02:46:18|0:05|n1|None|{NAME}"
    fake.answer(["sh"], stdout=answered(row, "Slurm accounting storage is disabled", 0, 1))
    found = site.find(NAME, SINCE)
    assert found is not None
    assert (found.job_id, found.state) == (9, JobState.RUNNING)


def test_slurm_that_is_not_on_the_path_is_blocked(site: Cluster, fake: FakeTransport) -> None:
    fake.answer(["sh"], stdout=answered("sh: 1: squeue: not found", "sh: 1: sacct: not found", 127, 127))
    with pytest.raises((Blocked, Permanent), match="not usable"):
        site.status([NAME], SINCE)


def test_a_query_without_names_runs_no_command(site: Cluster, fake: FakeTransport) -> None:
    assert site.status([], SINCE) == {}
    site.cancel([])
    assert site.versions([]) == {}
    assert fake.executions == 0


def test_paths_are_absolute_below_home(site: Cluster, fake: FakeTransport) -> None:
    run = "3f0e8f9a-1111-4222-8333-444455556666"
    assert site.attempt_folder(run, 1) == f"{fake.home}/data/biomero_{run}/attempt-1"
    site.run_folder(run)
    assert fake.executions == 1  # the home folder is queried once
