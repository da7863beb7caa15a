"""What is looked at in a site's SSH configuration before anything is connected, and how long a silent host may take."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from biomeroworker.cluster.transport import openssh
from biomeroworker.cluster.transport.openssh import OpenSshTransport
from biomeroworker.errors import Blocked, Transient

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh")

Configured = Callable[[str], OpenSshTransport]


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder whose path is short enough for sockets, whatever pytest's is."""
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def configured(tmp_path: Path, sockets: Path) -> Configured:
    def make(text: str) -> OpenSshTransport:
        config = tmp_path / "config"
        # nothing listens there: a connection is refused immediately
        config.write_text(f"Host cluster\n  HostName 127.0.0.1\n  Port 1\n{text}")
        return OpenSshTransport("cluster", config_file=config, runtime_dir=sockets)

    return make


UNCHECKED = {
    "switched off": "  StrictHostKeyChecking no\n",
    "new, and not stored": "  StrictHostKeyChecking accept-new\n  UserKnownHostsFile /dev/null\n",
    "new, and not stored in one of two": (
        "  StrictHostKeyChecking accept-new\n  UserKnownHostsFile /dev/null ~/.ssh/known_hosts\n"
    ),
    "new, and stored nowhere": "  StrictHostKeyChecking accept-new\n  UserKnownHostsFile none\n",
}


@pytest.mark.parametrize("text", UNCHECKED.values(), ids=UNCHECKED)
def test_a_configuration_that_accepts_any_host_key_is_refused(configured: Configured, text: str) -> None:
    with pytest.raises(Blocked, match="host keys of cluster are not checked") as caught:
        configured(text).check()
    assert "StrictHostKeyChecking" in caught.value.hint


@pytest.mark.parametrize("text", UNCHECKED.values(), ids=UNCHECKED)
@pytest.mark.parametrize("jump", ["door", "me@door", "me@door:2222", "ssh://me@door:2222", "first,door", "outer"])
def test_host_keys_of_all_jump_hosts_are_checked(configured: Configured, jump: str, text: str) -> None:
    ways = f"  ProxyJump {jump}\nHost outer\n  ProxyJump me@door:22\nHost door\n{text}"
    with pytest.raises(Blocked, match="host keys of door are not checked"):
        configured(ways).check()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  StrictHostKeyChecking accept-new\n",
        "  StrictHostKeyChecking yes\n  UserKnownHostsFile /dev/null\n",  # the machine's own list may have it
        "  ProxyJump none\n",
        "  ProxyJump [::1]:1\n",
        (
            "  ProxyJump cluster2\nHost cluster2\n  HostName 127.0.0.1\n  Port 1\n  ProxyJump door\n"
            "Host door\n  HostName 127.0.0.1\n  Port 1\n  ProxyJump none\n"
        ),
    ],
)
def test_a_configuration_that_checks_host_keys_is_accepted(configured: Configured, text: str) -> None:
    with pytest.raises(Transient, match="the SSH connection to cluster failed"):
        configured(text).check()


def test_a_circle_of_jump_hosts_ends(configured: Configured) -> None:
    transport = configured("  ProxyJump a\nHost a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    assert transport._site_options()


def test_a_configuration_that_takes_too_long_to_read_is_transient(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssh, "_CONFIGURATION_SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(Transient, match=r"longer than 0\.3 s to read its configuration for cluster") as caught:
        configured('Match exec "sleep 3"\n  User me\n').check()
    assert "Match exec" in caught.value.hint
    assert not isinstance(caught.value.__cause__, subprocess.TimeoutExpired)
    assert time.monotonic() - began < 2


def test_three_tries_at_a_silent_host_take_less_than_a_minute(tmp_path: Path, sockets: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = tmp_path / "config"
        config.write_text(f"Host cluster\n  HostName 127.0.0.1\n  Port {silent.getsockname()[1]}\n")
        began = time.monotonic()
        with pytest.raises(Transient):
            OpenSshTransport("cluster", config_file=config, runtime_dir=sockets).check()
        assert time.monotonic() - began < 15
