"""Trees on this machine: which names are accepted from the cluster, and which files are sent."""

import ast
import hashlib
import io
import os
from pathlib import Path

import pytest

from biomeroworker.cluster.transport import local_tree
from biomeroworker.errors import Permanent
from biomeroworker.remote import tree_agent


@pytest.mark.parametrize("name", [b"/etc/passwd", b"../x", b"a/../../x", b"a//b", b"./a", b"", b"a/", b"a\0b"])
def test_a_name_that_leads_outside_is_refused(name: bytes) -> None:
    with pytest.raises(Permanent, match="outside its folder"):
        local_tree.contained(name)


@pytest.mark.parametrize("name", [b"a", b"..a", b"a../b", b" ", b"-rf", b"a\nb", b"caf\xe9"])
def test_an_odd_name_inside_the_folder_is_accepted(name: bytes) -> None:
    assert local_tree.contained(name) == name


def received(root: Path, stream: bytes, *wanted: tuple[bytes, int, int, int]) -> list[str]:
    return tree_agent.receive(io.BytesIO(stream), wanted, os.fsencode(root), lambda size: None, {})


def test_a_stream_that_ends_early_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EOFError):
        received(tmp_path, b"12345", (b"a", 0, 3, 0o666), (b"b", 0, 3, 0o666))
    assert (tmp_path / "b").read_bytes() == b"45"  # it continues from there


def test_a_link_in_the_way_of_a_received_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"outside")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").symlink_to(tmp_path / "outside")
    received(tmp_path / "in", b"123", (b"a", 0, 3, 0o666))
    assert (tmp_path / "outside").read_bytes() == b"outside"
    assert (tmp_path / "in" / "a").read_bytes() == b"123"


def test_a_link_to_a_file_is_sent_as_the_file_and_one_to_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"123")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "link").symlink_to(tmp_path / "real")
    files, _ = local_tree.scan(tmp_path / "t")
    assert [(entry.name, entry.size) for entry in files] == [(b"link", 3)]
    (tmp_path / "t" / "loop").symlink_to(tmp_path)
    with pytest.raises(Permanent, match="neither file nor folder"):
        local_tree.scan(tmp_path / "t")


def test_a_pipe_is_refused_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Permanent, match="neither file nor folder"):
        local_tree.scan(tmp_path)


@pytest.mark.parametrize("content", [b"1234567", b"123"])
def test_a_file_that_changes_while_it_is_sent_is_noticed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    (entry,), _ = local_tree.scan(tmp_path)
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(tree_agent.Changed):
        tree_agent.send(io.BytesIO(), [(entry.source, 0, entry.size)], lambda size: None, {})


def test_the_program_for_the_cluster_parses_with_python_3_6() -> None:
    ast.parse(Path(tree_agent.__file__).read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("size", [0, 1, 1 << 17, (1 << 17) + 1, (1 << 18) * 20 + 7])
@pytest.mark.parametrize("offset", [0, 1, 300_000])
def test_bytes_and_digests_are_equal_on_both_sides_from_any_offset(tmp_path: Path, size: int, offset: int) -> None:
    offset = min(offset, size)
    content = os.urandom(size)
    (tmp_path / "from").write_bytes(content)
    (tmp_path / "to").write_bytes(content[:offset])
    source, target = (os.fsencode(tmp_path / name) for name in ("from", "to"))
    digest = [hashlib.sha256(content).hexdigest()]
    with (tmp_path / "stream").open("wb") as out:
        hashes = {source: tree_agent.hash_file(source, offset)}
        assert tree_agent.send(out, [(source, offset, size)], lambda size: None, hashes) == digest
    assert (tmp_path / "stream").stat().st_size == size - offset
    with (tmp_path / "stream").open("rb") as stream:
        hashes = {b"to": tree_agent.hash_file(target, offset)}
        wanted = [(b"to", offset, size, 0o644)]
        assert tree_agent.receive(stream, wanted, os.fsencode(tmp_path), lambda size: None, hashes) == digest
    assert (tmp_path / "to").read_bytes() == content
