"""One command on the far side, while it is being talked to.

Blocking reads and writes on pipes, and one deadline for all of it: when it passes, the local client is killed and every
read and write ends at once. Nothing here waits without a limit.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import IO, cast

from biomeroworker.errors import Permanent, Transient

_CHUNK_BYTES = 1 << 20
_STDERR_BYTES = 1 << 16


class ConnectionLost(Exception):
    """The client ended without the far side's last word; ``stderr`` is what the client said."""

    def __init__(self, stderr: str) -> None:
        super().__init__(stderr)
        self.stderr = stderr


class Channel:
    """A started client whose command line was framed by `remote_scripts.FRAME` with ``word``."""

    def __init__(self, process: subprocess.Popen[bytes], word: str, timeout: float, left: float) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._process = process
        self._word = word.encode()
        self._timeout = timeout
        self.stdin: IO[bytes] = process.stdin
        self.stdout = cast(io.BufferedReader, process.stdout)
        self._stderr = bytearray()
        self._due: list[str] = []
        self._expired = False
        self._killed = threading.Event()
        self._timer = threading.Timer(left, self._expire)
        self._timer.daemon = True
        self._timer.start()
        self._reader = threading.Thread(target=self._drain, args=(process.stderr,), daemon=True)
        self._reader.start()

    def _expire(self) -> None:
        self._expired = True
        self.kill()

    def _drain(self, stderr: IO[bytes]) -> None:
        # The shared connection's process holds the other end, and keeps it after its client was killed for as long as
        # the far side runs: the end of the file is waited for only while the client lives.
        with stderr:
            while True:
                ready, _, _ = select.select([stderr], [], [], 0.2)
                if ready:
                    chunk = os.read(stderr.fileno(), 1 << 16)
                    if not chunk:
                        return
                    self._stderr += chunk
                    if len(self._stderr) > 2 * _STDERR_BYTES:
                        del self._stderr[:-_STDERR_BYTES]
                elif self._killed.is_set():
                    return

    def kill(self) -> None:
        """End the client now, and what it started here. (The far side notices its closed pipes.)"""
        self._killed.set()
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def handshake(self, introduction: bytes = b"") -> None:
        """Say what the client reads first, and wait until the far side has started.

        What its shell printed before that is dropped.
        """
        with contextlib.suppress(BrokenPipeError):  # why it ended is read below
            self.stdin.write(introduction)
            self.stdin.flush()
        while (line := self.stdout.readline(_CHUNK_BYTES)) != self._word + b"\n":
            if not line:
                self.finish()
                raise ConnectionLost(self.stderr_text)

    def defer_line(self, line: str) -> None:
        """A line that will come, but that nobody has to wait for: it is read before the next one that is."""
        self._due.append(line)

    def line(self) -> str:
        """One line of a dialogue, without its end."""
        self.read_deferred()
        return self._read_line()

    def read_deferred(self) -> None:
        """Read the lines that were only expected so far."""
        while self._due:
            if self._read_line() != self._due.pop(0):
                raise EOFError

    def _read_line(self) -> str:
        line = self.stdout.readline(_CHUNK_BYTES)
        if not line.endswith(b"\n"):
            raise EOFError
        return line[:-1].decode("ascii", "replace")

    def records(self) -> Iterator[bytes]:
        """NUL-ended records up to an empty one."""
        rest = b""
        while chunk := self.stdout.peek(1):
            *ended, last = (rest + chunk).split(b"\0")
            if b"" in ended:
                ended = ended[: ended.index(b"") + 1]
                self.stdout.read(sum(len(record) + 1 for record in ended) - len(rest))
                yield from ended[:-1]
                return
            self.stdout.read(len(chunk))
            yield from ended
            rest = last
        raise EOFError

    def digests(self) -> list[str]:
        """Lines of hexadecimal digests up to a line with a dot."""
        found = []
        while (line := self.line()) != ".":
            found.append(line)
        return found

    def read_all(self, limit: int) -> bytes:
        """Everything that is still to come, of which more than ``limit`` bytes are not accepted."""
        parts, size = [], 0
        while chunk := self.stdout.read1(_CHUNK_BYTES):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                self.kill()
                raise Permanent(f"the cluster's answer is longer than {limit} bytes")
        return b"".join(parts)

    @property
    def stderr_text(self) -> str:
        """What came on stderr (its end, when it was much), without the frame's last word."""
        text, marker, rest = bytes(self._stderr).rpartition(b"\n" + self._word + b" ")
        return (text if marker else rest).decode("utf-8", "replace")

    def finish(self) -> int:
        """Wait for the end; the command's own exit code. Raises `ConnectionLost` when the client ended without one.

        The far side's word alone is not enough: it travels beside the answer, and may arrive though the answer's end
        was lost with the link. A client that has heard all ends with the command's code itself.
        """
        with contextlib.suppress(OSError, ValueError):
            self.stdin.close()
        while self.stdout.read(_CHUNK_BYTES):
            pass
        self._process.wait()
        self._reader.join(5)
        self._timer.cancel()
        _, marker, code = bytes(self._stderr).rpartition(b"\n" + self._word + b" ")
        if marker and code.split() and int(code.split()[0]) == self._process.returncode:
            return self._process.returncode
        if self._expired:
            raise Transient(f"no answer from the cluster within {self._timeout:g} s")
        raise ConnectionLost(self.stderr_text)

    def close(self) -> None:
        """Let go of everything, killing what is left."""
        self._timer.cancel()
        self.kill()
        with contextlib.suppress(OSError, ValueError):
            self.stdin.close()
        self._process.wait()
        self._reader.join(5)
        self.stdout.close()
