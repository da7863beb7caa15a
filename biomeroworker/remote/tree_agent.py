"""Send and receive files as one stream of bytes: the code that both ends of a tree transfer share.

The worker imports this module; on the cluster, the front-end's python3 runs its text. So it needs only the standard
library of Python 3.6, imports nothing that is slow to load, and its annotations are strings.

File contents are read once and hashed block by block between reading and writing. (Hashing in a separate thread was
measured to be slower.) File names are bytes everywhere.
"""

# Names are bytes, for which pathlib has no use; and the oldest Python on a cluster is older than the newest idiom.
# ruff: noqa: PTH102, PTH103, PTH104, PTH105, PTH106, PTH108, PTH112, PTH114, PTH120, PTH123, B905, UP031

import contextlib
import errno
import hashlib
import io
import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableMapping
    from typing import IO, Any

#: Blocks are small enough to be still in the processor's cache when they are hashed and written.
_CHUNK_BYTES = 1 << 18
#: A stream's own buffer costs one more copy: only short writes use it.
STREAM_BUFFER_BYTES = 1 << 16
_SHORT_BYTES = 1 << 14
_LONGEST_LINE_BYTES = 1 << 10

NOT_THERE, MISMATCH, IN_THE_WAY = 66, 65, 73


class Changed(Exception):
    """The size of a file has changed."""


def hash_file(path: bytes, size: int) -> "Any":
    """The hash object (SHA-256) of a file's first ``size`` bytes, or of the whole file if it is shorter."""
    hashed = hashlib.sha256()
    with open(path, "rb", 0) as file:
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        while size:
            read = file.readinto(buffer[: min(size, _CHUNK_BYTES)])
            if not read:
                break
            hashed.update(buffer[:read])
            size -= read
    return hashed


def send(
    out: "IO[bytes]",
    wanted: "Iterable[tuple[bytes, int, int]]",
    moved: "Callable[[int], None]",
    hashes: "MutableMapping[bytes, Any]",
) -> "list[str]":
    """Write files (path, offset, size) from their offset, one after the other; returns the digests of the whole files.

    ``hashes`` has the hash of the bytes before an offset, by path. ``moved`` is called with the size of each block.
    """
    digests = []
    room = memoryview(bytearray(_CHUNK_BYTES))
    for path, offset, size in wanted:
        hashed = hashes.pop(path) if offset else hashlib.sha256()
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if os.fstat(file).st_size != size:
                raise Changed(path)
            if offset:
                os.lseek(file, offset, os.SEEK_SET)
            left = size - offset
            while left:
                read = os.readv(file, [room[:left]])
                if not read:
                    raise Changed(path)
                part = room[:read]
                hashed.update(part)
                _write(out, part)
                left -= read
                moved(read)
        finally:
            os.close(file)
        digests.append(hashed.hexdigest())
    return digests


def _write(out: "IO[bytes]", part: memoryview) -> None:
    if len(part) < _SHORT_BYTES:
        out.write(part)
        return
    out.flush()
    _write_all(out.fileno(), part)


def _write_all(file: int, part: memoryview) -> None:
    while part:
        part = part[os.write(file, part) :]


def receive(
    stream: "IO[bytes]",
    wanted: "Iterable[tuple[bytes, int, int, int]]",
    root: bytes,
    moved: "Callable[[int], None]",
    hashes: "MutableMapping[bytes, Any]",
) -> "list[str]":
    """Read the bytes of files (name, offset, size, mode) into ``root``; returns the digests of the whole files.

    The bytes before an offset are in place, and ``hashes`` has their hash, by name. EOFError if the stream ends early:
    the bytes received until then are in the files.
    """
    digests = []
    made = set()
    room = memoryview(bytearray(_CHUNK_BYTES))
    for name, offset, size, mode in wanted:
        hashed = hashes.pop(name) if offset else hashlib.sha256()
        folder = name.rpartition(b"/")[0]
        if folder not in made:
            os.makedirs(root + b"/" + folder, exist_ok=True)
            made.add(folder)
        file = _open(root + b"/" + name, offset, mode)
        try:
            left = size - offset
            # a small file in one read, a large one as its bytes arrive
            read_into = stream.readinto if left <= STREAM_BUFFER_BYTES else stream.readinto1  # type: ignore[attr-defined]
            while left:
                read = read_into(room[:left])
                if not read:
                    raise EOFError
                part = room[:read]
                hashed.update(part)
                _write_all(file, part)
                left -= read
                moved(read)
        finally:
            os.close(file)
        digests.append(hashed.hexdigest())
    return digests


def _open(path: bytes, offset: int, mode: int) -> int:
    """Open a file to write from an offset; at offset 0 it is a new file, which replaces what has its name."""
    if offset:
        file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        os.lseek(file, offset, os.SEEK_SET)
        return file
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        remove(path)
        return os.open(path, flags, mode)


def remove(path: bytes) -> None:
    """Remove a file, a link or a tree."""
    if os.path.isdir(path) and not os.path.islink(path):
        _remove_tree(path)
    else:
        os.unlink(path)


def publish(staged: bytes, target: bytes) -> None:
    """Move a staged tree into place: by one rename if nothing is there, else file by file. Links are replaced."""
    if not os.path.lexists(target):
        os.rename(staged, target)
        return
    for folder, subfolders, files in os.walk(staged):
        place = target + folder[len(staged) :]
        for name in subfolders:
            below = place + b"/" + name
            if os.path.islink(below):
                os.unlink(below)
            with contextlib.suppress(FileExistsError):
                os.mkdir(below)
        for name in files:
            os.replace(folder + b"/" + name, place + b"/" + name)
    _remove_tree(staged)


def _remove_tree(path: bytes) -> None:
    import shutil  # half of the start-up time of this program, and rarely needed

    shutil.rmtree(path)


def regular_size(path: bytes) -> int:
    """The size of a regular file; -1 if there is none."""
    try:
        about = os.lstat(path)
    except OSError:
        return -1
    return about.st_size if stat.S_ISREG(about.st_mode) else -1


# -- the program on the cluster; the worker's side is `tree_transfer` --------------------------------------------------


def _walk(root: bytes) -> "Iterator[tuple[bytes, int, bytes]]":
    """Kind (``d``, ``f`` or ``l``), size and name of everything below a folder; links are not followed."""
    waiting = [(root, b"")]
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as items:
            for item in items:
                name = prefix + item.name
                if item.is_dir(follow_symlinks=False):
                    waiting.append((item.path, name + b"/"))
                    yield b"d", 0, name
                elif item.is_file(follow_symlinks=False):
                    yield b"f", item.stat(follow_symlinks=False).st_size, name
                else:
                    yield b"l", 0, name


class _Dialogue:
    """Standard input and output, read and written in lines and lists of names."""

    def __init__(self) -> None:
        self.input = io.BufferedReader(io.FileIO(0), STREAM_BUFFER_BYTES)
        self.output = io.BufferedWriter(io.FileIO(1, "w"), STREAM_BUFFER_BYTES)

    def write(self, content: bytes) -> None:
        self.output.write(content)
        self.output.flush()

    def read_line(self) -> bytes:
        line = self.input.readline(_LONGEST_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise EOFError
        return line[:-1]

    def names(self) -> "list[bytes]":
        size = int(self.read_line())
        words = self.input.read(size)
        if len(words) != size:
            raise EOFError
        return words.split(b"\0")[:-1]

    def write_digests(self, digests: "Iterable[str]") -> None:
        self.write("".join(one + "\n" for one in digests).encode() + b".\n")


def receive_tree(dialogue: _Dialogue, target: bytes, stage: bytes) -> int:
    """Receive a tree: see `tree_transfer.TreeUpload`."""
    data = stage + b"/data"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    for folder in (target, data):
        if os.path.isdir(folder):
            for kind, size, name in _walk(folder):
                if kind == b"f":
                    dialogue.output.write(b"%d %s\0" % (size, name))
        dialogue.write(b"\0")
    hashes = {}
    for folder in (target, data):
        hashes = {name: hash_file(folder + b"/" + name, sys.maxsize) for name in dialogue.names()}
        dialogue.write_digests(one.hexdigest() for one in hashes.values())
    os.makedirs(data, exist_ok=True)
    for name in dialogue.names():
        remove(data + b"/" + name)
    for name in dialogue.names():
        os.makedirs(data + b"/" + name, exist_ok=True)
    if not _receive(dialogue, data, hashes):
        return MISMATCH
    if os.path.lexists(target) and not os.path.isdir(target):
        sys.stderr.write("the target of the transfer is a file, not a folder\n")
        return IN_THE_WAY
    publish(data, target)
    try:
        os.rmdir(stage)
    except OSError:  # it holds more, of an earlier version; failing to remove that is harmless
        with contextlib.suppress(OSError):
            _remove_tree(stage)
    dialogue.write(b"done\n")
    return 0


def _receive(dialogue: _Dialogue, data: bytes, hashes: "dict[bytes, Any]") -> bool:
    """Receive a list of files, their bytes and their digests; returns whether the digests agree."""
    wanted = []
    for record in dialogue.names():
        mode, offset, whole, name = record.split(b" ", 3)
        wanted.append((name, int(offset), int(whole), int(mode, 8)))
    found = receive(dialogue.input, wanted, data, lambda size: None, hashes)
    expected = [dialogue.read_line().decode() for _ in wanted]
    if dialogue.read_line() != b".":
        raise EOFError
    if expected != found:
        sys.stderr.write("checksum mismatch: the received files differ from those that were sent\n")
    return expected == found


def _receive_share(dialogue: _Dialogue, data: bytes) -> int:
    """Receive a share of a tree's files into its staging folder, while other processes receive the rest."""
    if not _receive(dialogue, data, {}):
        return MISMATCH
    dialogue.write(b"done\n")
    return 0


def _send_share(dialogue: _Dialogue, folder: bytes) -> int:
    """Send a share of a tree's files, while other processes send the rest."""
    pairs = [record.partition(b" ") for record in dialogue.names()]
    wanted = [(folder + b"/" + name, 0, int(size)) for size, _, name in pairs]
    dialogue.write_digests(send(dialogue.output, wanted, lambda size: None, {}))
    return 0


def send_tree(dialogue: _Dialogue, folder: bytes) -> int:
    """Send a tree: see `tree_transfer.TreeDownload`."""
    if not os.path.isdir(folder):
        return NOT_THERE
    sizes = {}
    for kind, size, name in _walk(folder):
        dialogue.output.write(b"%s %d %s\0" % (kind, size, name))
        sizes[name] = size
    dialogue.write(b"\0")
    below = folder + b"/"
    dialogue.write_digests([hash_file(below + name, sys.maxsize).hexdigest() for name in dialogue.names()])
    words = dialogue.names()
    hashes = {below + name: hash_file(below + name, int(size)) for size, name in zip(words[::2], words[1::2])}
    dialogue.write_digests(one.hexdigest() for one in hashes.values())
    words = dialogue.names()
    wanted = [(below + name, int(offset), sizes[name]) for offset, name in zip(words[::2], words[1::2])]
    wanted += [(below + name, 0, sizes[name]) for name in dialogue.names()]
    dialogue.write_digests(send(dialogue.output, wanted, lambda size: None, hashes))
    return 0


_PARTS = {
    b"receive": receive_tree,
    b"send": send_tree,
    b"receive share": _receive_share,
    b"send share": _send_share,
}  # type: dict[bytes, Callable[..., int]]


def main(words: "list[bytes]") -> int:
    """Run one part of a transfer on the cluster; returns the exit code."""
    dialogue = _Dialogue()
    try:
        return _PARTS[words[0]](dialogue, *words[1:])
    except EOFError:
        return 1
    except Changed as changed:
        sys.stderr.write("changed while it was read: %r\n" % changed.args)
        return MISMATCH
    except OSError as error:
        if error.errno != errno.EPIPE:
            sys.stderr.write("%s\n" % error)
        return 1
