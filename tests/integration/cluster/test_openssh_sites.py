"""Configurations of real sites: login shells, start-up files with output, jump hosts, certificates, agents, limits."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from biomeroworker.cluster.transport import login_limiter, openssh
from biomeroworker.cluster.transport.openssh import OpenSshTransport
from biomeroworker.errors import Blocked, Transient
from tests.integration.cluster.own_sshd import SSHD, OwnSshd

pytestmark = pytest.mark.skipif(not Path(SSHD).exists(), reason="openssh-server is not installed")

#: What the shells differ about: history, newlines and backslashes in quotes, globs, variables, bytes that are no text.
WORDS = [
    "a b",
    "'",
    '"',
    "!!",
    "!x",
    "$HOME",
    "`id`",
    "a\nb\n",
    "\\",
    "\\\\n",
    "*",
    "~",
    "",
    "é",
    "\udce9",
    "%d",
    ";|&",
]

Make = Callable[..., OpenSshTransport]


@pytest.fixture
def site() -> Iterator[Callable[..., OwnSshd]]:
    servers: list[OwnSshd] = []

    def make(**settings: str) -> OwnSshd:
        servers.append(OwnSshd(**settings))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def to() -> Iterator[Make]:
    transports: list[OpenSshTransport] = []

    def make(server: OwnSshd, **settings: object) -> OpenSshTransport:
        made = OpenSshTransport(server.alias, config_file=server.config, runtime_dir=server.runtime, **settings)
        transports.append(made)
        return made

    yield make
    for transport in transports:
        transport.close()


def logins(server: OwnSshd) -> int:
    return (server.root / "log").read_text().count("Accepted publickey")


# -- the account ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shell", ["tcsh", *(pytest.param(shell, marks=pytest.mark.slow) for shell in ("dash", "bash", "zsh", "fish"))]
)
def test_any_login_shell_works(site: Callable[..., OwnSshd], to: Make, shell: str, tmp_path: Path) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    transport = to(site(shell=path))
    done = transport.run(["printf", "%s\\0", *WORDS])
    assert os.fsencode(done.stdout).split(b"\0")[:-1] == [
        word.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode() for word in WORDS
    ]
    (tmp_path / "tree" / "new\nline!").mkdir(parents=True)
    (tmp_path / "tree" / "new\nline!" / "!1 $x").write_text("content")
    transport.send_tree(tmp_path / "tree", "run'\"!")
    transport.fetch_tree("run'\"!", tmp_path / "back")
    assert (tmp_path / "back" / "new\nline!" / "!1 $x").read_text() == "content"


def test_output_of_shell_startup_files_is_ignored(site: Callable[..., OwnSshd], to: Make, tmp_path: Path) -> None:
    banner = tmp_path / "banner"
    banner.write_text("Authorised use only!\n" * 50)
    noise = "seq 20000; printf 'no end of line'; echo 'stty: not a terminal' >&2; printf '\\000\\377\\n\\n'"
    transport = to(site(noise=noise, settings=f"Banner {banner}\nPrintMotd yes"))
    done = transport.run(["sh", "-c", "echo answer; echo complaint >&2; exit 3"])
    assert (done.returncode, done.stdout) == (3, "answer\n")
    assert done.stderr.endswith("complaint\n")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "f").write_bytes(os.urandom(300_000))
    transport.send_tree(tmp_path / "tree", "run")
    assert transport.fetch_tree("run", tmp_path / "back").files == 1
    assert transport.read_from("run/f") == (tmp_path / "tree" / "f").read_bytes()


def test_a_command_longer_than_the_command_line_limit_works(site: Callable[..., OwnSshd], to: Make) -> None:
    words = [f"{number:05}" + "x" * 100 for number in range(4000)]
    assert to(site()).run(["printf", "%s\\n", *words]).stdout.splitlines() == words


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_full_remote_file_system_is_recognized_in_any_language(
    site: Callable[..., OwnSshd], to: Make, tmp_path: Path
) -> None:
    server = site(noise="export LC_ALL=de_DE.UTF-8 LANGUAGE=de")
    small = server.home / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "f").write_bytes(os.urandom(5_000_000))
        transport = to(server)
        with pytest.raises(Blocked, match="no room on the cluster"):
            transport.send_tree(tmp_path / "tree", "small/run")
        with pytest.raises(Blocked, match="no room on the cluster"):
            transport.write_file("small/f", bytes(2_000_000))
        assert not transport.exists("small/run")
        assert not transport.exists("small/f")
    finally:
        subprocess.run(["umount", small], check=True)


# -- the way there ----------------------------------------------------------------------------------------------------


def test_a_jump_host_is_used_and_its_host_key_is_checked(site: Callable[..., OwnSshd], to: Make) -> None:
    gate, cluster = site(), site()
    known = (gate.root / "known_hosts").read_text()
    cluster.config.write_text(
        cluster.config.read_text()
        + f"  ProxyJump gate\nHost gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  IdentityFile {gate.root}/id\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {gate.root}/known_hosts\n"
    )
    transport = to(cluster)
    assert transport.run(["echo", "through"]).stdout == "through\n"
    assert (logins(gate), logins(cluster)) == (1, 1)
    transport.close()
    (gate.root / "known_hosts").write_text("")
    with pytest.raises(Blocked, match="no SSH connection") as caught:
        transport.check()
    assert "host key is not known" in caught.value.hint
    assert logins(cluster) == 1
    (gate.root / "known_hosts").write_text(known)
    assert transport.run(["true"]).ok


def test_a_certificate_is_accepted_until_it_expires(site: Callable[..., OwnSshd], to: Make) -> None:
    server = site()
    authority, key = server.root / "authority", server.root / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority], check=True)
    config = server.root / "sshd_config"
    server.stop()
    config.write_text(f"TrustedUserCAKeys {authority}.pub\n{config.read_text().replace('/id.pub', '/nobody')}")
    server.start()
    account = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()

    def certify(valid: str) -> None:
        subprocess.run(
            ["ssh-keygen", "-q", "-s", authority, "-I", "worker", "-n", account, "-V", valid, f"{key}.pub"], check=True
        )

    certify("-2d:-1d")
    with pytest.raises(Blocked) as caught:
        to(server).check()
    assert "refuses our key" in caught.value.hint
    certify("-1d:+1d")
    assert to(server).run(["true"]).ok
    assert "CA ED25519" in (server.root / "log").read_text()


def test_a_key_in_an_agent_is_used(site: Callable[..., OwnSshd], to: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    server = site()
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", server.root / "agent"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not (server.root / "agent").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(server.root / "agent"))
        subprocess.run(["ssh-add", "-q", server.root / "id"], check=True)
        (server.root / "id").unlink()
        assert to(server).run(["true"]).ok
    finally:
        agent.terminate()
        agent.wait(10)


# -- what a server takes ----------------------------------------------------------------------------------------------


def together(transports: list[OpenSshTransport], count: int) -> list[str]:
    answers: list[str] = []

    def echo(number: int) -> None:
        transport = transports[number % len(transports)]
        answers.append(transport.run(["sh", "-c", "sleep 0.2; echo $0", str(number)]).stdout)

    threads = [threading.Thread(target=echo, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    return answers


def test_a_low_session_limit_of_the_server_is_respected(site: Callable[..., OwnSshd], to: Make) -> None:
    server = site(settings="MaxSessions 2")
    transport = to(server)
    assert sorted(map(int, together([transport], 12))) == list(range(12))
    assert transport._slots.limit <= 3
    assert (logins(server), transport.connections) == (1, 1)


@pytest.mark.slow
def test_two_processes_that_share_a_connection_get_all_their_answers(site: Callable[..., OwnSshd], to: Make) -> None:
    server = site()
    assert sorted(map(int, together([to(server), to(server)], 32))) == list(range(32))
    assert logins(server) == 1


_WORKER = """
import sys, time
from pathlib import Path
from biomeroworker.cluster.transport.openssh import OpenSshTransport
alias, config, runtime = sys.argv[1:]
transport = OpenSshTransport(alias, config_file=Path(config), runtime_dir=Path(runtime))
sys.stdin.readline()
print(transport.run(["echo", "done"]).stdout.strip(), transport.connections)
"""


def test_processes_that_start_together_log_in_once(site: Callable[..., OwnSshd], to: Make) -> None:
    server = site()
    closer = to(server)  # ends the connection that they leave
    words = [sys.executable, "-c", _WORKER, server.alias, str(server.config), str(server.runtime)]
    workers = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    outputs = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert [words[0] for words in outputs] == ["done"] * 4
    assert sum(int(words[1]) for words in outputs) == 1
    assert logins(server) == 1
    assert closer.run(["true"]).ok


def test_only_the_last_user_of_a_connection_closes_it(site: Callable[..., OwnSshd], to: Make) -> None:
    """A command reads a log while a supervisor uses the same connection."""
    server = site()
    works, looks = to(server), to(server)
    works.check()
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(works.run, ["sh", "-c", "echo started >started; while [ ! -e go ]; do sleep 0.05; done"])
        while not works.exists("started"):
            time.sleep(0.02)
        assert looks.run(["true"]).ok
        looks.close()
        works.write_file("go", b"")
        assert working.result(30).ok
    looks.close()  # a second time it leaves nothing
    assert works.run(["true"]).ok
    assert works.connections + looks.connections == logins(server) == 1
    works.close()
    assert not list(server.runtime.glob("cm-*[0-9a-f]")), "the last has ended it"


# -- not to be banned -------------------------------------------------------------------------------------------------


def test_a_refused_key_is_not_offered_repeatedly(site: Callable[..., OwnSshd], to: Make) -> None:
    server = site()
    authorized = server.root / "id.pub"
    key = authorized.read_text()
    authorized.write_text("")
    for transport in (to(server), to(server)):
        for _ in range(4):
            with pytest.raises(Blocked) as caught:
                transport.check()
            assert "refuses our key" in caught.value.hint
    assert "to avoid a ban" in str(caught.value)
    assert (server.root / "log").read_text().count("Connection closed by authenticating user") == 3
    authorized.write_text(key)
    (count,) = server.runtime.glob("*.logins")
    past = json.loads(count.read_text())
    past["refusals"] = [at - 600 for at in past["refusals"]]
    count.write_text(json.dumps(past))
    assert to(server).run(["true"]).ok


def test_logins_are_rate_limited(site: Callable[..., OwnSshd], to: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_limiter, "LOGINS_PER_MINUTE", 2)
    server = site()
    transport = to(server)
    for _ in range(2):
        transport.check()
        transport.close()
    with pytest.raises(Transient, match="the next one is in"):
        transport.run(["true"], timeout=5)
    monkeypatch.setattr(login_limiter, "_MINUTE_SECONDS", 3.0)
    assert transport.run(["true"], timeout=30).ok  # waits for its turn
    assert logins(server) == 3


@pytest.fixture
def stalling(site: Callable[..., OwnSshd]) -> Iterator[OwnSshd]:
    """A front-end that stops answering during a login: a relay passes only a limited number of bytes."""
    server = site()
    listener = socket.create_server(("127.0.0.1", 0))
    sockets: list[socket.socket] = []

    def forward(source: socket.socket, target: socket.socket, limit: int) -> None:
        passed = 0
        while data := source.recv(4096):
            if passed < limit:
                target.sendall(data[: limit - passed])
            passed += len(data)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server.relayed += 1
            behind = socket.create_connection(("127.0.0.1", server.port))
            sockets.extend([client, behind])
            threading.Thread(target=forward, args=(client, behind, 1 << 30), daemon=True).start()
            # past the banner and the exchange of keys, before authentication is through
            threading.Thread(target=forward, args=(behind, client, 2500), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    text = server.config.read_text().replace(f"Port {server.port}", f"Port {listener.getsockname()[1]}")
    server.config.write_text(f"{text}  HostKeyAlias [127.0.0.1]:{server.port}\n")
    yield server
    listener.close()
    for one in sockets:
        one.close()


def test_waiting_processes_share_the_failure_of_a_silent_login(
    stalling: OwnSshd, to: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert openssh._LOGIN_SECONDS + 2 * openssh._CONTROL_SECONDS < 60
    monkeypatch.setattr(openssh, "_LOGIN_SECONDS", 2)
    transports = [to(stalling), to(stalling)]
    faults: list[BaseException] = []

    def check(number: int) -> None:
        try:
            transports[number % 2].check()
        except Transient as fault:
            faults.append(fault)

    began = time.monotonic()
    threads = [threading.Thread(target=check, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert time.monotonic() - began < 8
    assert len(faults) == 6
    assert stalling.relayed == 1, "one login, however many wait for it"


def test_a_login_through_a_silent_jump_host_times_out(
    site: Callable[..., OwnSshd], stalling: OwnSshd, to: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssh, "_LOGIN_SECONDS", 2)
    gate = site()
    stalling.config.write_text(
        stalling.config.read_text()
        + f"  ProxyJump gate\nHost gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  IdentityFile {gate.root}/id\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {gate.root}/known_hosts\n"
    )
    with pytest.raises(Transient):
        to(stalling).check()
    deadline = time.monotonic() + 10
    while gate._children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not gate._children()  # the client of the jump host has gone as well
