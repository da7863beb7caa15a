"""Further channels for a tree that travels over a long line.

A channel of OpenSSH has 2 MB under way at most (channels.h, CHAN_SES_WINDOW_DEFAULT), which over 100 ms there and back
is 20 MB/s, whatever the line could carry. Each further channel of the same connection brings a window of its own.
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

#: What a further channel is worth the trouble for: two of its windows.
_SHARE_BYTES = 4 << 20
#: From so many bytes on it is worth to look how long the line is.
MANY_BYTES = 2 * _SHARE_BYTES
_TICK_SECONDS = 0.2


@dataclass(frozen=True)
class ExtraChannels:
    """How to open further channels, and how many of them would pay."""

    open: Callable[[Sequence[str]], AbstractContextManager[Channel]]
    count: int = 0


def balance(items: Sequence[T], size: Callable[[T], int], most: int) -> list[list[T]]:
    """Items dealt out to at most so many, so that all have about the same to carry."""
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
    """Threads that hold a dialogue each; when one of them fails, or whoever waits for them, all are stopped."""

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
        """Let one of them run a program and talk to it."""
        self._futures.append(self._pool.submit(self._work, program, talk))

    def results(self, tick: Callable[[], None]) -> list[R]:
        """What they brought, in the order in which they were started; the failure of the first that failed.

        ``tick`` is called now and then while they are waited for, and once they are through.
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
