"""A TCP relay that delays and counts the bytes in each direction: simulates a connection with high latency.

The relay reads immediately and writes after the delay, with an unlimited buffer. So only the window of the protocol
limits a transfer, as on a connection with high bandwidth and high latency.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

_PIECE = 1 << 18


@dataclass
class RelayCounts:
    """The port of a relay and its counts, which are filled in when it has ended."""

    port: int
    connections: int = 0
    sent: int = 0
    received: int = 0


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, count: Callable[[int], None]
) -> None:
    clock = asyncio.get_running_loop().time
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, piece = await waiting.get()
            if (left := due - clock()) > 0:
                await asyncio.sleep(left)
            if not piece:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            writer.write(piece)
            await writer.drain()

    delivering = asyncio.create_task(deliver())
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            count(len(piece))
            waiting.put_nowait((clock() + delay, piece))
    waiting.put_nowait((clock() + delay, b""))
    with contextlib.suppress(OSError):
        await delivering


async def _serve(port: int, seconds: float) -> None:
    passed = RelayCounts(0)

    def sent(count: int) -> None:
        passed.sent += count

    def received(count: int) -> None:
        passed.received += count

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(
            _pass_on(reader, far_writer, seconds, sent), _pass_on(far_reader, writer, seconds, received)
        )
        for one in (writer, far_writer):
            one.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    passed.port = server.sockets[0].getsockname()[1]
    print(passed.port, flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    print(json.dumps(asdict(passed)), flush=True)
    os._exit(0)  # without waiting for buffered data


@contextmanager
def delayed(port: int, seconds: float) -> Iterator[RelayCounts]:
    """Start a relay to a port of the loopback address, with a delay in each direction, in a separate process."""
    command = [sys.executable, __file__, str(port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        passed = RelayCounts(int(process.stdout.readline()))
        try:
            yield passed
        finally:
            process.terminate()
            vars(passed).update(json.loads(process.stdout.readline() or "{}"))
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
