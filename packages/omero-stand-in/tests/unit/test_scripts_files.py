"""The folder of official scripts is the truth; the rows follow it."""

import pytest

from omero_stand_in.server import Server, initialize
from omero_stand_in.services.script_files import PYTHON, ScriptFiles, is_official, taken_apart

TEXT = b"import omero.scripts as scripts\n"


@pytest.fixture
def server(tmp_path):
    communicator = initialize()
    server = Server(communicator, tmp_path)
    yield server
    server.stop()
    communicator.destroy()


def rows(server):
    files = ScriptFiles.of(server)
    files.refresh()
    with server.graph.transaction(server.graph.server()) as tx:
        return files.official(tx)


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [("plain.py", "", "plain.py"), ("/abs.py", "/", "abs.py"), ("a/b/c.py", "a/b/", "c.py"), ("/a/b/", "/a/b/", "")],
)
def test_a_path_is_taken_apart_at_its_last_slash(path, folder, name):
    assert taken_apart(path) == (folder, name)


def test_a_file_put_into_the_folder_is_an_official_script_of_root_in_group_user(server):
    folder = ScriptFiles.of(server).folder / "tools"
    folder.mkdir()
    (folder / "Count.py").write_bytes(TEXT)
    (row,) = rows(server)
    assert (row.get("path"), row.get("name"), row.get("mimetype")) == ("/tools/", "Count.py", PYTHON)
    assert (row.owner, row.group, is_official(row)) == (0, 1, True)
    assert ScriptFiles.of(server).read(row) == TEXT.decode()


def test_a_file_that_is_no_script_gets_no_row(server):
    (ScriptFiles.of(server).folder / "notes.txt").write_text("no script")
    assert rows(server) == []


def test_a_text_changed_behind_the_servers_back_makes_a_new_row(server):
    place = ScriptFiles.of(server).folder / "Count.py"
    place.write_bytes(TEXT)
    (before,) = rows(server)
    place.write_bytes(TEXT + b"# changed\n")
    (after,) = rows(server)
    assert after.id != before.id
    assert after.get("size") == len(TEXT) + 10


def test_a_file_taken_away_takes_its_row_along(server):
    place = ScriptFiles.of(server).folder / "Count.py"
    place.write_bytes(TEXT)
    assert len(rows(server)) == 1
    place.unlink()
    assert rows(server) == []


def test_a_second_query_changes_nothing(server):
    (ScriptFiles.of(server).folder / "Count.py").write_bytes(TEXT)
    assert [row.id for row in rows(server)] == [row.id for row in rows(server)]


@pytest.mark.parametrize("path", ["../outside.py", "/a/../../outside.py", ""])
def test_no_official_script_lies_outside_of_the_folder(server, path):
    with pytest.raises(Exception, match="Path not allowed"):
        ScriptFiles.of(server).inside(path)


def test_a_script_is_found_with_and_without_the_slash_at_its_beginning(server):
    added = ScriptFiles.of(server).add("/tools/Count.py", TEXT)
    files = ScriptFiles.of(server)
    assert files.find("/tools/Count.py").id == files.find("tools/Count.py").id == added.id
    assert files.find("//tools/Count.py") is None
    assert files.find("/tools/") is None
