"""A command that runs on the cluster: its three pipes, one deadline, and its exit code.

Reads and writes block. When the deadline passes, the local ssh client is killed, which ends every read and write.
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
    """The client ended without the exit code of the remote command; ``stderr`` is the client's error output."""

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
        self._deferred: list[str] = []
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
        # The process of the shared connection holds the other end, and keeps it open after its client was killed, until
        # the remote command ends. So end of file is waited for only while the client lives.
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
        """Kill the client and its local child processes. (The remote command gets closed pipes.)"""
        self._killed.set()
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def handshake(self, preamble: bytes = b"") -> None:
        """Send what the client reads first, and wait until the command has started.

        Output of the shell's start-up files is dropped.
        """
        with contextlib.suppress(BrokenPipeError):  # the cause is read below
            self.stdin.write(preamble)
            self.stdin.flush()
        while (line := self.stdout.readline(_CHUNK_BYTES)) != self._word + b"\n":
            if not line:
                self.finish()
                raise ConnectionLost(self.stderr_text)

    def defer_line(self, line: str) -> None:
        """Expect this line, and read it only when the next line is needed: this saves waiting for it now."""
        self._deferred.append(line)

    def line(self) -> str:
        """The next line, without its line end."""
        self.read_deferred()
        return self._read_line()

    def read_deferred(self) -> None:
        """Read the lines that were deferred."""
        while self._deferred:
            if self._read_line() != self._deferred.pop(0):
                raise EOFError

    def _read_line(self) -> str:
        line = self.stdout.readline(_CHUNK_BYTES)
        if not line.endswith(b"\n"):
            raise EOFError
        return line[:-1].decode("ascii", "replace")

    def records(self) -> Iterator[bytes]:
        """Records that end with NUL, up to an empty one."""
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
        """The rest of the output; `Permanent` if it is longer than ``limit`` bytes."""
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
        """The error output (only its end, if it is long), without the line of the frame."""
        text, marker, rest = bytes(self._stderr).rpartition(b"\n" + self._word + b" ")
        return (text if marker else rest).decode("utf-8", "replace")

    def finish(self) -> int:
        """Wait for the end; returns the command's exit code. Raises `ConnectionLost` if the client ended without one.

        The exit code on stderr alone is not enough: it may arrive although the end of stdout was lost with the
        connection. A client that received everything exits with the same code itself.
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
        """Close the pipes, and kill the client if it still runs."""
        self._timer.cancel()
        self.kill()
        with contextlib.suppress(OSError, ValueError):
            self.stdin.close()
        self._process.wait()
        self._reader.join(5)
        self.stdout.close()
