"""Runs with several tasks, on the command line."""

import json

import pytest


@pytest.fixture
def partly(command, tmp_path):
    """A run of three images in three tasks, of which one fails; its id and its results."""
    images, results = command.site.images("a.tif", "b.tif", "c.tif"), tmp_path / "results"
    words = ["run", "obedient", "-i", images, "-o", results, "--batch-size", "1", "-p", "fail=image-2"]
    done = command(*words, "--json", code=1)
    return json.loads(done.stdout), results


def test_a_partly_successful_run_is_shown_as_such_by_every_command(command, partly):
    printed, results = partly
    run = str(printed["run"])
    assert printed["state"] == "done"
    assert sorted(path.name for path in results.glob("*.txt")) == ["a_text.txt", "c_text.txt"]
    assert [one["inputs"] for one in printed["report"]["failed"]] == [{"image-2": "b"}]
    listed = command("runs").stdout
    assert "done (partly)" in listed
    assert "1 of 3 images failed" in listed
    shown = command("show", run).stdout
    assert "b (image-2)" in shown
    assert "failing on image-2" in shown, "the container's last words"
    assert f"biomeroworker retry {run} --failed" in shown
    document = json.loads(command("show", run, "--json").stdout)
    assert (document["chunks"], document["attempts"][0]["tasks"]) == (3, [0, 1, 2])
    assert "failing on image-2" in command("logs", run, "--task", "1", "--stream", "err").stdout
    assert "tasks 0 to 2" in command("logs", run, "--task", "7", code=1).stderr

    again = command("retry", run, "--failed").stdout.strip()
    second = json.loads(command("show", again, "--json").stdout)
    assert (second["retry_of"], second["request"]["only"]) == (run, {"image-2": "b"})
    assert "has not ended" in command("retry", again, "--failed", code=1).stderr


def test_images_that_a_workflow_skips_are_named_by_every_command_and_retried_alone(command, tmp_path):
    images, results = command.site.images("a.tif", "b.tif", "c.tif"), tmp_path / "results"
    printed = json.loads(
        command("run", "obedient", "-i", images, "-o", results, "-p", "skip=image-2", "--json", code=1).stdout
    )
    run, message = str(printed["run"]), "1 of 3 images has no result: b (image-2)"
    assert (printed["state"], printed["report"]["message"]) == ("done", message)
    assert sorted(path.name for path in results.glob("*.txt")) == ["a_text.txt", "c_text.txt"]
    assert json.loads((results / "provenance.json").read_text())["without_result"] == {"image-2": "b"}
    listed = command("runs").stdout
    assert "done (partly)" in listed
    assert message in listed
    shown = command("show", run).stdout
    assert "no result: b (image-2)" in shown
    assert f"biomeroworker retry {run} --failed" in shown
    document = json.loads(command("show", run, "--json").stdout)
    assert document["without_result"] == {"image-2": "b"}
    assert document["events"][-1]["attributes"]["summary"]["skipped"] == {"image-2": "b"}
    again = command("retry", run, "--failed").stdout.strip()
    assert json.loads(command("show", again, "--json").stdout)["request"]["only"] == {"image-2": "b"}
