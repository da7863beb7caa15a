r"""A fake transport on a local folder that can be made to fail, for tests of code that uses a transport.

It runs the same remote programs as the real one, here, with the folder as home; so what holds of it holds of a cluster,
and a test of the engine needs no sshd. Misfortunes are armed before a call and happen once::

    fake.fail(Transient("link down"), after=2)     # the third execution from now
    fake.cut(after_bytes=1000)                     # the next execution, when more than that has travelled
    fake.hang()                                    # the next execution never answers
    fake.answer(["sbatch"], stdout="17\\n")         # every execution of that program, from now on
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

#: Lets so many bytes pass in each direction. One more, and all of it dies without a word, as when a link is lost.
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
        #: What was run, in order.
        self.commands: list[tuple[str, ...]] = []

    # -- misfortunes ---------------------------------------------------------------------------------------------------

    def fail(self, fault: Fault, *, after: int = 0) -> None:
        """Let one execution fail to start: the next, or the one after so many."""
        self._faults[self._started + after] = fault

    def cut(self, *, after_bytes: int) -> None:
        """Let the next execution lose its link when more than so many bytes travel in a direction."""
        self._cut_after = after_bytes

    def hang(self) -> None:
        """Let the next execution never answer."""
        self._hangs = True

    def slow(self, seconds: float) -> None:
        """Let every execution from now on take so much longer."""
        self._delay = seconds

    def answer(self, prefix: Sequence[str], *, stdout: str = "", stderr: str = "", returncode: int = 0) -> None:
        """Answer every `run` of commands that begin so, without running them; the last such rule counts."""
        done = Completed(tuple(prefix), returncode, stdout, stderr)
        self._answers.insert(0, (tuple(prefix), done))

    # -- the wire ------------------------------------------------------------------------------------------------------

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> Completed:
        """Run a command, or give the answer that was prepared for it."""
        for prefix, done in self._answers:
            if tuple(argv[: len(prefix)]) == prefix:
                self._note(argv)
                self._executions += 1
                return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)
        return super().run(argv, timeout=timeout, stdin=stdin)

    def _note(self, argv: Sequence[str]) -> None:
        """Count an execution, and let it suffer what is armed for it."""
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
        """Nothing to end."""
