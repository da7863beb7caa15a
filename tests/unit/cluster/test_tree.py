"""Trees on our side: what a far side may not make us write, and what we do not send."""

import io
import os
from pathlib import Path

import pytest

from biomeroworker.cluster import tree
from biomeroworker.errors import Permanent, Transient


@pytest.mark.parametrize("name", [b"/etc/passwd", b"../x", b"a/../../x", b"a//b", b"./a", b"", b"a/", b"a\0b"])
def test_a_name_that_leads_outside_is_refused(name: bytes) -> None:
    with pytest.raises(Permanent, match="outside its folder"):
        tree.contained(name)


@pytest.mark.parametrize("name", [b"a", b"..a", b"a../b", b" ", b"-rf", b"a\nb", b"caf\xe9"])
def test_an_odd_name_that_stays_inside_is_fine(name: bytes) -> None:
    assert tree.contained(name) == name


def test_a_stream_that_ends_early_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(EOFError):
        tree.receive(io.BytesIO(b"12345"), [(b"a", 3), (b"b", 3)], tmp_path, lambda size: None)


def test_a_link_in_the_way_of_a_received_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"kept")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").symlink_to(tmp_path / "outside")
    tree.receive(io.BytesIO(b"123"), [(b"a", 3)], tmp_path / "in", lambda size: None)
    assert (tmp_path / "outside").read_bytes() == b"kept"
    assert (tmp_path / "in" / "a").read_bytes() == b"123"


def test_a_link_to_a_file_travels_as_the_file_and_one_to_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"123")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "link").symlink_to(tmp_path / "real")
    files, _ = tree.scan(tmp_path / "t")
    assert [(entry.name, entry.size) for entry in files] == [(b"link", 3)]
    (tmp_path / "t" / "loop").symlink_to(tmp_path)
    with pytest.raises(Permanent, match="neither file nor folder"):
        tree.scan(tmp_path / "t")


def test_a_pipe_is_refused_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Permanent, match="neither file nor folder"):
        tree.scan(tmp_path)


@pytest.mark.parametrize("content", [b"1234567", b"123"])
def test_a_file_that_changes_while_it_is_sent_is_noticed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    (entry,), _ = tree.scan(tmp_path)
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(Transient, match="changed while"):
        tree.TarWriter(io.BytesIO(), lambda size: None).file(b"", entry)
