"""The transport that misbehaves on purpose does so as told, and only then."""

import os
import time
from pathlib import Path

import pytest

from biomeroworker.cluster.apptainer import Apptainer
from biomeroworker.cluster.fake import FakeTransport
from biomeroworker.cluster.layout import attempt_name
from biomeroworker.cluster.refusals import SubmissionInDoubt
from biomeroworker.cluster.scheduler import JobSpec, JobState
from biomeroworker.cluster.site import Cluster
from biomeroworker.errors import Blocked, Permanent, Transient
from tests.unit.cluster.slurm_texts import SINCE, answered

NAME = attempt_name("3f0e8f9a-1111-4222-8333-444455556666", 1)
JOB = JobSpec(name=NAME, script="/s", stdout="/o", workdir="/w")


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


def test_an_upload_is_cut_after_so_many_bytes_and_goes_on(fake: FakeTransport, tree: Path) -> None:
    fake.cut(after_bytes=6_000_000)
    with pytest.raises(Transient):
        fake.send_tree(tree, "run")
    assert not fake.exists("run")
    assert 0 < fake.send_tree(tree, "run").travelled < 9_000_000
    assert {p.name: p.read_bytes() for p in (fake.home / "run").iterdir()} == {
        p.name: p.read_bytes() for p in tree.iterdir()
    }


def test_a_download_is_cut_after_so_many_bytes_and_goes_on(fake: FakeTransport, tree: Path, tmp_path: Path) -> None:
    fake.send_tree(tree, "run")
    fake.cut(after_bytes=6_000_000)
    with pytest.raises(Transient):
        fake.fetch_tree("run", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert 0 < fake.fetch_tree("run", tmp_path / "back").travelled < 9_000_000
    assert {p.name: p.read_bytes() for p in (tmp_path / "back").iterdir()} == {
        p.name: p.read_bytes() for p in tree.iterdir()
    }


def test_a_cut_that_is_never_reached_does_no_harm(fake: FakeTransport, tree: Path) -> None:
    fake.cut(after_bytes=100_000_000)
    assert fake.send_tree(tree, "run").files == 20


def test_a_file_that_is_written_when_the_link_is_cut_is_old_or_new(fake: FakeTransport) -> None:
    fake.write_file("f", b"old")
    fake.cut(after_bytes=1000)
    with pytest.raises(Transient):
        fake.write_file("f", bytes(100_000))
    assert fake.read_from("f") == b"old"


def test_answers_are_given_without_running_anything(fake: FakeTransport) -> None:
    fake.answer(["sbatch"], stdout="17\n")
    assert fake.run(["sbatch", "--parsable", "x"]).stdout == "17\n"
    assert fake.commands == [("sbatch", "--parsable", "x")]
    assert fake.executions == 1


# -- the cluster behind it ---------------------------------------------------------------------------------------------


def test_a_submission_without_an_answer_is_in_doubt(fake: FakeTransport, site: Cluster) -> None:
    fake.answer(["sbatch"], stderr="sbatch: error: Batch job submission failed: Socket timed out", returncode=1)
    with pytest.raises(SubmissionInDoubt):
        site.submit(JOB)


def test_a_silent_scheduler_is_never_an_answer(fake: FakeTransport, site: Cluster) -> None:
    fake.answer(["sh"], stdout=answered("slurm_load_jobs error: Unable to contact slurm controller", "x", 1, 1))
    with pytest.raises(Transient, match="SLURM does not answer"):
        site.status([NAME], SINCE)
    with pytest.raises(Transient, match="SLURM does not answer"):
        site.find(NAME, SINCE)


def test_without_the_queues_word_nobody_says_that_there_is_no_job(fake: FakeTransport, site: Cluster) -> None:
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


def test_slurm_that_is_not_on_the_path_needs_a_person(site: Cluster, fake: FakeTransport) -> None:
    fake.answer(["sh"], stdout=answered("sh: 1: squeue: not found", "sh: 1: sacct: not found", 127, 127))
    with pytest.raises((Blocked, Permanent), match="not usable"):
        site.status([NAME], SINCE)


def test_asking_about_nothing_asks_nobody(site: Cluster, fake: FakeTransport) -> None:
    assert site.status([], SINCE) == {}
    site.cancel([])
    assert site.versions([]) == {}
    assert fake.executions == 0


def test_paths_are_absolute_below_home(site: Cluster, fake: FakeTransport) -> None:
    run = "3f0e8f9a-1111-4222-8333-444455556666"
    assert site.attempt_folder(run, 1) == f"{fake.home}/data/biomero_{run}/attempt-1"
    site.run_folder(run)
    assert fake.executions == 1  # home is asked for once
