"""The two dialogues that move a tree, each in one execution: our side of them.

The far side says what it has. What both sides hold is compared by digest, also the beginning of a file that a cut left
half: it travels from there on. Bytes are hashed on both sides while they travel; what arrived is published when all
digests agree, and only then.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from biomeroworker.cluster.transport import local_tree, remote_scripts
from biomeroworker.cluster.transport.channel import Channel
from biomeroworker.cluster.transport.parallel_streams import MANY_BYTES, ExtraChannels, StreamPool, balance
from biomeroworker.cluster.transport.transport import Progress, TransferResult
from biomeroworker.errors import Transient
from biomeroworker.remote import tree_agent

_log = logging.getLogger(__name__)
_PROGRESS_EVERY_BYTES = 4 << 20
_MODE = 0o666
#: There and back on a line that one channel fills by itself, in seconds.
_AT_ONCE_SECONDS = 0.02
T = TypeVar("T")


class DigestQuery:
    """Questions about files there, and how long the way to the answers is."""

    def __init__(self, channel: Channel, measured: bool) -> None:
        self.channel = channel
        self._measured = measured
        self._there_and_back = float("inf")

    @property
    def is_short(self) -> bool:
        """Whether an answer that needs no work was seen to come at once."""
        return self._there_and_back < _AT_ONCE_SECONDS

    def query(self, items: list[T], question: bytes) -> Iterator[tuple[T, str]]:
        """Ask for digests; each with the item that it is for.

        Who asks for none waits for no answer, unless to see how long it takes.
        """
        self.channel.stdin.write(question)
        if not items and not self._measured:
            self.channel.defer_line(".")
            return iter(())
        self.channel.stdin.flush()
        began = time.monotonic()
        found = self.channel.digests()
        if len(found) != len(items):
            raise EOFError
        if not items:
            self._there_and_back = min(self._there_and_back, time.monotonic() - began)
        return zip(items, found, strict=True)


class TreeUpload:
    """A local tree on its way to the cluster: the far side is `remote_scripts.receive_command`."""

    def __init__(self, local: Path, progress: Progress | None, share: list[str]) -> None:
        self._share = share
        self.files, self._folders = local_tree.scan(local)
        self._meter = ByteCounter(sum(entry.size for entry in self.files), progress)
        self._digests: dict[bytes, str] = {}
        self._begun: dict[bytes, tuple[int, Any]] = {}

    def transfer(self, channel: Channel, beside: ExtraChannels) -> TransferResult:
        """Hold the dialogue. EOFError or BrokenPipeError when the far side ends it early."""
        line = DigestQuery(channel, beside.count > 0 and self._meter.total >= MANY_BYTES)
        # (While what was stale is being dropped there, nobody else may write.)
        if self._compare(line) or line.is_short:
            beside = replace(beside, count=0)
        whole = [entry for entry in self.files if entry.name not in self._digests and entry.name not in self._begun]
        halves = [(entry, *self._begun[entry.name]) for entry in self.files if entry.name in self._begun]
        self._meter.skip(sum(e.size for e in whole) + sum(e.size - offset for e, offset, _ in halves))
        channel.stdin.write(remote_scripts.names(self._folders))
        try:
            self._send_bytes(channel, beside, halves, whole)
        except tree_agent.Changed as changed:
            raise Transient(f"{os.fsdecode(changed.args[0])} changed while it was being sent") from None
        if channel.line() != "done":
            raise EOFError
        self._meter.end()
        digests = {os.fsdecode(name): digest for name, digest in self._digests.items()}
        return TransferResult(len(self.files), self._meter.total, self._meter.moved, digests)

    def _compare(self, line: DigestQuery) -> set[bytes]:
        """Learn what the far side holds, published or staged; have stale parts dropped there, which are returned."""
        by_name = {entry.name: entry for entry in self.files}
        channel = line.channel
        published, staged = (_sizes(channel.records()) for _ in ("published", "staged"))
        alike = [name for name, size in published.items() if name in by_name and by_name[name].size == size]
        for name, there in line.query(alike, remote_scripts.names(alike)):
            if tree_agent.hash_file(by_name[name].source, by_name[name].size).hexdigest() == there:
                self._digests[name] = there
        stale = set(staged)
        lacking = {entry.name: entry.size for entry in self.files if entry.name not in self._digests}
        parts = [n for n, size in staged.items() if n in lacking and (0 < size <= lacking[n] or size == lacking[n])]
        for name, there in line.query(parts, remote_scripts.names(parts)):
            hashed = tree_agent.hash_file(by_name[name].source, staged[name])
            if hashed.hexdigest() != there:
                continue
            stale.remove(name)
            if staged[name] == by_name[name].size:
                self._digests[name] = there
            else:
                self._begun[name] = staged[name], hashed
        channel.stdin.write(remote_scripts.names(sorted(stale)))
        return stale

    def _send_bytes(
        self,
        channel: Channel,
        beside: ExtraChannels,
        halves: list[tuple[local_tree.Entry, int, Any]],
        whole: list[local_tree.Entry],
    ) -> None:
        """One list of what comes, then all bytes, then all digests: which are held back until all shares are there."""
        mine, *others = balance(whole, lambda entry: entry.size, 1 + beside.count)
        with StreamPool[None](beside) as crew:
            for share in others:
                crew.start(self._share, partial(self._send_share, share))
            digests = self._listed(channel, [(e, offset, h) for e, offset, h in halves] + [(e, 0, None) for e in mine])
            crew.results(partial(self._meter, 0))
            channel.stdin.write(digests)
            channel.stdin.close()

    def _send_share(self, share: list[local_tree.Entry], channel: Channel) -> None:
        channel.stdin.write(self._listed(channel, [(entry, 0, None) for entry in share]))
        channel.stdin.close()
        if channel.line() != "done":
            raise EOFError
        channel.finish()

    def _listed(self, channel: Channel, coming: list[tuple[local_tree.Entry, int, Any]]) -> bytes:
        """Send the list and the bytes; what is to be said of their digests."""
        records = [b"%o %d %d %s" % (entry.mode, offset, entry.size, entry.name) for entry, offset, _ in coming]
        channel.stdin.write(remote_scripts.names(records))
        wanted = [(entry.source, offset, entry.size) for entry, offset, _ in coming]
        begun = {entry.source: hashed for entry, offset, hashed in coming if offset}
        digests = tree_agent.send(channel.stdin, wanted, self._meter, begun)
        self._digests.update((entry.name, one) for (entry, *_), one in zip(coming, digests, strict=True))
        return "".join(f"{one}\n" for one in digests).encode() + b".\n"


class TreeDownload:
    """A tree of the cluster on its way here: the far side is `remote_scripts.send_command`.

    Only regular files travel. A link on the far side is neither followed nor made here: what it leads to may be
    anything, and a result is a file.
    """

    def __init__(self, local: Path, progress: Progress | None, share: list[str]) -> None:
        self._share = share
        self._local = local
        self._stage = local.with_name(f".{local.name}.part")
        self._progress = progress

    def transfer(self, channel: Channel, beside: ExtraChannels) -> TransferResult:
        """Hold the dialogue; the tree is staged at its end, and `publish` puts it in place."""
        self._offer, self._folders = _parse_listing(channel.records())
        meter = ByteCounter(sum(self._offer.values()), self._progress)
        local_tree.remove_unlisted(self._stage, self._offer)
        line = DigestQuery(channel, beside.count > 0 and meter.total >= MANY_BYTES)
        digests = self._kept(line)
        halves = self._partial_files(line)
        if line.is_short:
            beside = replace(beside, count=0)
        whole = [name for name in self._offer if name not in digests and name not in halves]
        meter.skip(
            sum(self._offer[n] for n in whole) + sum(self._offer[n] - offset for n, (offset, _) in halves.items())
        )
        self._stage.mkdir(parents=True, exist_ok=True)
        mine, *others = balance(whole, lambda name: self._offer[name], 1 + beside.count)
        with StreamPool[dict[bytes, str]](beside) as crew:
            for share in others:
                crew.start(self._share, partial(self._fetch_share, share, meter))
            pairs = _pairs([(offset, name) for name, (offset, _) in halves.items()])
            digests |= self._arrived(channel, pairs + remote_scripts.names(mine), halves, mine, meter)
            for more in crew.results(partial(meter, 0)):
                digests |= more
        meter.end()
        return TransferResult(
            len(self._offer), meter.total, meter.moved, {os.fsdecode(n): one for n, one in digests.items()}
        )

    def _fetch_share(self, share: list[bytes], meter: ByteCounter, channel: Channel) -> dict[bytes, str]:
        question = remote_scripts.names([b"%d %s" % (self._offer[name], name) for name in share])
        digests = self._arrived(channel, question, {}, share, meter)
        channel.finish()
        return digests

    def _arrived(
        self,
        channel: Channel,
        question: bytes,
        halves: dict[bytes, tuple[int, Any]],
        whole: list[bytes],
        meter: ByteCounter,
    ) -> dict[bytes, str]:
        """Ask for files and write what comes; their digests, on which both sides agree."""
        channel.stdin.write(question)
        channel.stdin.close()
        channel.read_deferred()
        wanted = [(name, offset, self._offer[name], _MODE) for name, (offset, _) in halves.items()]
        wanted += [(name, 0, self._offer[name], _MODE) for name in whole]
        begun = {name: hashed for name, (_, hashed) in halves.items()}
        arrived = tree_agent.receive(channel.stdout, wanted, os.fsencode(self._stage), meter, begun)
        if channel.digests() != arrived:
            raise Transient("a file changed while it was being fetched")
        return dict(zip((name for name, *_ in wanted), arrived, strict=True))

    def publish(self) -> None:
        """Put what was staged in place."""
        for folder in self._folders:
            (self._stage / os.fsdecode(folder)).mkdir(parents=True, exist_ok=True)
        tree_agent.publish(os.fsencode(self._stage), os.fsencode(self._local))

    def _kept(self, line: DigestQuery) -> dict[bytes, str]:
        """The digests of files that are here already, in place or staged, and are the same there."""
        places = [
            (root + b"/" + name, name)
            for root in (os.fsencode(self._local), os.fsencode(self._stage))
            for name, size in self._offer.items()
            if tree_agent.regular_size(root + b"/" + name) == size
        ]
        asked = line.query(places, remote_scripts.names([name for _, name in places]))
        return {
            n: there for (path, n), there in asked if tree_agent.hash_file(path, self._offer[n]).hexdigest() == there
        }

    def _partial_files(self, line: DigestQuery) -> dict[bytes, tuple[int, Any]]:
        """How much of which files is staged, and is what their beginning is there; with its hash."""
        stage = os.fsencode(self._stage) + b"/"
        sizes = {name: tree_agent.regular_size(stage + name) for name in self._offer}
        sizes = {name: size for name, size in sizes.items() if 0 < size < self._offer[name]}
        hashes = {name: tree_agent.hash_file(stage + name, size) for name, size in sizes.items()}
        asked = line.query(list(sizes), _pairs([(size, name) for name, size in sizes.items()]))
        return {name: (sizes[name], hashes[name]) for name, there in asked if hashes[name].hexdigest() == there}


class ByteCounter:
    """Counts bytes, whoever moves them, and tells of them, not too often and only in the thread that it was made in."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.moved = 0
        self.total = total
        self._skipped = 0
        self._told = 0
        self._progress = progress
        self._owner = threading.get_ident()
        self._lock = threading.Lock()

    def skip(self, travelling: int) -> None:
        """Only so much of it has to travel."""
        self._skipped = self.total - travelling

    def __call__(self, size: int) -> None:
        with self._lock:
            self.moved += size
        if self._progress and self._owner == threading.get_ident() and self.moved - self._told >= _PROGRESS_EVERY_BYTES:
            self._told = self.moved
            self._progress(self._skipped + self.moved, self.total)

    def end(self) -> None:
        if self._progress:
            self._progress(self.total, self.total)


def _pairs(items: list[tuple[int, bytes]]) -> bytes:
    return remote_scripts.names([word for size, name in items for word in (b"%d" % size, name)])


def _sizes(records: Iterator[bytes]) -> dict[bytes, int]:
    pairs = (record.partition(b" ") for record in records)
    return {name: int(size) for size, _, name in pairs}


def _parse_listing(records: Iterator[bytes]) -> tuple[dict[bytes, int], list[bytes]]:
    """The files that the far side offers with their sizes, and its folders."""
    files: dict[bytes, int] = {}
    folders: list[bytes] = []
    for record in records:
        kind, size, name = record.split(b" ", 2)
        local_tree.contained(name)
        if kind == b"f":
            files[name] = int(size)
        elif kind == b"d":
            folders.append(name)
        else:
            _log.info("not fetched, as it is no regular file: %r", name)
    return files, folders
