"""The transport over the system's OpenSSH: one shared connection, many commands on it.

The site's ``~/.ssh/config``, jump hosts, agents and second factors work because it is the site's ssh that connects. One
connection (a *master*, ssh_config(5) ControlMaster) serves all commands of this deployment, also after a restart of the
worker: its socket has a name that every process of the same user finds. Who looks at a log must not cut off a transfer
that a supervisor has on it, so only the last one who uses the connection ends it. A command never opens one of its own:
where ssh would fall back to that (the master is gone, or refuses a session) it is told to run a proxy that only says
so, which also proves that the command was not started and may safely be started again.

The account's login shell may be any: what it is given to read is one line without anything that shells differ about,
which starts a POSIX shell; that reads what it is to run from its input.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from biomeroworker.cluster.transport.errors import NO_MASTER, NO_SESSION, connection_fault
from biomeroworker.cluster.transport.login_limiter import LoginRateLimiter
from biomeroworker.cluster.transport.shell import ShellTransport
from biomeroworker.errors import Blocked, ConfigError, Fault, Transient
from biomeroworker.remote.tree_agent import STREAM_BUFFER_BYTES

#: A dead link is noticed when so many questions in a row were not answered, one interval after the last of them.
_ALIVE_TRIES = 3
#: How long a host may stay silent before it has named itself; three tries at the door take less than a minute.
_CONNECT_SECONDS = 10
#: How long it may take until it has let us in: account services of a busy cluster are slow.
_LOGIN_SECONDS = 40
#: How long ssh may read its configuration: ``Match exec`` runs programs, and names are looked up.
_CONFIGURATION_SECONDS = 20
#: How long the process of the shared connection may take to answer on this machine.
_CONTROL_SECONDS = 5
#: How long a good-bye waits for somebody who is at the door: that one stays, and ends the connection in our place.
_CLOSE_SECONDS = 2
#: What the connection outlives its last command by: longer than the longest pause between two polls.
_PERSIST_SECONDS = 1200
#: The kernel's limit for the name of a socket is 108 bytes, of which ssh takes 17 for a temporary name.
_SOCKET_NAME_BYTES = 90
#: How ssh calls a far end that it knows only through a host on the way.
_SOMEWHERE = "UNKNOWN port 65535"
#: What the login shell is given: free of all that tcsh, fish, zsh and POSIX shells understand in different ways.
_READER = "exec sh -c 'eval \"$(head -c %d)\"'"
_DEFAULT_FIRST_CIPHER = "chacha20-poly1305@openssh.com"


class OpenSshTransport(ShellTransport):
    """Commands on a host of the SSH configuration.

    Parameters
    ----------
    host
        A host alias of the SSH configuration, or ``user@name``.
    config_file
        An ssh_config(5) in place of ``~/.ssh/config``.
    runtime_dir
        A private folder for the shared connection's socket; by default below ``$XDG_RUNTIME_DIR`` or the temporary
        folder, made with mode 0700 and refused when it is somebody else's.
    options
        Further ``-o`` options, as ``Name=value``; they come before the configuration's.
    alive_seconds
        How often a silent link is asked whether it lives; one that is dead is noticed after four times that.
    """

    def __init__(
        self,
        host: str,
        *,
        config_file: Path | None = None,
        runtime_dir: Path | None = None,
        options: Sequence[str] = (),
        channels: int = 8,
        alive_seconds: int = 12,
    ) -> None:
        if not host or host.startswith("-"):
            raise ConfigError(f"{host!r} is not the name of an SSH host")
        super().__init__(host, channels=channels)
        self._plain = ["ssh", *(["-F", str(config_file)] if config_file else [])]
        self._base = [*self._plain, "-T"]
        for option in ("BatchMode=yes", "ClearAllForwardings=yes", *options):
            self._base += ["-o", option]
        identity = "\0".join([host, str(config_file), *options]).encode()
        self._socket = _private(runtime_dir) / f"cm-{hashlib.sha256(identity).hexdigest()[:16]}"
        if len(os.fsencode(self._socket)) > _SOCKET_NAME_BYTES:
            raise ConfigError(f"the folder {self._socket.parent} has too long a name for a socket: set a shorter one")
        self._login_limiter = LoginRateLimiter(self._socket.with_suffix(".logins"), host)
        self._connections = 0
        self._seat = -1
        self._jump: tuple[str, str] | None = None
        self._alive_seconds = alive_seconds
        self._doubted = True

    @property
    def connections(self) -> int:
        """How many connections this transport has opened."""
        return self._connections

    def _start(self, argv: Sequence[str], timeout: float) -> subprocess.Popen[bytes]:
        self._ensure_master(timeout)
        # (The word is read by the shell that ssh gives a ProxyCommand to.)
        proxy = f"sh -c 'echo \"{NO_MASTER}\" >&2'"
        client = [*self._base, "-S", str(self._socket), "-o", "ControlMaster=no", "-o", f"ProxyCommand={proxy}"]
        return subprocess.Popen(
            [*client, "--", self.host, _READER % len(self._preamble(argv))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=STREAM_BUFFER_BYTES,
            pipesize=1 << 20,
            start_new_session=True,
        )

    def _preamble(self, argv: Sequence[str]) -> bytes:
        return os.fsencode(f"exec {shlex.join(argv)}")

    def _refused(self, stderr: str) -> bool:
        return NO_SESSION in stderr

    def _fault(self, stderr: str) -> Fault:
        return connection_fault(self.host, stderr)

    def _not_started(self, stderr: str) -> bool:
        # A master that died after it was asked for a session may have started the command (mux.c sends the request to
        # the cluster before it answers the client): that is doubt, and the caller's to resolve.
        if NO_MASTER not in stderr or "read from master failed" in stderr:
            return False
        if not self._refused(stderr):
            self._doubted = True
        return True

    def _ensure_master(self, timeout: float) -> None:
        """Open the shared connection unless it is up; only one thread of one process does, the others wait for it."""
        if self._socket.exists() and not self._doubted:
            return
        deadline = time.monotonic() + timeout
        with self._login_limiter.exclusive(timeout) as waiting_since:
            self._register_user()
            if not self._socket.exists() or (self._doubted and not self._master_answers()):
                options = self._site_options()
                with self._login_limiter.attempt(waiting_since, deadline - time.monotonic()):
                    self._connect(options, deadline - time.monotonic())
            self._doubted = False

    def _master_answers(self) -> bool:
        """Whether somebody listens on the socket. (A black hole behind it is the keep-alive's to find.)"""
        if self._control("check"):
            return True
        with contextlib.suppress(FileNotFoundError):
            self._socket.unlink()
        return False

    def _control(self, word: str) -> bool:
        try:
            done = subprocess.run(
                [*self._base, "-S", str(self._socket), "-O", word, "--", self.host],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=_CONTROL_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _connect(self, site: Mapping[str, str], timeout: float) -> None:
        """Start the master: it authenticates in the foreground, then stays behind until it was idle for long."""
        options = {
            "ControlMaster": "yes",
            "ControlPersist": str(_PERSIST_SECONDS),
            "ServerAliveInterval": str(self._alive_seconds),
            "ServerAliveCountMax": str(_ALIVE_TRIES),
            "ConnectTimeout": str(_CONNECT_SECONDS),
            **site,
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        # A file, not a pipe: the master keeps the descriptor for as long as it lives.
        with tempfile.TemporaryFile() as errors:
            master = subprocess.Popen(
                [*self._base, "-S", str(self._socket), *words, "-f", "-N", "--", self.host],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
            )  # fmt: skip
            try:
                code = master.wait(min(timeout, _LOGIN_SECONDS))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(master.pid, signal.SIGKILL)  # with the clients of the hosts on the way
                master.wait()
                raise Transient(f"no SSH connection to {self.host} within {min(timeout, _LOGIN_SECONDS):g} s") from None
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace")
        if code:
            raise connection_fault(self.host, said + self._asked_on_the_way(said))
        self._connections += 1

    def _asked_on_the_way(self, said: str) -> str:
        """What a host on the way has to say when it was there that it failed.

        A master with ControlPersist sends its jump host's complaints to /dev/null (sshconnect.c, ssh_proxy_connect), so
        that host is asked once more, without a master.
        """
        if self._jump is None or _SOMEWHERE not in said:
            return ""
        jumps, place = self._jump
        first, _, last = jumps.rpartition(",")
        command = [
            *self._plain,
            "-o",
            "BatchMode=yes",
            "-o",
            f"ConnectTimeout={_CONNECT_SECONDS}",
            *(["-J", first] if first else []),
        ]
        host = last if last.startswith("ssh://") else f"ssh://{last}"
        try:
            done = subprocess.run(
                [*command, "-W", place, "--", host],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=_CONNECT_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return ""
        return done.stderr.decode("utf-8", "replace") if done.returncode else ""

    def _site_options(self) -> dict[str, str]:
        """What depends on the site's configuration, as ``ssh -G`` (which opens nothing) shows it.

        Host keys are always checked: a configuration that switches this off is refused. AES-GCM goes first, where the
        site has not chosen ciphers: with the processor's instructions for it, it is a third faster than the default.
        """
        site = self._configuration([*self._base, "-G", "--", self.host], self.host)
        _refuse_unchecked(site, self.host)
        jumps = site.get("proxyjump", "")
        self._check_jumps(jumps, {self.host})
        self._jump = None if jumps in ("", "none") else (jumps, f"[{site['hostname']}]:{site['port']}")
        options = {"Compression": "no"} if site.get("compression") != "yes" else {}
        if site.get("ciphers", "").startswith(_DEFAULT_FIRST_CIPHER):
            options["Ciphers"] = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
        return options

    def _check_jumps(self, jumps: str, seen: set[str]) -> None:
        """The hosts on the way are checked as well: ssh asks the configuration for each, without our options."""
        for jump in jumps.split(","):
            if jump in ("", "none") or jump in seen:
                continue
            seen.add(jump)
            user, _, place = jump.removeprefix("ssh://").rpartition("@")
            if place.startswith("["):
                name, _, port = place[1:].partition("]")
            else:
                name, _, port = place.partition(":")
            words = [*(["-l", user] if user else []), *(["-p", port.lstrip(":")] if port else [])]
            site = self._configuration([*self._plain, *words, "-G", "--", name], name)
            _refuse_unchecked(site, name)
            self._check_jumps(site.get("proxyjump", ""), seen)

    def _configuration(self, command: Sequence[str], host: str) -> dict[str, str]:
        """What ``ssh -G`` prints."""
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_CONFIGURATION_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise Transient(
                f"ssh did not read its configuration for {host} within {_CONFIGURATION_SECONDS:g} s",
                hint="a Match exec of the SSH configuration, or the name service, is slow",
            ) from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace")
            raise Blocked(f"ssh does not accept the configuration for {host}", detail=said.strip())
        lines = (line.partition(" ") for line in done.stdout.decode("utf-8", "replace").splitlines())
        return {name: value for name, _, value in lines}

    def _register_user(self) -> None:
        """Let others know that the connection is used, until `close`, or until this process ends in whichever way."""
        if self._seat < 0:
            file = self._socket.with_suffix(".users")
            self._seat = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._seat, fcntl.LOCK_SH)

    def _is_last(self) -> bool:
        try:
            fcntl.flock(self._seat, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Leave the shared connection; the last one to do so ends it, with whatever of its own still runs there."""
        if self._seat < 0:
            return
        try:
            with self._login_limiter.exclusive(_CLOSE_SECONDS):
                if self._is_last() and self._socket.exists():
                    self._control("exit")
                    deadline = time.monotonic() + 5
                    while self._socket.exists() and time.monotonic() < deadline:
                        time.sleep(0.01)
        except Transient:  # somebody opens it right now, and has a seat by then
            pass
        finally:
            os.close(self._seat)
            self._seat, self._doubted = -1, True


def _refuse_unchecked(site: Mapping[str, str], host: str) -> None:
    """Refuse a configuration under which any host may say that it is ``host``."""
    strict = site.get("stricthostkeychecking")
    if strict in ("no", "off", "false"):
        raise Blocked(
            f"host keys of {host} are not checked",
            hint="remove StrictHostKeyChecking from the SSH configuration and add the host's key to known_hosts",
        )
    if strict == "accept-new" and {"/dev/null", "none"} & set(site.get("userknownhostsfile", "").split()):
        raise Blocked(
            f"host keys of {host} are not checked: every key is new where none is kept",
            hint="remove UserKnownHostsFile /dev/null from the SSH configuration, or StrictHostKeyChecking accept-new",
        )


def _private(folder: Path | None) -> Path:
    """The folder for sockets: ours alone, or nobody may use the connection."""
    if folder is None:
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        folder = (
            Path(runtime) / "biomeroworker" if runtime else Path(tempfile.gettempdir()) / f"biomeroworker-{os.getuid()}"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
        raise ConfigError(f"{folder} is not a folder of ours: the shared SSH connection needs a private one")
    if about.st_mode & 0o077:
        folder.chmod(0o700)
    return folder
