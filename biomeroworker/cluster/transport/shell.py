"""The transport on top of any client that starts remote commands.

A subclass of `ShellTransport` only starts a client process for a command line. So the transport over SSH and the fake
of the tests share all other code.
"""

from __future__ import annotations

import abc
import contextlib
import os
import posixpath
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from biomeroworker.cluster.transport import remote_scripts
from biomeroworker.cluster.transport.channel import Channel, ConnectionLost
from biomeroworker.cluster.transport.errors import python_fault, remote_file_fault, tail
from biomeroworker.cluster.transport.parallel_streams import ExtraChannels
from biomeroworker.cluster.transport.session_limiter import AdaptiveSemaphore
from biomeroworker.cluster.transport.transport import Completed, Progress, TransferResult
from biomeroworker.cluster.transport.tree_transfer import TreeDownload, TreeUpload
from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.errors import Blocked, Fault, Permanent, Transient

#: No command of ours prints more; a longer output is an error, and would fill the memory.
MAX_ANSWER_BYTES = 64 << 20
_TRIES = 4
#: If commands take longer to start (two round trips and some milliseconds), additional channels pay off.
_LONG_DISTANCE_SECONDS = 0.08
#: Channels of a tree transfer in that case, and sessions that other commands can still use.
_STREAMS = 4
_RESERVED_SESSIONS = 2


class ShellTransport(abc.ABC):
    """A transport on top of a client that starts commands; see `transport.Transport` for the methods.

    Parameters
    ----------
    host
        The cluster's name in messages.
    channels
        How many commands may run at the same time (sshd's ``MaxSessions`` is 10 by default).
    """

    def __init__(self, host: str, *, channels: int = 8) -> None:
        self.host = host
        self._word = secrets.token_hex(8)
        self._slots = AdaptiveSemaphore(channels)
        self._lock = threading.Lock()
        self._executions = 0
        self._nearest = float("inf")

    # Provided by subclasses -----------------------------------------------------------------------------------------

    @abc.abstractmethod
    def _start(self, argv: Sequence[str], timeout: float) -> subprocess.Popen[bytes]:
        """Start a client that runs ``argv`` on the cluster, in a session of its own, with three pipes."""

    @abc.abstractmethod
    def _fault(self, stderr: str) -> Fault:
        """The fault of a client that failed itself."""

    def _preamble(self, argv: Sequence[str]) -> bytes:
        """What a started client reads before the input of the command."""
        return b""

    def _not_started(self, stderr: str) -> bool:
        """Whether the error output proves that the command was not started, so that it may be started again."""
        return False

    def _refused(self, stderr: str) -> bool:
        """Whether it was not started because the connection has too many sessions."""
        return False

    @abc.abstractmethod
    def close(self) -> None:
        """End the connection."""

    # Interface ------------------------------------------------------------------------------------------------------

    @property
    def executions(self) -> int:
        """How many remote commands have been started."""
        return self._executions

    def check(self) -> None:
        """Run a command that does nothing."""
        self.run(["true"], timeout=60)

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> Completed:
        """Run a command and wait for its end."""
        with self._transfer(argv, timeout) as channel:
            feeder = threading.Thread(target=_feed, args=(channel, stdin), daemon=True)
            feeder.start()
            stdout = channel.read_all(MAX_ANSWER_BYTES)
            code = channel.finish()
            feeder.join(5)
            return Completed(tuple(argv), code, stdout.decode("utf-8", "replace"), channel.stderr_text)

    def read_from(self, remote: str, offset: int = 0, *, limit: int = 1 << 20, timeout: float = 60) -> bytes:
        """At most ``limit`` bytes of a file from ``offset``."""
        program = remote_scripts.program(remote_scripts.READ, remote_scripts.path(remote), str(offset + 1), str(limit))
        with self._transfer(program, timeout) as channel:
            content = channel.read_all(limit)
            self._expect(channel, f"reading {remote}", remote)
            return content

    def write_file(self, remote: str, content: bytes, *, mode: int = 0o600, timeout: float = 60) -> None:
        """Write a small file atomically; its folder is made when it is missing."""
        path = remote_scripts.path(remote)
        words = (path, f"{mode:o}", f"part-{secrets.token_hex(4)}", str(len(content)), posixpath.dirname(path) or ".")
        with self._transfer(remote_scripts.program(remote_scripts.WRITE, *words), timeout) as channel:
            _feed(channel, content)
            self._expect(channel, f"writing {remote}", remote)

    def list_dir(self, remote: str, *, timeout: float = 60) -> list[str]:
        """The names in a folder, sorted."""
        with self._transfer(
            remote_scripts.program(remote_scripts.LIST, remote_scripts.path(remote)), timeout
        ) as channel:
            found = channel.read_all(MAX_ANSWER_BYTES)
            self._expect(channel, f"listing {remote}", remote)
        return sorted(os.fsdecode(name) for name in found.split(b"\0") if name)

    def exists(self, remote: str, *, timeout: float = 60) -> bool:
        """Whether a path exists."""
        return self.run(["test", "-e", remote_scripts.path(remote)], timeout=timeout).ok

    def make_dirs(self, remotes: Sequence[str], *, timeout: float = 60) -> None:
        """Make folders with their parents."""
        if not remotes:
            return
        done = self.run(
            remote_scripts.program(remote_scripts.FOLDERS, *map(remote_scripts.path, remotes)), timeout=timeout
        )
        if not done.ok:
            raise remote_file_fault("making folders", done.stderr)

    def remove(self, remote: str, *, timeout: float = 300) -> None:
        """Remove a file or tree."""
        path = remote_scripts.path(remote).rstrip("/") or "/"
        done = self.run(
            remote_scripts.program(remote_scripts.REMOVE, path, posixpath.dirname(path) or "."), timeout=timeout
        )
        if done.returncode == remote_scripts.REFUSED:
            raise Permanent(f"{remote} is not removed", detail=done.stderr.strip())
        if not done.ok:
            raise remote_file_fault(f"removing {remote}", done.stderr)

    def send_tree(
        self, local: Path, remote: str, *, timeout: float = 3600, progress: Progress | None = None
    ) -> TransferResult:
        """Copy all files of ``local`` to ``remote``, in one remote command."""
        target = remote_scripts.path(remote).rstrip("/")
        parent, name = posixpath.split(target)
        if name in ("", ".", ".."):
            raise Permanent(f"{remote!r} is not a name for a folder to be created")
        stage = f"{parent}/.{name}.part"
        sending = TreeUpload(local, progress, remote_scripts.receive_share_command(f"{stage}/data"))
        program = remote_scripts.receive_command(target, stage)
        return self._moved(program, sending.transfer, f"sending {local.name} to {remote}", remote, timeout)

    def fetch_tree(
        self, remote: str, local: Path, *, timeout: float = 3600, progress: Progress | None = None
    ) -> TransferResult:
        """Copy all files of ``remote`` to ``local``, in one remote command."""
        folder = remote_scripts.path(remote)
        fetching = TreeDownload(local, progress, remote_scripts.send_share_command(folder))
        program = remote_scripts.send_command(folder)
        fetched = self._moved(program, fetching.transfer, f"fetching {remote}", remote, timeout)
        fetching.publish()
        return fetched

    def _moved(
        self,
        program: Sequence[str],
        talk: Callable[[Channel, ExtraChannels], TransferResult],
        what: str,
        remote: str,
        timeout: float,
    ) -> TransferResult:
        """Run a tree transfer."""
        with self._transfer(program, timeout) as channel:
            try:
                moved = talk(channel, self._extra_channels(timeout))
            except (EOFError, BrokenPipeError):
                self._expect(channel, what, remote)
                raise Transient(f"{what}: the remote command ended early", detail=channel.stderr_text) from None
            self._expect(channel, what, remote)
            return moved

    def _extra_channels(self, timeout: float) -> ExtraChannels:
        """Additional channels, if the round-trip time is long and there are free sessions."""
        count = (
            min(_STREAMS - 1, self._slots.available() - _RESERVED_SESSIONS)
            if self._nearest > _LONG_DISTANCE_SECONDS
            else 0
        )
        return ExtraChannels(lambda program: self._transfer(program, timeout), max(0, count))

    # Connection -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transfer(self, argv: Sequence[str], timeout: float) -> Iterator[Channel]:
        """A channel to a command that has started; raises the fault of the connection if it is lost."""
        if not argv or any("\0" in word for word in argv):
            raise ValueError("a command is a list of words without NUL")
        deadline = time.monotonic() + timeout
        if not self._slots.acquire(timeout):
            raise Transient(f"all sessions on the connection to {self.host} were in use for {timeout:g} s")
        try:
            channel = self._begin(argv, deadline, timeout)
            try:
                yield channel
            except ConnectionLost as cut:
                raise self._fault(cut.stderr) from None
            finally:
                channel.close()
        finally:
            self._slots.release()

    def _begin(self, argv: Sequence[str], deadline: float, timeout: float) -> Channel:
        framed = ["sh", "-c", remote_scripts.FRAME, self._word, *argv]
        tries = 0
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Transient(f"no answer from {self.host} within {timeout:g} s")
            client = self._start(framed, left)
            started = time.monotonic()
            channel = Channel(client, self._word, timeout, deadline - time.monotonic())
            try:
                channel.handshake(self._preamble(framed))
            except ConnectionLost as cut:
                channel.close()
                tries += 1
                if self._not_started(cut.stderr):
                    if self._refused(cut.stderr):
                        self._slots.on_rejected()
                    elif tries >= _TRIES:
                        raise self._fault(cut.stderr) from None
                    delay = backoff_delay(tries, first=0.1, longest=1.0)
                    time.sleep(min(delay, max(0.0, deadline - time.monotonic())))
                    continue
                raise self._fault(cut.stderr) from None
            except BaseException:
                channel.close()
                raise
            with self._lock:
                self._executions += 1
                self._nearest = min(self._nearest, time.monotonic() - started)
            return channel

    def _expect(self, channel: Channel, what: str, remote: str) -> None:
        code = channel.finish()
        if code == remote_scripts.NOT_THERE:
            raise FileNotFoundError(f"{self.host}:{remote}")
        if code == remote_scripts.NO_PYTHON:
            raise python_fault(self.host, tail(channel.stderr_text, 1))
        if code == remote_scripts.REFUSED:
            raise Blocked(f"{what}: not allowed on the cluster", detail=channel.stderr_text.strip())
        if code:
            raise remote_file_fault(what, channel.stderr_text)


def _feed(channel: Channel, content: bytes) -> None:
    """Write the input of a command; the command may close it without reading it."""
    with contextlib.suppress(OSError, ValueError):
        channel.stdin.write(content)
    with contextlib.suppress(OSError, ValueError):
        channel.stdin.close()
