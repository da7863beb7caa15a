"""Fetch the results of runs that are done once more, from a real cluster."""

import json

import pytest

from biomeroworker.deployment.fetch_results import fetch_run, run_of_job
from biomeroworker.deployment.run_actions import Requester
from biomeroworker.errors import RequestRejected

ADMIN = Requester(0, is_admin=True)


@pytest.mark.parametrize("batch_size", [0, 1], ids=["one job", "an array"])
def test_the_results_of_a_run_are_fetched_again_until_its_folder_is_removed(site, tmp_path, batch_size):
    request = site.request(site.images("a.tif", "b.tif")).model_copy(update={"batch_size": batch_size})
    run = site.execute(request)
    assert run_of_job(site.deployment, run.job_ids[0], ADMIN).id == run.id
    with pytest.raises(RequestRejected, match="not recorded as yours"):
        run_of_job(site.deployment, run.job_ids[0], Requester(7))

    fetched = fetch_run(site.deployment, run, tmp_path)
    assert sorted(file.path for file in fetched.results.files) == ["image-1_text.txt", "image-2_text.txt"]
    assert (fetched.folder / "image-1_text.txt").read_text() == "hello"
    assert [image.name for image in fetched.inputs.images] == ["a", "b"]
    recorded = json.loads((site.results(run) / "provenance.json").read_text())
    assert (fetched.provenance.job_id, fetched.provenance.version) == (recorded["job_id"], recorded["version"])

    site.deployment.cluster.transport.remove(site.deployment.cluster.run_folder(run.id))
    with pytest.raises(RequestRejected, match="was removed from the cluster"):
        fetch_run(site.deployment, run, tmp_path / "later")
