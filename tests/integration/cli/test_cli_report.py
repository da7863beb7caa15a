"""The command ``report`` writes a page about a run, however the run ended."""

from __future__ import annotations

import json
from pathlib import Path


def execute(command, tmp_path, name, *parameters, code):
    words = ["run", "obedient", "-i", command.site.images("a.tif", "b.tif"), "-o", tmp_path / name]
    for parameter in parameters:
        words += ["-p", parameter]
    return json.loads(command(*words, "--json", code=code).stdout)


def test_a_page_is_written_for_a_run_that_is_done_and_for_one_that_failed(command, tmp_path):
    done = execute(command, tmp_path, "good", "labels=True", code=0)
    page = tmp_path / "page.html"
    assert command("report", done["run"], "--output", page).stdout.strip() == str(page)
    (attached,) = (tmp_path / "good").glob("run-report-*.html")
    assert page.read_bytes() == attached.read_bytes(), "the page that the run has left beside its results"
    text = page.read_text()
    assert "data:image/jpeg;base64," in text
    assert "2 objects in 1 image" not in text
    assert "4 objects in 2 images" in text

    attached.unlink()
    again = command("report", done["run"], "--output", page)
    assert "a new one is written" in again.stderr
    assert str(done["run"]) in page.read_text()

    failed = execute(command, tmp_path, "bad", "exit=3", code=1)
    assert not list(tmp_path.glob("bad/*"))
    printed = command("report", str(failed["run"])[:8]).stdout.strip()
    text = Path(printed).read_text()
    assert "exit code 3" in text
    assert "failing on purpose with 3" in text, "the end of the container's stderr"
    assert "requested: 5 min" in text, "from accounting: the log has no statistics of a run that failed"
    assert "data:image/jpeg;base64," in text, "the inputs are still on this machine"
