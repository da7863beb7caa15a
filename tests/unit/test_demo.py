"""The demo, before it has started anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("omero")
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
