r"""A fake transport on a local folder that can be made to fail, for tests of code that uses a transport.

It runs the same programs as the real transport, on this machine and with the folder as home, so tests of its users need
no sshd. A fault is set before a call and happens once::

    fake.fail(Transient("link down"), after=2)     # the third command from now
    fake.cut(after_bytes=1000)                     # the next command, after more than this was transferred
    fake.hang()                                    # the next command never answers
    fake.answer(["sbatch"], stdout="17\\n")         # all commands of that program, from now on
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from biomeroworker.cluster.transport.shell import ShellTransport
from biomeroworker.cluster.transport.transport import Completed
from biomeroworker.errors import Fault, Transient
from biomeroworker.remote.tree_agent import STREAM_BUFFER_BYTES

#: Passes so many bytes in each direction. After one more byte all processes are killed, as if the connection was lost.
_CUT = r"""
limit=$0
toll() { stdbuf -o0 head -c "$limit"; [ -z "$(head -c 1 | od -An -c)" ] || kill -9 0; }
toll | "$@" | toll
"""


class FakeTransport(ShellTransport):
    """A cluster in a folder.

    Parameters
    ----------
    home
        Where relative paths start. Absolute paths are this machine's own.
    path
        Folders searched for programs before the system's: where a test puts its own ``sbatch``.
    """

    def __init__(self, home: Path, *, path: Sequence[Path] = (), channels: int = 8) -> None:
        super().__init__("fake", channels=channels)
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        search = [*map(str, path), os.environ.get("PATH", "/usr/bin:/bin")]
        self._environment = {**os.environ, "HOME": str(home), "PATH": ":".join(search)}
        self._faults: dict[int, Fault] = {}
        self._started = 0
        self._cut_after: int | None = None
        self._hangs = False
        self._delay = 0.0
        self._answers: list[tuple[tuple[str, ...], Completed]] = []
        #: The commands, in order.
        self.commands: list[tuple[str, ...]] = []

    # -- faults --------------------------------------------------------------------------------------------------------

    def fail(self, fault: Fault, *, after: int = 0) -> None:
        """Let one command fail to start: the next, or the one after ``after`` others."""
        self._faults[self._started + after] = fault

    def cut(self, *, after_bytes: int) -> None:
        """Let the next command lose its connection after more than so many bytes in one direction."""
        self._cut_after = after_bytes

    def hang(self) -> None:
        """Let the next command never answer."""
        self._hangs = True

    def slow(self, seconds: float) -> None:
        """Delay each command from now on."""
        self._delay = seconds

    def answer(self, prefix: Sequence[str], *, stdout: str = "", stderr: str = "", returncode: int = 0) -> None:
        """Answer each `run` of commands with this prefix without running them; the last rule counts."""
        done = Completed(tuple(prefix), returncode, stdout, stderr)
        self._answers.insert(0, (tuple(prefix), done))

    # -- connection ---------------------------------------------------------------------------------------------------

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> Completed:
        """Run a command, or return its prepared answer."""
        for prefix, done in self._answers:
            if tuple(argv[: len(prefix)]) == prefix:
                self._note(argv)
                self._executions += 1
                return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)
        return super().run(argv, timeout=timeout, stdin=stdin)

    def _note(self, argv: Sequence[str]) -> None:
        """Count a command, and apply the faults that are set for it."""
        number = self._started
        self._started += 1
        self.commands.append(tuple(argv))
        if self._delay:
            time.sleep(self._delay)
        if fault := self._faults.pop(number, None):
            raise fault

    def _start(self, argv: Sequence[str], timeout: float) -> subprocess.Popen[bytes]:
        self._note(argv[4:])  # without the frame
        words = list(argv)
        if self._hangs:
            self._hangs = False
            words = ["sleep", "3600"]
        elif self._cut_after is not None:
            words, self._cut_after = ["sh", "-c", _CUT, str(self._cut_after), *words], None
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=STREAM_BUFFER_BYTES,
            pipesize=1 << 20,
            cwd=self.home,
            env=self._environment,
            start_new_session=True,
        )

    def _fault(self, stderr: str) -> Fault:
        return Transient("the connection to the fake cluster was cut", detail=stderr)

    def close(self) -> None:
        """Nothing to close."""
