"""The demo before it starts a daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sandbox import demo


def test_the_demo_without_root_ends_at_once_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["demo", "--root", str(tmp_path / "s"), "--output", str(tmp_path / "out")])
    monkeypatch.setattr(demo, "Root", lambda path: path)  # one that nothing can be started in
    assert demo.main() == 1
    assert "needs root" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_objects_that_a_script_returned_are_printed_by_name() -> None:
    named = "\t* Message=done\n\t* Dataset=object #0 (::omero::model::Dataset)\n"
    members = "{\n    _id = object #1 (::omero::RLong)\n    {\n        _val = 102\n    }\n    _name = nuclei\n}\n"
    assert demo.without_objects(f"Job 103 ready\n{named}{members}\t***  done ***\n") == (
        f"Job 103 ready\n{named}\t***  done ***\n"
    )
