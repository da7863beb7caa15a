"""Additional channels for a tree transfer over a connection with a long round-trip time.

The window of an OpenSSH channel is 2 MB (channels.h, CHAN_SES_WINDOW_DEFAULT). With a round-trip time of 100 ms it
limits a channel to 20 MB/s, whatever the bandwidth. Each additional channel of the same connection has its own window.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from biomeroworker.cluster.transport.channel import Channel

T = TypeVar("T")
R = TypeVar("R")

#: An additional channel pays off from this size on: two windows.
_SHARE_BYTES = 4 << 20
#: From this size on it pays off to measure the round-trip time.
MANY_BYTES = 2 * _SHARE_BYTES
_TICK_SECONDS = 0.2


@dataclass(frozen=True)
class ExtraChannels:
    """How to open additional channels, and how many may be opened."""

    open: Callable[[Sequence[str]], AbstractContextManager[Channel]]
    count: int = 0


def balance(items: Sequence[T], size: Callable[[T], int], most: int) -> list[list[T]]:
    """Distribute items into at most ``most`` lists of about the same total size."""
    total = sum(map(size, items))
    number = max(1, min(most, total // _SHARE_BYTES, len(items)))
    dealt: list[list[T]] = [[] for _ in range(number)]
    loads = [0] * number
    for item in sorted(items, key=size, reverse=True):
        lightest = loads.index(min(loads))
        dealt[lightest].append(item)
        loads[lightest] += size(item)
    return dealt


class StreamPool(Generic[R]):
    """Threads that each use one additional channel; if one of them or the caller fails, all are stopped."""

    def __init__(self, beside: ExtraChannels) -> None:
        self._beside = beside
        self._pool = ThreadPoolExecutor(max(1, beside.count), thread_name_prefix="stream")
        self._futures: list[Future[R]] = []
        self._channels: list[Channel] = []
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self) -> StreamPool[R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def start(self, program: Sequence[str], talk: Callable[[Channel], R]) -> None:
        """Run a remote program in a thread of its own, and ``talk`` to it."""
        self._futures.append(self._pool.submit(self._work, program, talk))

    def results(self, tick: Callable[[], None]) -> list[R]:
        """Wait for all; their results in the order of their start. Raises the exception of the first that failed.

        ``tick`` is called every 0.2 s during the wait, and once at its end.
        """
        while wait(self._futures, _TICK_SECONDS, FIRST_EXCEPTION).not_done:
            for future in self._futures:
                if future.done():
                    future.result()
            tick()
        tick()
        return [future.result() for future in self._futures]

    def _work(self, program: Sequence[str], talk: Callable[[Channel], R]) -> R:
        with self._beside.open(program) as channel:
            with self._lock:
                self._channels.append(channel)
                if self._stopped:
                    channel.kill()
            return talk(channel)

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for channel in self._channels:
                channel.kill()
