"""Which folders may be deleted, and which names are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from biomeroworker.engine.planning.disk_space import Free, parse_free
from biomeroworker.engine.retention import is_expired, local_folders, parse_removed, remove_command
from biomeroworker.errors import Permanent
from biomeroworker.eventlog.aggregates.states import RunState

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RUN = UUID("5f1c3b5e-6a0e-4a57-9d4e-0d7a53f1c2ab")


@pytest.mark.parametrize("state", [state for state in RunState if not state.is_terminal])
def test_the_folder_of_a_run_that_has_not_ended_is_not_deleted_whatever_its_age(state: RunState) -> None:
    assert not is_expired(RUN, {RUN: (state, None)}, NOW - 1000 * DAY, DAY, NOW)


@pytest.mark.parametrize(
    ("state", "days", "retention", "goes"),
    [
        (RunState.FAILED, 13, 14, False),
        (RunState.FAILED, 15, 14, True),
        (RunState.FAILED, 1500, 0, False),
        (RunState.DONE, 0, 14, False),
        (RunState.DONE, 1, 14, True),
        (RunState.DONE, 1, 0, True),
        (RunState.CANCELLED, 1, 14, True),
    ],
)
def test_the_folder_of_an_ended_run_is_deleted_after_its_time(
    state: RunState, days: int, retention: int, goes: bool
) -> None:
    ended = NOW - timedelta(days=days)
    assert is_expired(RUN, {RUN: (state, ended)}, NOW, timedelta(days=retention), NOW) is goes


@pytest.mark.parametrize(("days", "retention", "goes"), [(1, 14, False), (15, 14, True), (1500, 0, False)])
def test_the_folder_of_an_unknown_run_is_deleted_when_nothing_in_it_changes(
    days: int, retention: int, goes: bool
) -> None:
    assert is_expired(RUN, {}, NOW - timedelta(days=days), timedelta(days=retention), NOW) is goes


def test_only_real_folders_with_the_name_of_a_run_are_looked_at(tmp_path: Path) -> None:
    run, linked, upper = uuid4(), uuid4(), uuid4()
    (tmp_path / str(run)).mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / str(upper).upper()).mkdir()
    (tmp_path / upper.hex).mkdir()
    (tmp_path / str(linked)).symlink_to(tmp_path / "notes")
    (tmp_path / str(uuid4())).write_text("a file")
    assert local_folders(tmp_path) == {run: tmp_path / str(run)}
    assert local_folders(tmp_path / "absent") == {}


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/", "biomero_", f"biomero_{RUN}/..", f"../biomero_{RUN}", f"biomero_{RUN}\n", "images", "*"],
)
def test_no_other_name_is_deleted(name: str) -> None:
    with pytest.raises(Permanent, match="not deleted"):
        remove_command("/data", [f"biomero_{RUN}", name])


@pytest.mark.parametrize("data", ["", "/", "//", "data", "~"])
def test_nothing_is_deleted_below_a_path_that_is_not_a_data_folder(data: str) -> None:
    with pytest.raises(Permanent, match="nothing is deleted"):
        remove_command(data, [f"biomero_{RUN}"])


def test_only_lines_about_folders_of_runs_are_read() -> None:
    other = uuid4()
    text = f"gone biomero_{RUN}\nleft biomero_{other} rm: cannot remove 'x': Permission denied\ngone everything\n\n"
    assert parse_removed(text) == ({RUN}, {other: "rm: cannot remove 'x': Permission denied"})


@pytest.mark.parametrize(
    ("text", "free"),
    [
        (" 1000  5000  70  100\n", Free(1000, 5000, 70)),
        ("1000 5000 0 0", Free(1000, 5000, None)),
        ("1000 5000 - -", Free(1000, 5000, None)),
        ("- - - -", None),
        ("0 0 0 0", None),
        ("", None),
        ("df: no such file", None),
    ],
)
def test_free_space_is_read_where_there_is_a_figure(text: str, free: Free | None) -> None:
    assert parse_free(text) == free
