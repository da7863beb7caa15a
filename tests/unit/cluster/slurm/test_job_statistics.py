"""What jobs requested and used, from answers of sacct as recorded and as described in its manual."""

from __future__ import annotations

from pathlib import Path

import pytest

from biomeroworker.cluster.slurm.accounting import parse_statistics, statistics_command
from biomeroworker.domain.job_statistics import JobStatistics

DATA = Path(__file__).parents[3] / "data" / "slurm"
MIB, GIB = 1 << 20, 1 << 30


def parsed(case: str, job_id: int, version: str = "22.05.8") -> JobStatistics:
    text = (DATA / version / "statistics" / f"{case}.txt").read_text()
    return parse_statistics(text, {job_id: f"case-{case}"})[job_id]


def test_memory_comes_from_the_steps_and_everything_else_from_the_job() -> None:
    assert parsed("done", 1) == JobStatistics(
        job_id=1,
        state="COMPLETED",
        partition="cpu",
        node="tmkl-n1",
        elapsed_seconds=2,
        time_limit_seconds=300,
        cpus=1,
        cpu_seconds=0.068,
        allocated_cpu_seconds=2,
        requested_memory_bytes=200 * MIB,
        max_rss_bytes=356 << 10,
        gpus=1,
    )


def test_the_memory_of_several_nodes_is_compared_node_by_node() -> None:
    found = parsed("two-nodes", 7)
    assert found.requested_memory_bytes == 50 * MIB
    assert (found.cpus, found.gpus, found.node) == (8, 4, "tmkl-n[1-2]")


def test_the_tasks_of_an_array_are_one_job() -> None:
    found = parsed("array", 8)
    assert (found.tasks, found.cpus, found.max_rss_bytes) == (4, 4, 360 << 10)
    assert found.state == "3 COMPLETED, 1 FAILED", "tasks that never started are not counted"


def test_a_step_that_was_too_short_for_a_sample_has_no_memory() -> None:
    assert parsed("out-of-memory", 4).max_rss_bytes is None


def test_the_use_of_a_gpu_and_a_job_without_time_limit() -> None:
    found = parsed("gpu", 71, "24.05")
    assert (found.gpus, found.gpu_percent, found.time_limit_seconds) == (1, 83.0, None)
    assert found.max_rss_bytes == int(21.5 * GIB)
    assert found.cpu_fraction == pytest.approx(49330 / 58600)
    assert found.memory_fraction == pytest.approx(21.5 / 64)
    assert found.time_fraction is None


def test_a_row_of_another_job_with_the_same_id_is_ignored() -> None:
    text = (DATA / "22.05.8" / "statistics" / "done.txt").read_text()
    assert parse_statistics(text, {1: "biomero-other-1"}) == {}
    assert parse_statistics(text, {2: "case-done"}) == {}


def test_a_job_that_accounting_does_not_know_yet_has_no_statistics() -> None:
    assert parse_statistics("", {1: "case-done"}) == {}
    assert parse_statistics("sacct: error: slurmdbd is away\n", {1: "case-done"}) == {}


@pytest.mark.parametrize(("requested", "expected"), [("4Gn", 4), ("1Gc", 4), ("4G", 4), ("16?", None), ("0n", None)])
def test_the_requested_memory_of_older_versions(requested: str, expected: int | None) -> None:
    text = f"5|COMPLETED|cpu|n1|1|60|10|4|240|01:00|{requested}||cpu=4,node=1||case-old\n"
    found = parse_statistics(text, {5: "case-old"})[5].requested_memory_bytes
    assert found == (None if expected is None else expected * GIB)


def test_statistics_survive_the_log() -> None:
    found = parsed("done", 1)
    assert JobStatistics.from_event({**found.to_event(), "of a later version": 1}) == found
    assert JobStatistics.from_event({}) == JobStatistics(job_id=-1)


def test_a_query_without_a_job_is_refused() -> None:
    with pytest.raises(ValueError, match="without a job id"):
        statistics_command([])
