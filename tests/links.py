"""A TCP relay on the loopback address that can fail, delay and throttle a connection while it is in use.

The client gets the port of the relay in place of the real one.

* `cut`: every connection is reset, and new ones are refused until `restore`;
* `hole`: no data passes, silently: connections remain open, new ones are accepted and never answered. After `restore`
  the buffered data is delivered, as after a temporary loss of the network;
* `delay` seconds in each direction, `rate` bytes per second in each direction: a slow connection;
* `cut_after`: cut after this many more bytes have passed, in either direction.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator

_PIECE = 1 << 16


class Line:
    """A line to a port of this machine."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.delay, self.rate = 0.0, 0.0
        self._changed = threading.Condition()
        self._state = "well"
        self._ends: set[socket.socket] = set()
        #: Bytes that have passed, both ways.
        self.passed = 0
        self._cut_at: int | None = None
        threading.Thread(target=self._take, name=f"line {self.port}", daemon=True).start()

    # -- faults --------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection and refuse new ones until `restore`."""
        with self._changed:
            self._state, self._cut_at = "cut", None
            ends, self._ends = self._ends, set()
            self._changed.notify_all()
        for end in ends:
            _reset(end)

    def hole(self) -> None:
        """Drop all data silently."""
        with self._changed:
            self._state = "hole"

    def cut_after(self, size: int) -> None:
        """Cut after this many more bytes."""
        with self._changed:
            self._cut_at = self.passed + size

    def restore(self) -> None:
        """End every fault, delay and limit."""
        with self._changed:
            self._state, self._cut_at, self.delay, self.rate = "well", None, 0.0, 0.0
            self._changed.notify_all()

    @property
    def is_cut(self) -> bool:
        """Whether it is cut now."""
        return self._state == "cut"

    def close(self) -> None:
        """Stop the relay."""
        self.cut()
        with self._changed:
            self._state = "gone"
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    # -- the relay -----------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        self._wait_while("hole")
        try:
            if self._state != "well":
                raise ConnectionRefusedError
            far = socket.create_connection(self._to)
        except OSError:
            _reset(near)
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._changed:
            self._ends |= {near, far}
        open_directions = threading.Barrier(2, action=lambda: self._drop(near, far))
        for pair in ((near, far), (far, near)):
            threading.Thread(target=self._forward, args=(*pair, open_directions), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, both: threading.Barrier) -> None:
        """One direction of one connection: data is buffered until the delay has passed."""
        waiting: deque[tuple[float, bytes]] = deque()
        ended = False
        try:
            while waiting or not ended:
                self._wait_while("hole")
                pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 0.2
                if not ended and len(waiting) < 256 and select.select([source], [], [], pause)[0]:
                    piece = source.recv(_PIECE)
                    ended = not piece
                    waiting.append((time.monotonic() + self.delay, piece))
                elif ended or len(waiting) >= 256:
                    time.sleep(pause)
                while waiting and waiting[0][0] <= time.monotonic():
                    self._give(target, waiting.popleft()[1])
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait()
        except (OSError, ValueError):  # reset, by us or by a side
            self._drop(source, target)
            both.abort()

    def _give(self, target: socket.socket, piece: bytes) -> None:
        self._wait_while("hole")
        if not piece:
            target.shutdown(socket.SHUT_WR)
            return
        step = max(1, int(self.rate / 20)) if self.rate else len(piece)
        for start in range(0, len(piece), step):
            part = piece[start : start + step]
            if self.rate:
                time.sleep(len(part) / self.rate)
            self._wait_while("hole")
            target.sendall(part)
            with self._changed:
                self.passed += len(part)
                over = self._cut_at is not None and self.passed >= self._cut_at
            if over:
                self.cut()

    def _wait_while(self, state: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._state != state)

    def _drop(self, *ends: socket.socket) -> None:
        with self._changed:
            self._ends -= set(ends)
        for end in ends:
            _reset(end)


@contextlib.contextmanager
def walled(port: int) -> Iterator[None]:
    """Drop every packet to and from a port of this machine, including acknowledgements.

    Unlike a relay, this also stops the answers of the kernel. Needs root and iptables.
    """
    rules = [["INPUT", "-i", "lo", "-p", "tcp", end, str(port), "-j", "DROP"] for end in ("--dport", "--sport")]
    with contextlib.ExitStack() as undone:
        for rule in rules:
            subprocess.run(["iptables", "-w", "10", "-I", *rule], check=True, capture_output=True)
            undone.callback(subprocess.run, ["iptables", "-w", "10", "-D", *rule], check=True, capture_output=True)
        yield


def _reset(end: socket.socket) -> None:
    """Reset a connection without flushing, as a router does that has lost its state."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        end.close()
