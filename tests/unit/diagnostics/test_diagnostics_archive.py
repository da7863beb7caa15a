"""The archive as a file, and sections that fail, hang or bring strange names."""

import os
import tarfile
import threading
import time

import pytest

from biomeroworker.diagnostics.archive import Archive, contained
from biomeroworker.diagnostics.collect import collect
from biomeroworker.diagnostics.commands import NotAvailable, run_program
from biomeroworker.diagnostics.logs import TAIL_BYTES, tail
from biomeroworker.diagnostics.sections import Section
from biomeroworker.errors import RequestRejected


def members(path):
    with tarfile.open(path) as tar:
        return {name.name.partition("/")[2]: tar.extractfile(name).read().decode() for name in tar.getmembers()}


def good(context, notes):
    notes.findings.append("something to see")
    yield "good/a.txt", "a\n"


def broken(context, notes):
    yield "broken/first.txt", "before\n"
    raise ValueError("it broke")


def absent(context, notes):
    raise NotAvailable("there is none")
    yield


def test_a_section_that_fails_costs_only_itself(tmp_path):
    hang = threading.Event()

    def stuck(context, notes):
        yield "stuck/first.txt", "before\n"
        hang.wait(60)

    parts = [Section(part.__name__, 0.5, part) for part in (broken, stuck, absent, good)]
    lines = []
    done = collect(tmp_path / "d.tar.gz", None, {"HOME": str(tmp_path)}, progress=lines.append, parts=parts)
    hang.set()
    found = members(done.archive)
    assert list(found) == [
        "summary.txt", "broken/first.txt", "broken/missing.txt", "stuck/first.txt", "stuck/missing.txt",
        "absent/missing.txt", "good/a.txt",
    ]  # fmt: skip
    assert found["broken/missing.txt"] == "not available: ValueError: it broke\n"
    assert "longer than 0.5 s" in found["stuck/missing.txt"]
    assert found["absent/missing.txt"] == "not available: there is none\n"
    assert "* good: something to see" in found["summary.txt"]
    assert "read them before you send" in found["summary.txt"]
    assert [line.split()[0] for line in lines] == ["broken", "stuck", "absent", "good"]


def test_the_archive_is_its_owners_alone_and_leaves_no_partial_file(tmp_path):
    os.umask(os.umask(0))
    done = collect(tmp_path / "d.tar.gz", None, {"HOME": str(tmp_path)}, parts=[Section("good", 1, good)])
    assert done.archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(done.archive) as tar:
        assert {member.mode for member in tar.getmembers()} == {0o600}
    assert [path.name for path in tmp_path.iterdir()] == ["d.tar.gz"]


def test_an_interrupted_collection_leaves_nothing_and_keeps_the_earlier_archive(tmp_path):
    target = tmp_path / "d.tar.gz"
    target.write_text("earlier")

    def interrupted(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(target, None, {"HOME": str(tmp_path)}, progress=interrupted, parts=[Section("good", 1, good)])
    assert target.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["d.tar.gz"]


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_collected(tmp_path):
    with pytest.raises(RequestRejected, match="--output"):
        Archive(tmp_path / "none/d.tar.gz", "x")
    with pytest.raises(RequestRejected, match="is a folder"):
        Archive(tmp_path, "x")


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("logs/Blitz-0.log", "logs/Blitz-0.log"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("logs/a b\n;$(x).log", "logs/a_b____x_.log"),
        ("..", "unnamed"),
    ],
)
def test_names_stay_within_the_archive(path, inside):
    assert contained(path) == inside


def test_a_log_is_read_from_a_whole_line_on(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("password = " + "first " * (TAIL_BYTES // 6) + "\nlast\n" + "y" * 9000)
    lines = tail(log).split("\n")
    assert "left out" in lines[0]
    assert lines[1] == "last"
    assert len(lines[2]) < 5000


def test_a_link_or_a_pipe_in_a_log_folder_is_not_read(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "link.log").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe.log")
    for name in ("link.log", "pipe.log"):
        with pytest.raises(OSError, match=r".+"):
            tail(tmp_path / name)


def test_a_program_that_hangs_is_ended_with_its_children_and_its_output_is_returned():
    started = time.monotonic()
    answer = run_program(["sh", "-c", "echo started; sleep 60 & wait"], seconds=0.5)
    assert (answer.text, answer.timed_out) == ("started\n", True)
    assert time.monotonic() - started < 10


def test_a_program_that_is_not_installed_is_reported():
    with pytest.raises(NotAvailable, match="not installed"):
        run_program(["no-such-program"], seconds=1)
