"""The contract of every transport (see the docstring of the seam), for the real one and the fake one."""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomeroworker.cluster.transport import remote_scripts, shell, tree_transfer
from biomeroworker.cluster.transport.openssh import OpenSshTransport
from biomeroworker.cluster.transport.shell import ShellTransport
from biomeroworker.errors import Blocked, Permanent, Transient
from tests.fakes.transport import FakeTransport
from tests.integration.cluster.own_sshd import SSHD, OwnSshd

ODD_NAMES = [
    "plain.tif",
    "with space [1];$(touch pwned).tif",
    "-rf",
    "--help",
    "quote'\"`.tif",
    "back\\slash\\n",
    "new\nline",
    "carriage\rreturn\r",
    "tab\there",
    "µ-Zellen-日本.tif",
    "*",
    "~",
    "x" * 200 + "/" + "y" * 120,
    os.fsdecode(b"latin-\xe9.tif"),
]


@pytest.fixture(scope="module")
def sshd() -> Iterator[OwnSshd]:
    server = OwnSshd()
    yield server
    server.close()


@pytest.fixture(scope="module", params=["fake", "openssh"])
def transport(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShellTransport]:
    if request.param == "fake":
        yield FakeTransport(tmp_path_factory.mktemp("home"))
        return
    if not Path(SSHD).exists():
        pytest.skip("openssh-server is not installed")
    server: OwnSshd = request.getfixturevalue("sshd")
    real = OpenSshTransport(server.alias, config_file=server.config, runtime_dir=server.runtime)
    yield real
    real.close()


@pytest.fixture
def place(transport: ShellTransport) -> Iterator[str]:
    """A remote folder of this test, relative to the home folder."""
    folder = f"test-{os.urandom(4).hex()}"
    transport.make_dirs([folder])
    yield folder
    transport.remove(folder)


def make_tree(root: Path, names: list[str] = ODD_NAMES) -> Path:
    for at, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() * (1 + 1000 * at))
    (root / "empty folder").mkdir(exist_ok=True)
    return root


def contents(root: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


# -- commands ----------------------------------------------------------------------------------------------------------


def test_a_command_gets_its_arguments_byte_for_byte(transport: ShellTransport) -> None:
    words = ["", " ", "a b", "'", '"', "$(id)", "`id`", "$HOME", "*", "~", "-n", "--", "a\nb", "\\", "é", ";", "|", "!"]
    assert transport.run(["printf", "%s\\0", *words]).stdout.split("\0")[:-1] == words


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=8))
def test_no_argument_is_evaluated_by_a_shell(transport: ShellTransport, words: list[str]) -> None:
    assert transport.run(["printf", "%s\\0", "first", *words]).stdout.split("\0")[1:-1] == words


@pytest.mark.parametrize("code", [0, 1, 127, 254, 255])
def test_the_exit_code_is_that_of_the_command(transport: ShellTransport, code: int) -> None:
    done = transport.run(["sh", "-c", f"echo out; echo err >&2; exit {code}"])
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", "err\n")


def test_a_missing_command_is_an_exit_code_and_not_an_error(transport: ShellTransport) -> None:
    done = transport.run(["no-such-program"])
    assert done.returncode == 127
    assert "not found" in done.stderr


def test_a_command_reads_its_input_to_the_end(transport: ShellTransport) -> None:
    content = os.urandom(3_000_000)
    done = transport.run(["sha256sum"], stdin=content)
    assert done.stdout.split()[0] == hashlib.sha256(content).hexdigest()


def test_a_command_that_reads_no_input_does_not_hang_on_it(transport: ShellTransport) -> None:
    assert transport.run(["true"], stdin=bytes(5_000_000), timeout=20).ok


def test_a_command_timeout_is_transient_and_on_time(transport: ShellTransport) -> None:
    began = time.monotonic()
    with pytest.raises(Transient, match=r"within 0\.5 s"):
        transport.run(["sleep", "30"], timeout=0.5)
    assert time.monotonic() - began < 5
    assert transport.run(["true"]).ok


def test_parallel_commands_get_their_own_answers(transport: ShellTransport) -> None:
    answers: dict[int, str] = {}

    def echo(number: int) -> None:
        answers[number] = transport.run(["sh", "-c", "sleep 0.1; echo $0", str(number)]).stdout

    threads = [threading.Thread(target=echo, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {number: f"{number}\n" for number in range(24)}


def test_executions_are_counted(transport: ShellTransport) -> None:
    before = transport.executions
    transport.run(["true"])
    transport.check()
    assert transport.executions == before + 2


# -- small files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if "/" not in name and "\udce9" not in name])
def test_a_small_file_with_any_name_is_written_and_read(transport: ShellTransport, place: str, name: str) -> None:
    transport.write_file(f"{place}/{name}", b"content\0\n")
    assert transport.read_from(f"{place}/{name}") == b"content\0\n"
    assert transport.list_dir(place) == [name]
    assert transport.exists(f"{place}/{name}")
    transport.remove(f"{place}/{name}")
    assert not transport.exists(f"{place}/{name}")


def test_a_file_is_read_from_an_offset(transport: ShellTransport, place: str) -> None:
    transport.write_file(f"{place}/log", b"0123456789")
    assert transport.read_from(f"{place}/log", 4) == b"456789"
    assert transport.read_from(f"{place}/log", 4, limit=2) == b"45"
    assert transport.read_from(f"{place}/log", 10) == b""
    assert transport.read_from(f"{place}/log", 1000) == b""


def test_a_missing_file_is_reported(transport: ShellTransport, place: str) -> None:
    with pytest.raises(FileNotFoundError):
        transport.read_from(f"{place}/nothing")
    with pytest.raises(FileNotFoundError):
        transport.list_dir(f"{place}/nothing")
    with pytest.raises(FileNotFoundError):
        transport.fetch_tree(f"{place}/nothing", Path("/nonexistent/never"))
    assert not transport.exists(f"{place}/nothing")
    transport.remove(f"{place}/nothing")


def test_writing_replaces_atomically_and_sets_the_mode(transport: ShellTransport, place: str) -> None:
    transport.write_file(f"{place}/f", b"old")
    before = transport.run(["stat", "-c", "%i", f"{place}/f"]).stdout
    transport.write_file(f"{place}/f", b"new", mode=0o640)
    after = transport.run(["stat", "-c", "%i %a", f"{place}/f"]).stdout.split()
    assert after[0] != before.strip()  # another file took its place: a reader of the old one keeps it
    assert after[1] == "640"
    assert transport.list_dir(place) == ["f"]


@pytest.mark.parametrize("path", [".", "./", "/", "..", "../..", "./."])
def test_the_home_folder_and_its_parents_are_never_removed(transport: ShellTransport, path: str) -> None:
    with pytest.raises(Permanent):
        transport.remove(path)
    assert transport.exists(".")


def test_removing_a_link_does_not_remove_its_target(transport: ShellTransport, place: str) -> None:
    transport.write_file(f"{place}/target/f", b"target")
    transport.run(["ln", "-s", "target", f"{place}/link"])
    transport.remove(f"{place}/link/")
    assert transport.list_dir(place) == ["target"]
    assert transport.read_from(f"{place}/target/f") == b"target"


# -- trees -------------------------------------------------------------------------------------------------------------


def test_a_tree_is_sent_and_fetched_byte_for_byte_in_one_execution_each(
    transport: ShellTransport, place: str, tmp_path: Path
) -> None:
    source = make_tree(tmp_path / "source")
    (source / "plain.tif").chmod(0o755)
    before = transport.executions
    sent = transport.send_tree(source, f"{place}/run")
    assert transport.executions == before + 1
    fetched = transport.fetch_tree(f"{place}/run", tmp_path / "back")
    assert transport.executions == before + 2
    assert contents(tmp_path / "back") == contents(source)
    assert sent.files == fetched.files == len(ODD_NAMES)
    assert sent.size == sent.bytes_sent == fetched.bytes_sent == sum(len(c) for c in contents(source).values() if c)
    assert transport.run(["stat", "-c", "%A", f"{place}/run/plain.tif"]).stdout.startswith("-rwx")
    assert transport.list_dir(place) == ["run"]
    assert not transport.exists("pwned")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "source"]


def test_existing_files_are_not_sent_again(transport: ShellTransport, place: str, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    transport.send_tree(source, f"{place}/run")
    assert transport.send_tree(source, f"{place}/run").bytes_sent == 0
    transport.fetch_tree(f"{place}/run", tmp_path / "back")
    assert transport.fetch_tree(f"{place}/run", tmp_path / "back").bytes_sent == 0


def test_a_file_of_the_same_size_with_other_content_is_sent(
    transport: ShellTransport, place: str, tmp_path: Path
) -> None:
    source = make_tree(tmp_path / "source", ["a", "b"])
    transport.send_tree(source, f"{place}/run")
    size = len((source / "a").read_bytes())
    (source / "a").write_bytes(bytes(size))
    assert transport.send_tree(source, f"{place}/run").bytes_sent == size
    transport.fetch_tree(f"{place}/run", tmp_path / "back")
    (tmp_path / "back" / "b").write_bytes(b"spoilt")
    transport.fetch_tree(f"{place}/run", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)


def test_other_existing_files_are_not_changed(transport: ShellTransport, place: str, tmp_path: Path) -> None:
    transport.write_file(f"{place}/run/sub/theirs", b"theirs")
    source = make_tree(tmp_path / "source", ["sub/ours", "top"])
    transport.send_tree(source, f"{place}/run")
    (tmp_path / "back" / "sub").mkdir(parents=True)
    (tmp_path / "back" / "sub" / "mine").write_bytes(b"mine")
    transport.fetch_tree(f"{place}/run", tmp_path / "back")
    assert set(contents(tmp_path / "back")) == {
        "sub", "sub/ours", "sub/theirs", "sub/mine", "top", "empty folder",
    }  # fmt: skip


def test_an_empty_tree_arrives(transport: ShellTransport, place: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    transport.send_tree(tmp_path / "source", f"{place}/run")
    transport.fetch_tree(f"{place}/run", tmp_path / "back")
    assert contents(tmp_path / "back") == {}


def test_remote_links_are_not_followed(transport: ShellTransport, place: str, tmp_path: Path) -> None:
    transport.write_file(f"{place}/secret", b"secret")
    transport.write_file(f"{place}/out/result", b"result")
    transport.run(["ln", "-s", "../secret", f"{place}/out/leak"])
    transport.run(["ln", "-s", "..", f"{place}/out/up"])
    transport.fetch_tree(f"{place}/out", tmp_path / "back")
    assert contents(tmp_path / "back") == {"result": b"result"}


def test_local_links_do_not_redirect_a_fetch(transport: ShellTransport, place: str, tmp_path: Path) -> None:
    transport.write_file(f"{place}/out/sub/f", b"result")
    (tmp_path / "outside").mkdir()
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "sub").symlink_to(tmp_path / "outside")
    transport.fetch_tree(f"{place}/out", tmp_path / "back")
    assert list((tmp_path / "outside").iterdir()) == []
    assert (tmp_path / "back" / "sub" / "f").read_bytes() == b"result"


def test_progress_counts_up_to_the_whole(transport: ShellTransport, place: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "big").write_bytes(bytes(20_000_000))
    reports: list[tuple[int, int]] = []
    transport.send_tree(tmp_path / "source", f"{place}/run", progress=lambda done, total: reports.append((done, total)))
    assert [total for _, total in reports] == [20_000_000] * len(reports)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert len(reports) > 2
    assert reports[-1][0] == 20_000_000


def test_a_tree_cannot_take_the_place_of_a_file(transport: ShellTransport, place: str, tmp_path: Path) -> None:
    transport.write_file(f"{place}/run", b"a file")
    source = make_tree(tmp_path / "source", ["a"])
    with pytest.raises(Transient, match="failed on the cluster"):
        transport.send_tree(source, f"{place}/run")
    assert transport.read_from(f"{place}/run") == b"a file"


@pytest.mark.parametrize("found", ["none", "Python 3.4.10", "Python 2.7.18"])
def test_a_front_end_without_a_recent_python3_is_reported_in_one_sentence(
    transport: ShellTransport, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    source = make_tree(tmp_path / "source", ["a"])
    python = tmp_path / "python3"
    if found != "none":
        python.write_text(f'#!/bin/sh\n[ "$1" = -V ] || exit 1\necho {found} >&2\n')
        python.chmod(0o755)
        found = f"{python} ({found})"
    monkeypatch.setattr(remote_scripts, "PYTHONS", str(python))
    for move in (
        lambda: transport.send_tree(source, f"{place}/run"),
        lambda: transport.fetch_tree(place, tmp_path / "back"),
    ):
        with pytest.raises(Blocked) as caught:
            move()
        assert str(caught.value) == f"{transport.host} has no python3 of version 3.6 or later (found: {found})"
        assert "install python3 on the login node" in caught.value.hint
    assert transport.list_dir(place) == []


# -- cuts, and long lines ----------------------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Six files of 5 MB, and small ones."""
    root = tmp_path / "large"
    for number in range(6):
        (root / str(number)).mkdir(parents=True)
        (root / str(number) / "pixels").write_bytes(os.urandom(5_000_000 + number))
        (root / str(number) / "small").write_text(str(number))
    return root


class Stop(Exception):
    """Raised by a progress callback: the client is killed, as when the worker crashes."""


def stop_at(share: float) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done > share * total:
            raise Stop

    return progress


def wait_until_no_process_writes(transport: ShellTransport, place: str) -> None:
    """Data in transit when the client died may still be written."""
    find = ["find", place, "-printf", "%s %p\\n"]
    before, now = "", transport.run(find).stdout
    while before != now:
        time.sleep(0.2)
        before, now = now, transport.run(find).stdout


def test_an_interrupted_file_continues_where_it_stopped(transport: ShellTransport, place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "-big\n'1").write_bytes(os.urandom(40_000_000))
    (source / "zero").touch()
    with pytest.raises(Stop):
        transport.send_tree(source, f"{place}/run", progress=stop_at(0.5))
    assert not transport.exists(f"{place}/run")
    wait_until_no_process_writes(transport, place)
    assert 0 < transport.send_tree(source, f"{place}/run").bytes_sent < 28_000_000
    with pytest.raises(Stop):
        transport.fetch_tree(f"{place}/run", tmp_path / "back", progress=stop_at(0.5))
    assert not (tmp_path / "back").exists()
    assert 0 < transport.fetch_tree(f"{place}/run", tmp_path / "back").bytes_sent < 21_000_000
    assert contents(tmp_path / "back") == contents(source)
    assert transport.list_dir(place) == ["run"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "source"]


def test_a_partial_file_is_discarded_if_the_file_changed(transport: ShellTransport, place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(os.urandom(20_000_000))
    with pytest.raises(Stop):
        transport.send_tree(source, f"{place}/run", progress=stop_at(0.6))
    (source / "big").write_bytes(os.urandom(20_000_000))
    wait_until_no_process_writes(transport, place)
    assert transport.send_tree(source, f"{place}/run").bytes_sent == 20_000_000
    with pytest.raises(Stop):
        transport.fetch_tree(f"{place}/run", tmp_path / "back", progress=stop_at(0.6))
    (source / "big").write_bytes(os.urandom(20_000_000))
    transport.send_tree(source, f"{place}/run")
    assert transport.fetch_tree(f"{place}/run", tmp_path / "back").bytes_sent == 20_000_000
    assert contents(tmp_path / "back") == contents(source)


def test_with_high_latency_a_large_tree_uses_several_channels(
    transport: ShellTransport, place: str, tmp_path: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_LONG_DISTANCE_SECONDS", -1.0)
    monkeypatch.setattr(tree_transfer, "_SHORT_ROUND_TRIP_SECONDS", -1.0)
    before = transport.executions
    assert transport.send_tree(large, f"{place}/run").bytes_sent == sum(len(c) for c in contents(large).values() if c)
    assert transport.executions == before + 4
    fetched = transport.fetch_tree(f"{place}/run", tmp_path / "back")
    assert transport.executions == before + 8
    assert contents(tmp_path / "back") == contents(large)
    assert fetched.digests["3/pixels"] == hashlib.sha256((large / "3" / "pixels").read_bytes()).hexdigest()
    assert transport.list_dir(place) == ["run"]


def test_a_lost_connection_ends_all_channels_and_preserves_received_data(
    transport: ShellTransport, place: str, tmp_path: Path, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_LONG_DISTANCE_SECONDS", -1.0)
    monkeypatch.setattr(tree_transfer, "_SHORT_ROUND_TRIP_SECONDS", -1.0)
    threads = threading.active_count()
    with pytest.raises(Stop):
        transport.send_tree(large, f"{place}/run", progress=stop_at(0.2))
    wait_until_no_process_writes(transport, place)
    assert not transport.exists(f"{place}/run")
    assert transport.send_tree(large, f"{place}/run").bytes_sent < 29_000_000
    with pytest.raises(Stop):
        transport.fetch_tree(f"{place}/run", tmp_path / "back", progress=stop_at(0.2))
    assert transport.fetch_tree(f"{place}/run", tmp_path / "back").bytes_sent < 24_000_000
    assert contents(tmp_path / "back") == contents(large)
    assert threading.active_count() <= threads + 1


def test_a_fetched_tree_has_the_digests_of_all_files(transport: ShellTransport, place: str, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source")
    digests = {name: hashlib.sha256(one).hexdigest() for name, one in contents(source).items() if one is not None}
    for _ in range(2):  # what is there already has one too
        assert transport.send_tree(source, f"{place}/run").digests == digests
        assert transport.fetch_tree(f"{place}/run", tmp_path / "back").digests == digests
