"""Faults of a real SSH connection: the class of each, no lost or partial data, no wait without end."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from biomeroworker.cluster.transport.openssh import OpenSshTransport
from biomeroworker.errors import Blocked, ConfigError, Transient
from tests.integration.cluster.own_sshd import SSHD, OwnSshd

pytestmark = pytest.mark.skipif(not Path(SSHD).exists(), reason="openssh-server is not installed")


@pytest.fixture
def sshd() -> Iterator[OwnSshd]:
    server = OwnSshd()
    yield server
    server.close()


@pytest.fixture
def transport(sshd: OwnSshd) -> Iterator[OpenSshTransport]:
    real = OpenSshTransport(sshd.alias, config_file=sshd.config, runtime_dir=sshd.runtime, alive_seconds=1)
    yield real
    real.close()


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_all_commands_share_one_connection_which_the_next_process_finds(
    sshd: OwnSshd, transport: OpenSshTransport
) -> None:
    threads = [threading.Thread(target=transport.run, args=(["sleep", "0.2"],)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (transport.connections, transport.executions) == (1, 20)
    heir = OpenSshTransport(sshd.alias, config_file=sshd.config, runtime_dir=sshd.runtime)
    assert heir.run(["true"]).ok
    assert heir.connections == 0
    assert (sshd.root / "log").read_text().count("Accepted publickey") == 1


def test_after_a_lost_connection_the_next_command_reconnects(sshd: OwnSshd, transport: OpenSshTransport) -> None:
    transport.run(["true"])
    sshd.cut()
    assert eventually(
        lambda: not any(path.is_socket() for path in sshd.runtime.iterdir())
    )  # the shared connection's process has noticed
    done = transport.run(["echo", "back"])
    assert done.stdout == "back\n"
    assert transport.connections == 2


def test_a_command_interrupted_by_a_lost_connection_is_transient_and_not_repeated(
    sshd: OwnSshd, transport: OpenSshTransport
) -> None:
    def cut_when_it_runs() -> None:
        eventually((sshd.home / "ran").exists)
        sshd.cut()

    thread = threading.Thread(target=cut_when_it_runs)
    thread.start()
    with pytest.raises(Transient):
        transport.run(["sh", "-c", "echo x >>ran; sleep 20"])
    thread.join()
    time.sleep(0.3)
    assert (sshd.home / "ran").read_text() == "x\n"


def test_a_silent_connection_is_detected_long_before_the_timeout(sshd: OwnSshd, transport: OpenSshTransport) -> None:
    transport.run(["true"])
    sshd.freeze()
    began = time.monotonic()
    with pytest.raises(Transient):
        transport.run(["true"], timeout=120)
    assert time.monotonic() - began < 15
    sshd.thaw()
    assert transport.run(["true"]).ok


def test_a_silent_host_at_connect_ends_with_the_timeout(sshd: OwnSshd, transport: OpenSshTransport) -> None:
    sshd.freeze()
    began = time.monotonic()
    with pytest.raises(Transient):
        transport.run(["true"], timeout=3)
    assert time.monotonic() - began < 8
    sshd.thaw()


def test_a_machine_that_is_down_is_transient(sshd: OwnSshd, transport: OpenSshTransport) -> None:
    sshd.stop()
    with pytest.raises(Transient, match="SSH connection to cluster failed") as caught:
        transport.run(["true"])
    assert "Connection refused" in caught.value.detail
    sshd.start()
    assert transport.run(["true"]).ok


def test_a_changed_host_key_is_blocked(sshd: OwnSshd, transport: OpenSshTransport) -> None:
    transport.run(["true"])
    sshd.change_host_key()
    with pytest.raises(Blocked) as caught:
        transport.run(["true"])
    assert "host key changed" in caught.value.hint
    sshd.trust()
    assert transport.run(["true"]).ok


def test_an_unknown_host_key_is_never_accepted(sshd: OwnSshd, transport: OpenSshTransport) -> None:
    (sshd.root / "known_hosts").write_text("")
    with pytest.raises(Blocked, match="no SSH connection"):
        transport.check()
    assert (sshd.root / "known_hosts").read_text() == ""


def test_a_configuration_that_does_not_check_host_keys_is_refused(sshd: OwnSshd, transport: OpenSshTransport) -> None:
    sshd.config.write_text(sshd.config.read_text() + "  StrictHostKeyChecking no\n")
    with pytest.raises(Blocked, match="not checked"):
        transport.check()


def test_a_refused_key_is_blocked(sshd: OwnSshd, transport: OpenSshTransport) -> None:
    (sshd.root / "id.pub").write_text("")
    with pytest.raises(Blocked) as caught:
        transport.check()
    assert "refuses our key" in caught.value.hint
    assert "Permission denied" in caught.value.detail


def test_a_name_that_cannot_be_resolved_is_a_transient_fault_with_a_hint(sshd: OwnSshd) -> None:
    """Name servers fail for a while, too; a run whose job is on the cluster must not be paused for that."""
    sshd.config.write_text("Host nowhere\n  HostName no-such-host.invalid\n")
    with pytest.raises(Transient) as caught:
        OpenSshTransport("nowhere", config_file=sshd.config, runtime_dir=sshd.runtime).check()
    assert "check [SSH] host" in caught.value.hint


def test_a_name_that_ssh_would_read_as_an_option_is_refused(sshd: OwnSshd) -> None:
    with pytest.raises(ConfigError):
        OpenSshTransport("-oProxyCommand=x", runtime_dir=sshd.runtime)


def test_an_error_in_the_ssh_configuration_is_blocked(sshd: OwnSshd, transport: OpenSshTransport) -> None:
    sshd.config.write_text("Nonsense yes\n")
    with pytest.raises(Blocked, match="does not accept the configuration"):
        transport.check()


def test_the_socket_is_in_a_private_folder(sshd: OwnSshd, transport: OpenSshTransport) -> None:
    assert sshd.runtime.stat().st_mode & 0o777 == 0o700
    strange = sshd.root / "strange"
    strange.symlink_to(sshd.runtime)
    with pytest.raises(ConfigError, match="not a folder of this account"):
        OpenSshTransport(sshd.alias, config_file=sshd.config, runtime_dir=strange)


@pytest.fixture
def big_tree(tmp_path: Path) -> Path:
    root = tmp_path / "big"
    root.mkdir()
    for number in range(40):
        (root / f"{number:02}").write_bytes(os.urandom(2_000_000))
    return root


def test_an_interrupted_upload_publishes_nothing_and_resumes(
    sshd: OwnSshd, transport: OpenSshTransport, big_tree: Path
) -> None:
    def cut_halfway(done: int, total: int) -> None:
        if done > total / 2:
            sshd.cut()

    with pytest.raises(Transient):
        transport.send_tree(big_tree, "run", progress=cut_halfway)
    assert not (sshd.home / "run").exists()
    sent = transport.send_tree(big_tree, "run")
    assert sent.size == 80_000_000
    assert 0 < sent.bytes_sent < 60_000_000
    assert {path.name: path.read_bytes() for path in (sshd.home / "run").iterdir()} == {
        path.name: path.read_bytes() for path in big_tree.iterdir()
    }
    assert [path.name for path in sshd.home.iterdir()] == ["run"]


def test_an_interrupted_download_publishes_nothing_and_resumes(
    sshd: OwnSshd, transport: OpenSshTransport, big_tree: Path, tmp_path: Path
) -> None:
    transport.send_tree(big_tree, "run")

    def cut_halfway(done: int, total: int) -> None:
        if done > total / 2:
            sshd.cut()

    with pytest.raises(Transient):
        transport.fetch_tree("run", tmp_path / "back", progress=cut_halfway)
    assert not (tmp_path / "back").exists()
    fetched = transport.fetch_tree("run", tmp_path / "back")
    assert 0 < fetched.bytes_sent < 60_000_000
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == {
        path.name: path.read_bytes() for path in big_tree.iterdir()
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "big"]


def test_partial_files_of_an_interrupted_upload_are_not_published_if_the_tree_changed(
    sshd: OwnSshd, transport: OpenSshTransport, big_tree: Path
) -> None:
    with pytest.raises(Transient):
        transport.send_tree(big_tree, "run", progress=lambda done, total: sshd.cut() if done > total / 2 else None)
    (big_tree / "00").unlink()
    (big_tree / "01").write_bytes(bytes(2_000_000))
    transport.send_tree(big_tree, "run")
    assert not (sshd.home / "run" / "00").exists()
    assert (sshd.home / "run" / "01").read_bytes() == bytes(2_000_000)
    assert len(list((sshd.home / "run").iterdir())) == 39
