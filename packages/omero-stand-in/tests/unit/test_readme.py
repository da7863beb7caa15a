"""The README lists exactly the operations that the server implements."""

from __future__ import annotations

import re
from pathlib import Path

import operations

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_operations_in_the_readme_are_those_that_the_server_answers() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", README, re.MULTILINE)
    assert {name: re.findall(r"\w+", listed) for name, listed in rows} == operations.answered()


def test_the_commands_in_the_readme_are_those_that_can_be_submitted() -> None:
    (listed,) = re.findall(r"^Requests that can be submitted: (.*)\.$", README, re.MULTILINE)
    assert re.findall(r"`([\w.]+)`", listed) == operations.commands()
