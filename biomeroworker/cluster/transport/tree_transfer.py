"""The worker's side of a tree transfer: upload and download, each a dialogue in one remote command.

Both sides first list what they have, published or staged by an interrupted transfer. Files that both have are compared
by digest, and so is the first part of a file that was interrupted: only the rest of it is sent. Bytes are hashed on
both sides while they are sent. The tree is published only when all digests agree. The cluster's side is
`remote.tree_agent`.
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
#: Below this round-trip time one channel uses the whole bandwidth.
_SHORT_ROUND_TRIP_SECONDS = 0.02
T = TypeVar("T")


class DigestQuery:
    """Queries digests of files on the cluster, and measures the round-trip time."""

    def __init__(self, channel: Channel, measured: bool) -> None:
        self.channel = channel
        self._measured = measured
        self._round_trip = float("inf")

    @property
    def is_short(self) -> bool:
        """Whether the round-trip time was measured and is short."""
        return self._round_trip < _SHORT_ROUND_TRIP_SECONDS

    def query(self, items: list[T], question: bytes) -> Iterator[tuple[T, str]]:
        """Each item with its digest.

        Without items there is no wait for the answer, unless to measure the round-trip time.
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
            self._round_trip = min(self._round_trip, time.monotonic() - began)
        return zip(items, found, strict=True)


#: A file to send, the offset to send it from, and the hash of the bytes before the offset.
_Part = tuple[local_tree.Entry, int, Any]


class TreeUpload:
    """Sends a local tree; `remote_scripts.receive_command` receives it.

    Parameters
    ----------
    share
        The remote command that receives a share of the files on an additional channel.
    """

    def __init__(self, local: Path, progress: Progress | None, share: list[str]) -> None:
        self._share = share
        self.files, self._folders = local_tree.scan(local)
        self._counter = ByteCounter(sum(entry.size for entry in self.files), progress)
        self._digests: dict[bytes, str] = {}
        self._partial: dict[bytes, tuple[int, Any]] = {}

    def transfer(self, channel: Channel, extra: ExtraChannels) -> TransferResult:
        """Send the tree. EOFError or BrokenPipeError if the remote command ends early."""
        query = DigestQuery(channel, extra.count > 0 and self._counter.total >= MANY_BYTES)
        # While stale files are being removed on the cluster, no other channel may write there.
        if self._compare(query) or query.is_short:
            extra = replace(extra, count=0)
        missing = [entry for entry in self.files if entry.name not in self._digests]
        resumed = [(entry, *self._partial[entry.name]) for entry in missing if entry.name in self._partial]
        whole = [entry for entry in missing if entry.name not in self._partial]
        self._counter.expect(sum(e.size for e in whole) + sum(e.size - offset for e, offset, _ in resumed))
        channel.stdin.write(remote_scripts.names(self._folders))
        try:
            self._send(channel, extra, resumed, whole)
        except tree_agent.Changed as changed:
            raise Transient(f"{os.fsdecode(changed.args[0])} changed while it was being sent") from None
        if channel.line() != "done":
            raise EOFError
        self._counter.end()
        digests = {os.fsdecode(name): digest for name, digest in self._digests.items()}
        return TransferResult(len(self.files), self._counter.total, self._counter.moved, digests)

    def _compare(self, query: DigestQuery) -> set[bytes]:
        """Find out what the cluster has, published or staged. Returns the stale staged files, which are removed."""
        by_name = {entry.name: entry for entry in self.files}
        channel = query.channel
        published, staged = (_sizes(channel.records()) for _ in ("published", "staged"))
        same_size = [name for name, size in published.items() if name in by_name and by_name[name].size == size]
        for name, digest in query.query(same_size, remote_scripts.names(same_size)):
            if tree_agent.hash_file(by_name[name].source, by_name[name].size).hexdigest() == digest:
                self._digests[name] = digest
        stale = set(staged)
        missing = {entry.name: entry.size for entry in self.files if entry.name not in self._digests}
        usable = [n for n, size in staged.items() if n in missing and (0 < size <= missing[n] or size == missing[n])]
        for name, digest in query.query(usable, remote_scripts.names(usable)):
            hashed = tree_agent.hash_file(by_name[name].source, staged[name])
            if hashed.hexdigest() != digest:
                continue
            stale.remove(name)
            if staged[name] == by_name[name].size:
                self._digests[name] = digest
            else:
                self._partial[name] = staged[name], hashed
        channel.stdin.write(remote_scripts.names(sorted(stale)))
        return stale

    def _send(
        self, channel: Channel, extra: ExtraChannels, resumed: list[_Part], whole: list[local_tree.Entry]
    ) -> None:
        """Send a list of the files, then all bytes, then, once all other channels have finished, all digests."""
        own, *others = balance(whole, lambda entry: entry.size, 1 + extra.count)
        with StreamPool[None](extra) as pool:
            for share in others:
                pool.start(self._share, partial(self._send_share, share))
            digests = self._send_parts(channel, [*resumed, *((entry, 0, None) for entry in own)])
            pool.results(partial(self._counter, 0))
            channel.stdin.write(digests)
            channel.stdin.close()

    def _send_share(self, share: list[local_tree.Entry], channel: Channel) -> None:
        channel.stdin.write(self._send_parts(channel, [(entry, 0, None) for entry in share]))
        channel.stdin.close()
        if channel.line() != "done":
            raise EOFError
        channel.finish()

    def _send_parts(self, channel: Channel, parts: list[_Part]) -> bytes:
        """Send the list and the bytes; returns the digests as the cluster reads them."""
        records = [b"%o %d %d %s" % (entry.mode, offset, entry.size, entry.name) for entry, offset, _ in parts]
        channel.stdin.write(remote_scripts.names(records))
        wanted = [(entry.source, offset, entry.size) for entry, offset, _ in parts]
        hashes = {entry.source: hashed for entry, offset, hashed in parts if offset}
        digests = tree_agent.send(channel.stdin, wanted, self._counter, hashes)
        self._digests.update((entry.name, digest) for (entry, *_), digest in zip(parts, digests, strict=True))
        return "".join(f"{digest}\n" for digest in digests).encode() + b".\n"


class TreeDownload:
    """Fetches a tree of the cluster; `remote_scripts.send_command` sends it.

    Only regular files are fetched. Links on the cluster are neither followed nor copied: they may lead anywhere.

    Parameters
    ----------
    share
        The remote command that sends a share of the files on an additional channel.
    """

    def __init__(self, local: Path, progress: Progress | None, share: list[str]) -> None:
        self._share = share
        self._local = local
        self._stage = local.with_name(f".{local.name}.part")
        self._progress = progress

    def transfer(self, channel: Channel, extra: ExtraChannels) -> TransferResult:
        """Fetch the tree into a staging folder; `publish` puts it in place. EOFError as in `TreeUpload.transfer`."""
        self._sizes, self._folders = _parse_listing(channel.records())
        counter = ByteCounter(sum(self._sizes.values()), self._progress)
        local_tree.remove_unlisted(self._stage, self._sizes)
        query = DigestQuery(channel, extra.count > 0 and counter.total >= MANY_BYTES)
        digests = self._complete_files(query)
        resumed = self._partial_files(query)
        if query.is_short:
            extra = replace(extra, count=0)
        whole = [name for name in self._sizes if name not in digests and name not in resumed]
        counter.expect(
            sum(self._sizes[n] for n in whole) + sum(self._sizes[n] - offset for n, (offset, _) in resumed.items())
        )
        self._stage.mkdir(parents=True, exist_ok=True)
        own, *others = balance(whole, lambda name: self._sizes[name], 1 + extra.count)
        with StreamPool[dict[bytes, str]](extra) as pool:
            for share in others:
                pool.start(self._share, partial(self._fetch_share, share, counter))
            pairs = _pairs([(offset, name) for name, (offset, _) in resumed.items()])
            digests |= self._receive(channel, pairs + remote_scripts.names(own), resumed, own, counter)
            for more in pool.results(partial(counter, 0)):
                digests |= more
        counter.end()
        return TransferResult(
            len(self._sizes), counter.total, counter.moved, {os.fsdecode(n): digest for n, digest in digests.items()}
        )

    def _fetch_share(self, share: list[bytes], counter: ByteCounter, channel: Channel) -> dict[bytes, str]:
        request = remote_scripts.names([b"%d %s" % (self._sizes[name], name) for name in share])
        digests = self._receive(channel, request, {}, share, counter)
        channel.finish()
        return digests

    def _receive(
        self,
        channel: Channel,
        request: bytes,
        resumed: dict[bytes, tuple[int, Any]],
        whole: list[bytes],
        counter: ByteCounter,
    ) -> dict[bytes, str]:
        """Request files and write their bytes; returns the digests, which are equal on both sides."""
        channel.stdin.write(request)
        channel.stdin.close()
        channel.read_deferred()
        wanted = [(name, offset, self._sizes[name], _MODE) for name, (offset, _) in resumed.items()]
        wanted += [(name, 0, self._sizes[name], _MODE) for name in whole]
        hashes = {name: hashed for name, (_, hashed) in resumed.items()}
        received = tree_agent.receive(channel.stdout, wanted, os.fsencode(self._stage), counter, hashes)
        if channel.digests() != received:
            raise Transient("a file changed while it was being fetched")
        return dict(zip((name for name, *_ in wanted), received, strict=True))

    def publish(self) -> None:
        """Move the staged tree into place."""
        for folder in self._folders:
            (self._stage / os.fsdecode(folder)).mkdir(parents=True, exist_ok=True)
        tree_agent.publish(os.fsencode(self._stage), os.fsencode(self._local))

    def _complete_files(self, query: DigestQuery) -> dict[bytes, str]:
        """The digests of local files, published or staged, that are the same on the cluster."""
        files = [
            (root + b"/" + name, name)
            for root in (os.fsencode(self._local), os.fsencode(self._stage))
            for name, size in self._sizes.items()
            if tree_agent.regular_size(root + b"/" + name) == size
        ]
        answers = query.query(files, remote_scripts.names([name for _, name in files]))
        return {
            name: digest
            for (path, name), digest in answers
            if tree_agent.hash_file(path, self._sizes[name]).hexdigest() == digest
        }

    def _partial_files(self, query: DigestQuery) -> dict[bytes, tuple[int, Any]]:
        """Size and hash of staged files that are the first part of the file on the cluster."""
        stage = os.fsencode(self._stage) + b"/"
        sizes = {name: tree_agent.regular_size(stage + name) for name in self._sizes}
        sizes = {name: size for name, size in sizes.items() if 0 < size < self._sizes[name]}
        hashes = {name: tree_agent.hash_file(stage + name, size) for name, size in sizes.items()}
        answers = query.query(list(sizes), _pairs([(size, name) for name, size in sizes.items()]))
        return {name: (sizes[name], hashes[name]) for name, digest in answers if hashes[name].hexdigest() == digest}


class ByteCounter:
    """Counts bytes from all threads; reports progress in the thread that made it, every `_PROGRESS_EVERY_BYTES`."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.moved = 0
        self.total = total
        self._skipped = 0
        self._reported = 0
        self._progress = progress
        self._owner = threading.get_ident()
        self._lock = threading.Lock()

    def expect(self, size: int) -> None:
        """Set how many bytes are to be sent; the rest is in place already."""
        self._skipped = self.total - size

    def __call__(self, size: int) -> None:
        with self._lock:
            self.moved += size
        is_due = self.moved - self._reported >= _PROGRESS_EVERY_BYTES
        if self._progress and is_due and self._owner == threading.get_ident():
            self._reported = self.moved
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
    """The files of the tree on the cluster with their sizes, and its folders."""
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
            _log.info("not fetched, because it is not a regular file: %r", name)
    return files, folders
