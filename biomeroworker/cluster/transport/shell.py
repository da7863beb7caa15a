"""All of the transport but the wire: what it takes to work on a machine where one can start a command.

`ShellTransport` needs one thing from its children, a started client for a command line, and builds the whole seam on
it; so the transport over SSH and the one that misbehaves on purpose share every line that a contract could break.
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

#: More than any command of ours answers; a longer answer is a mistake, and would fill our memory.
MAX_ANSWER_BYTES = 64 << 20
_TRIES = 4
#: A command that takes longer to begin has a long line before it (two times there and back, and some milliseconds).
_LONG_DISTANCE_SECONDS = 0.08
#: How many channels a tree travels on then, and how many are left to others.
_STREAMS = 4
_RESERVED_SESSIONS = 2


class ShellTransport(abc.ABC):
    """A transport on anything that can start a command; see `transport.Transport` for what each method promises.

    Parameters
    ----------
    host
        How the far side is called in messages.
    channels
        How many commands may run at once (sshd's ``MaxSessions`` is 10 by default, and refuses more).
    """

    def __init__(self, host: str, *, channels: int = 8) -> None:
        self.host = host
        self._word = secrets.token_hex(8)
        self._slots = AdaptiveSemaphore(channels)
        self._lock = threading.Lock()
        self._executions = 0
        self._nearest = float("inf")

    # What a child provides ------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def _start(self, argv: Sequence[str], timeout: float) -> subprocess.Popen[bytes]:
        """Start a client that runs ``argv`` on the far side, in a session of its own, with three pipes."""

    @abc.abstractmethod
    def _fault(self, stderr: str) -> Fault:
        """The fault of a client that ended by its own trouble."""

    def _preamble(self, argv: Sequence[str]) -> bytes:
        """What a started client reads first, before any command's own input."""
        return b""

    def _not_started(self, stderr: str) -> bool:
        """Whether what a client said proves that its command was never started, so that it may be started again."""
        return False

    def _refused(self, stderr: str) -> bool:
        """Whether it was not started because too many commands run on the connection."""
        return False

    @abc.abstractmethod
    def close(self) -> None:
        """End the connection."""

    # The seam -------------------------------------------------------------------------------------------------------

    @property
    def executions(self) -> int:
        """How many remote commands have been started."""
        return self._executions

    def check(self) -> None:
        """Run nothing, successfully."""
        self.run(["true"], timeout=60)

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> Completed:
        """Run a command to its end."""
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
        """Make ``remote`` hold all files of ``local``: a dialogue in one execution."""
        target = remote_scripts.path(remote).rstrip("/")
        parent, name = posixpath.split(target)
        if name in ("", ".", ".."):
            raise Permanent(f"{remote!r} cannot be made to hold a tree: it has no name of its own")
        stage = f"{parent}/.{name}.part"
        sending = TreeUpload(local, progress, remote_scripts.receive_share_command(f"{stage}/data"))
        program = remote_scripts.receive_command(target, stage)
        return self._moved(program, sending.transfer, f"sending {local.name} to {remote}", remote, timeout)

    def fetch_tree(
        self, remote: str, local: Path, *, timeout: float = 3600, progress: Progress | None = None
    ) -> TransferResult:
        """Make ``local`` hold all files of ``remote``: a dialogue in one execution."""
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
        """Hold a tree's dialogue; what it ends in."""
        with self._transfer(program, timeout) as channel:
            try:
                moved = talk(channel, self._extra_channels(timeout))
            except (EOFError, BrokenPipeError):
                self._expect(channel, what, remote)
                raise Transient(f"{what}: the cluster ended it early", detail=channel.stderr_text) from None
            self._expect(channel, what, remote)
            return moved

    def _extra_channels(self, timeout: float) -> ExtraChannels:
        """Further channels, if the far side is far away and nobody else needs them."""
        count = (
            min(_STREAMS - 1, self._slots.available() - _RESERVED_SESSIONS)
            if self._nearest > _LONG_DISTANCE_SECONDS
            else 0
        )
        return ExtraChannels(lambda program: self._transfer(program, timeout), max(0, count))

    # The wire -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transfer(self, argv: Sequence[str], timeout: float) -> Iterator[Channel]:
        """A channel to a command that has started; the fault of the link if it is cut."""
        if not argv or any("\0" in word for word in argv):
            raise ValueError("a command is a list of words without NUL")
        deadline = time.monotonic() + timeout
        if not self._slots.acquire(timeout):
            raise Transient(f"all channels to {self.host} were busy for {timeout:g} s")
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
    """Give a command its input; one that does not read it may close it."""
    with contextlib.suppress(OSError, ValueError):
        channel.stdin.write(content)
    with contextlib.suppress(OSError, ValueError):
        channel.stdin.close()
