"""The transport over the system's OpenSSH: one shared connection, many commands on it.

The site's ``~/.ssh/config``, jump hosts, agents and second factors work because the system's ssh opens the connection.
All commands of this deployment use one connection (a *master*, ssh_config(5) ControlMaster), also after a restart of
the worker: all processes of the account find its socket by name. Only the last process that uses the connection closes
it, so that a short command such as ``logs`` does not end the transfer of a supervisor. A command never opens a
connection of its own: where ssh would do so (the master has ended, or refuses a session), it runs a ProxyCommand that
only prints a message. This message proves that the command was not started, so it may be started again.

Any login shell works: it gets one line, which all shells read in the same way and which starts a POSIX shell. The
POSIX shell reads the command from its input.
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

#: A connection counts as lost after so many keep-alive messages without an answer, and one more interval.
_ALIVE_TRIES = 3
#: Time for the connection up to the server's banner; three tries take less than a minute.
_CONNECT_SECONDS = 10
#: Time for the whole login: account services of a busy cluster are slow.
_LOGIN_SECONDS = 40
#: Time for ssh to read its configuration: ``Match exec`` runs programs, and names are resolved.
_CONFIGURATION_SECONDS = 20
#: Time for the local process of the shared connection to answer.
_CONTROL_SECONDS = 5
#: How long `close` waits for the login of another process, which then closes the connection itself.
_CLOSE_SECONDS = 2
#: How long an idle connection stays open: longer than the longest polling interval.
_PERSIST_SECONDS = 1200
#: The kernel's limit for the name of a socket is 108 bytes; ssh needs 17 of them for a temporary name.
_SOCKET_NAME_BYTES = 90
#: ssh's name for a host that it reaches through a jump host.
_BEHIND_JUMP_HOST = "UNKNOWN port 65535"
#: The line for the login shell: tcsh, fish, zsh and POSIX shells read it in the same way.
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
        folder, made with mode 0700. A folder of another account is refused.
    options
        Additional ``-o`` options, as ``Name=value``; they override the configuration.
    alive_seconds
        Interval of keep-alive messages on a silent connection; a lost one is detected after four intervals.
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
            raise ConfigError(f"the path of the folder {self._socket.parent} is too long for a socket")
        self._login_limiter = LoginRateLimiter(self._socket.with_suffix(".logins"), host)
        self._connections = 0
        self._users_lock = -1
        self._jump: tuple[str, str] | None = None
        self._alive_seconds = alive_seconds
        self._check_master = True

    @property
    def connections(self) -> int:
        """How many connections this transport has opened."""
        return self._connections

    def _start(self, argv: Sequence[str], timeout: float) -> subprocess.Popen[bytes]:
        self._ensure_master(timeout)
        # ssh runs a ProxyCommand in a shell.
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
        # A master that died after the request for a session may have started the command (mux.c sends the request to
        # the cluster before it answers the client). The caller has to resolve that.
        if NO_MASTER not in stderr or "read from master failed" in stderr:
            return False
        if not self._refused(stderr):
            self._check_master = True
        return True

    def _ensure_master(self, timeout: float) -> None:
        """Open the shared connection unless it is open; one thread of one process does it, all others wait."""
        if self._socket.exists() and not self._check_master:
            return
        deadline = time.monotonic() + timeout
        with self._login_limiter.exclusive(timeout) as waiting_since:
            self._register_user()
            if not self._socket.exists() or (self._check_master and not self._master_answers()):
                options = self._site_options()
                with self._login_limiter.attempt(waiting_since, deadline - time.monotonic()):
                    self._connect(options, deadline - time.monotonic())
            self._check_master = False

    def _master_answers(self) -> bool:
        """Whether a process listens on the socket. (Keep-alive messages find a lost connection behind it.)"""
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
        """Start the master: it authenticates in the foreground, then runs until it was idle for `_PERSIST_SECONDS`."""
        options = {
            "ControlMaster": "yes",
            "ControlPersist": str(_PERSIST_SECONDS),
            "ServerAliveInterval": str(self._alive_seconds),
            "ServerAliveCountMax": str(_ALIVE_TRIES),
            "ConnectTimeout": str(_CONNECT_SECONDS),
            **site,
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        # A file, not a pipe: the master holds the descriptor until it ends.
        with tempfile.TemporaryFile() as errors:
            master = subprocess.Popen(
                [*self._base, "-S", str(self._socket), *words, "-f", "-N", "--", self.host],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
            )  # fmt: skip
            try:
                code = master.wait(min(timeout, _LOGIN_SECONDS))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(master.pid, signal.SIGKILL)  # including the clients of jump hosts
                master.wait()
                raise Transient(f"no SSH connection to {self.host} within {min(timeout, _LOGIN_SECONDS):g} s") from None
            errors.seek(0)
            stderr = errors.read().decode("utf-8", "replace")
        if code:
            raise connection_fault(self.host, stderr + self._jump_host_error(stderr))
        self._connections += 1

    def _jump_host_error(self, stderr: str) -> str:
        """The error output of a jump host, if the login failed there.

        A master with ControlPersist sends it to /dev/null (sshconnect.c, ssh_proxy_connect), so the jump host is tried
        once more, without a master.
        """
        if self._jump is None or _BEHIND_JUMP_HOST not in stderr:
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
        """Options that depend on the site's configuration, as ``ssh -G`` (which opens no connection) prints it.

        Host keys are always checked: a configuration that disables this is refused. Unless the site configures ciphers,
        AES-GCM comes first: with the processor's AES instructions it is a third faster than the default.
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
        """Check jump hosts as well: ssh reads the configuration of each, without our options."""
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
        """The options that ``ssh -G`` prints."""
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_CONFIGURATION_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise Transient(
                f"ssh took longer than {_CONFIGURATION_SECONDS:g} s to read its configuration for {host}",
                hint="a Match exec of the SSH configuration, or the name service, is slow",
            ) from None
        if done.returncode:
            stderr = done.stderr.decode("utf-8", "replace")
            raise Blocked(f"ssh does not accept the configuration for {host}", detail=stderr.strip())
        lines = (line.partition(" ") for line in done.stdout.decode("utf-8", "replace").splitlines())
        return {name: value for name, _, value in lines}

    def _register_user(self) -> None:
        """Register this process as a user of the connection, until `close` or until the process ends."""
        if self._users_lock < 0:
            file = self._socket.with_suffix(".users")
            self._users_lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._users_lock, fcntl.LOCK_SH)

    def _is_last_user(self) -> bool:
        try:
            fcntl.flock(self._users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Stop using the shared connection; the last process that does so closes it, which ends its own commands."""
        if self._users_lock < 0:
            return
        try:
            with self._login_limiter.exclusive(_CLOSE_SECONDS):
                if self._is_last_user() and self._socket.exists():
                    self._control("exit")
                    deadline = time.monotonic() + 5
                    while self._socket.exists() and time.monotonic() < deadline:
                        time.sleep(0.01)
        except Transient:  # another process is opening the connection, and is registered by then
            pass
        finally:
            os.close(self._users_lock)
            self._users_lock, self._check_master = -1, True


def _refuse_unchecked(site: Mapping[str, str], host: str) -> None:
    """Refuse a configuration under which any host could pretend to be ``host``."""
    strict = site.get("stricthostkeychecking")
    if strict in ("no", "off", "false"):
        raise Blocked(
            f"host keys of {host} are not checked",
            hint="remove StrictHostKeyChecking from the SSH configuration and add the host's key to known_hosts",
        )
    if strict == "accept-new" and {"/dev/null", "none"} & set(site.get("userknownhostsfile", "").split()):
        raise Blocked(
            f"host keys of {host} are not checked: without a known_hosts file each key is accepted as new",
            hint="remove UserKnownHostsFile /dev/null from the SSH configuration, or StrictHostKeyChecking accept-new",
        )


def _private(folder: Path | None) -> Path:
    """The folder for sockets, which no other account may use."""
    if folder is None:
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        folder = (
            Path(runtime) / "biomeroworker" if runtime else Path(tempfile.gettempdir()) / f"biomeroworker-{os.getuid()}"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
        raise ConfigError(f"{folder} is not a folder of this account: the shared SSH connection needs a private one")
    if about.st_mode & 0o077:
        folder.chmod(0o700)
    return folder
