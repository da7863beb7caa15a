"""Tasks are evaluated one by one; their results are merged."""

import hashlib

import pytest

from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.engine.results import task_outcomes
from biomeroworker.errors import Transient


def left(folder, task, files, job=0, code=0):
    """What a task leaves behind."""
    own = folder / f"task-{task}"
    (own / "out").mkdir(parents=True)
    records = b""
    for name, content in files.items():
        place = own / "out" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        records += f"{hashlib.sha256(content).hexdigest()} {len(content)} {name}".encode() + b"\0"
    (own / "started").write_text("job_id=9\nnode=n1\n")
    (own / "exited").write_text(f"stage=container\ncode={code}\nsignal=\njob={job}\nseconds=1\nnode=n1\n")
    if job == 0:
        (own / "results").write_bytes(records)
    return own


def status(state=JobState.COMPLETED, task=0):
    return JobStatus(name="b", job_id=7, state=state, raw_state=state.name, task=task, node="n1")


def test_each_task_has_its_own_outcome(tmp_path):
    left(tmp_path, 0, {"image-1_mask.tif": b"one"})
    left(tmp_path, 1, {}, job=77, code=3)
    left(tmp_path, 2, {}, job=77, code=3)
    (tmp_path / "task-3").mkdir()
    statuses = {0: status(), 1: status(JobState.FAILED), 2: status(JobState.FAILED), 3: status(JobState.NODE_FAIL)}
    found = task_outcomes.classify_tasks(statuses, tmp_path, "r", 1)
    detail = found.detail()
    assert (detail["good"], detail["lost"]) == ("0", "3")
    (failed,) = detail["failed"]
    assert (failed["tasks"], failed["message"]) == ("1-2", "the container ended with exit code 3")


def test_a_task_with_a_missing_witness_has_no_outcome_yet(tmp_path):
    left(tmp_path, 0, {"a": b"1"})
    (tmp_path / "task-1").mkdir()
    with pytest.raises(Transient, match="task 1"):
        task_outcomes.classify_tasks({0: status(), 1: status(JobState.UNKNOWN, 1)}, tmp_path, "r", 1)


def test_a_result_that_was_not_fetched_completely_is_not_good(tmp_path):
    own = left(tmp_path, 0, {"a": b"1"})
    (own / "out/a").write_bytes(b"2")
    with pytest.raises(Transient, match="differs from the file"):
        task_outcomes.classify_tasks({0: status()}, tmp_path, "r", 1)


def test_names_that_tasks_share_do_not_overwrite_one_another(tmp_path):
    good = {
        0: left(tmp_path / "f1", 0, {"image-1_mask.tif": b"m1", "summary.csv": b"a\n1\n", "deep/x.txt": b"x0"}),
        5: left(tmp_path / "f2", 5, {"image-6_mask.tif": b"m6", "Summary.csv": b"a\n2\n"}),
    }
    for _ in range(2):  # gathered again after a crash, it is the same
        results = task_outcomes.merge_results(good, tmp_path / "results", "r", 2)
        assert [file.path for file in results.files] == [
            "0000/summary.csv", "0005/Summary.csv", "deep/x.txt", "image-1_mask.tif", "image-6_mask.tif",
        ]  # fmt: skip
        for file in results.files:
            content = (tmp_path / "results" / file.path).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file.sha256
    assert (tmp_path / "results/0005/Summary.csv").read_bytes() == b"a\n2\n"
    assert results.files[3].input_key == "image-1", "results are still matched by the input's id"
