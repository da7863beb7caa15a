"""``biomeroworker report`` opens a graphical browser, or none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CALL = """
import pathlib, sys
from biomeroworker.cli.report import _open_browser
print(_open_browser(pathlib.Path(sys.argv[1])))
"""


def opened(page: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-c", CALL, page]
    done = subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_the_browser_of_the_environment_opens_the_page(tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >{tmp_path}/opened\n')
    browser.chmod(0o755)
    assert opened(tmp_path / "a b.html", BROWSER=f"{browser} %s") == "True"
    assert (tmp_path / "opened").read_text().strip() == (tmp_path / "a b.html").as_uri()


def test_without_a_display_no_browser_of_the_terminal_is_started(tmp_path: Path) -> None:
    browser = tmp_path / "lynx"
    browser.write_text(f"#!/bin/sh\ntouch {tmp_path}/opened\n")
    browser.chmod(0o755)
    assert opened(tmp_path / "a.html", PATH=f"{tmp_path}:/usr/bin:/bin", TERM="xterm") == "False"
    assert not (tmp_path / "opened").exists()
