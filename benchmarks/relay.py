"""A relay that delays and counts what passes, each way: a long line on one machine, of any width.

What a side sends is taken at once and given to the other side when its time has come, so that as much as the sender
wants may be on its way: what limits a transfer is the windows of its own protocol, as on a long fat line.
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
class Passed:
    """What has passed a relay: filled in when it has ended."""

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
    passed = Passed(0)

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
    os._exit(0)  # whatever is still on its way


@contextmanager
def delayed(port: int, seconds: float) -> Iterator[Passed]:
    """A port of the loopback address that leads to another, so long each way; in a process of its own."""
    command = [sys.executable, __file__, str(port), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        passed = Passed(int(process.stdout.readline()))
        try:
            yield passed
        finally:
            process.terminate()
            vars(passed).update(json.loads(process.stdout.readline() or "{}"))
            process.kill()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
