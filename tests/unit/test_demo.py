"""The demo, before it has started anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sandbox import demo


def test_who_is_not_root_is_told_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["demo", "--root", str(tmp_path / "s"), "--output", str(tmp_path / "out")])
    monkeypatch.setattr(demo, "Root", lambda path: path)  # one that nothing can be started in
    assert demo.main() == 1
    assert "needs root" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_of_what_a_script_returned_the_objects_are_named_and_not_printed_member_by_member() -> None:
    named = "\t* Message=done\n\t* Dataset=object #0 (::omero::model::Dataset)\n"
    members = "{\n    _id = object #1 (::omero::RLong)\n    {\n        _val = 102\n    }\n    _name = nuclei\n}\n"
    assert demo.without_objects(f"Job 103 ready\n{named}{members}\t***  done ***\n") == (
        f"Job 103 ready\n{named}\t***  done ***\n"
    )
