"""Arrays on a real cluster: hold, release, throttle, outcome per task, and retry of failed tasks."""

from pathlib import Path

import pytest

from biomeroworker.deployment import rerun
from biomeroworker.deployment.fetch_results import fetch_run
from biomeroworker.eventlog.aggregates.states import RunState


def split(site, images, size=1, **parameters):
    return site.request(images, **parameters).model_copy(update={"batch_size": size})


def test_a_run_with_many_images_is_one_array_whose_tasks_start_when_their_chunks_arrive(site, tmp_path):
    images = site.images(*(f"i{number:02d}.tif" for number in range(7)))
    models = [site.folder / "first.txt", site.folder / "second.txt"]
    for model in models:
        model.write_text(f"{model.stem};")
    request = split(site, images, 2, labels=True)
    run = site.execute(request.model_copy(update={"files": {"model": tuple(map(str, models))}}))
    assert run.state is RunState.DONE, run.report
    assert (run.chunks, len(run.job_ids)) == (4, 1)
    found = sorted(path.name for path in site.results(run).iterdir())
    assert [name for name in found if name.endswith("_text.txt")] == [f"i{number:02d}_text.txt" for number in range(7)]
    assert [name for name in found if name.endswith("objects.csv")] == [f"000{n}_objects.csv" for n in range(4)]
    used = [path.read_text() for path in site.results(run).glob("*model.txt")]
    assert used == ["first;second;"] * 4, "each task has the folder of both files"
    assert len(site.jobs_ever(run.attempts[1].name, tasks=4)) == 4
    page = Path(run.outcomes[RunState.IMPORTING]["report"]).read_text()
    assert page.count("data:image/jpeg") == 7, (
        "thumbnails were kept of the chunks that were deleted after their transfer"
    )
    assert "14 objects in 7 images" in page
    names = [event.name for event in site.deployment.log.events(run.id)]
    assert names.index("JobSubmitted") < names.index("ChunksSent")
    again = {file.path for file in fetch_run(site.deployment, run, tmp_path / "again").results.files}
    assert {f"image-{n}_text.txt" for n in range(1, 8)} | {f"000{n}/objects.csv" for n in range(4)} <= again


@pytest.mark.slow
def test_array_throttle_limits_the_running_tasks(make_site):
    site = make_site(extra="array_throttle = 1")
    run = site.execute(split(site, site.images("a.tif", "b.tif", "c.tif"), sleep=1))
    assert run.state is RunState.DONE, run.report
    began = [
        line.partition("=")[2]
        for task in range(3)
        for line in site.deployment.cluster.transport.read_from(
            f"{site.deployment.cluster.attempt_folder(run.id, 1)}/task-{task}/started"
        ).decode().splitlines()
        if line.startswith("time=")
    ]  # fmt: skip
    assert len(set(began)) == 3, "each began in a second of its own"
    site.deployment.close()


def test_a_failed_task_does_not_affect_other_results_and_is_retried_alone(site):
    images = site.images("good.tif", "bad.tif", "fine.tif")
    run = site.execute(split(site, images, fail="image-1"))
    assert run.state is RunState.DONE, run.report
    (failed,) = run.report["failed"]
    assert failed["inputs"] == {"image-1": "bad"}
    assert "failing on image-1" in failed["detail"]
    request = rerun.build_rerun_request(run, failed=True)
    retried = request.model_copy(update={"parameters": {**request.parameters, "fail": ""}})
    second = site.execute(retried)
    assert second.state is RunState.DONE, second.report
    assert second.request["retry_of"] == str(run.id)
    texts = sorted(path.name for path in site.results(second).iterdir() if path.suffix == ".txt")
    assert texts == ["bad_text.txt", "fine_text.txt", "good_text.txt"]
