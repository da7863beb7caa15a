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

#: Parts are so small that they are still in the processor's cache when they are hashed and written.
_CHUNK_BYTES = 1 << 18
#: What lies in a stream's own buffer is copied once more: parts pass it by, and only what is shorter goes through it.
STREAM_BUFFER_BYTES = 1 << 16
_SHORT_BYTES = 1 << 14
_LONGEST_LINE_BYTES = 1 << 10

NOT_THERE, MISMATCH, IN_THE_WAY = 66, 65, 73


class Changed(Exception):
    """A file is not, any more, as long as it was."""


def hash_file(path: bytes, size: int) -> "Any":
    """The SHA-256 of a file's first bytes, to go on with; of a shorter file, of all of it."""
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
    begun: "MutableMapping[bytes, Any]",
) -> "list[str]":
    """Write files, each from an offset up to its size, one after the other; the digests of the whole files.

    ``begun`` has the hash of the bytes before an offset.
    """
    digests = []
    room = memoryview(bytearray(_CHUNK_BYTES))
    for path, offset, size in wanted:
        hashed = begun.pop(path) if offset else hashlib.sha256()
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
    begun: "MutableMapping[bytes, Any]",
) -> "list[str]":
    """Write files (name, offset, size, mode) from their bytes one after the other; the digests of the whole files.

    What lies before an offset is there already, and ``begun`` has its hash. EOFError when the stream ends early: what
    had arrived by then is in the files.
    """
    digests = []
    made = set()
    room = memoryview(bytearray(_CHUNK_BYTES))
    for name, offset, size, mode in wanted:
        hashed = begun.pop(name) if offset else hashlib.sha256()
        folder = name.rpartition(b"/")[0]
        if folder not in made:
            os.makedirs(root + b"/" + folder, exist_ok=True)
            made.add(folder)
        file = _open(root + b"/" + name, offset, mode)
        try:
            left = size - offset
            # a small file at once, a large one as it comes
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
    """A file to write from an offset; from the start it is a new one, whatever stood in its place."""
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
    """Put a staged tree in place: at once if nothing is there, else file by file; links in the way are replaced."""
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
    import shutil  # half of what this program needs to start, and mostly not needed

    shutil.rmtree(path)


def regular_size(path: bytes) -> int:
    """The size of a regular file; -1 if there is none of that name."""
    try:
        about = os.lstat(path)
    except OSError:
        return -1
    return about.st_size if stat.S_ISREG(about.st_mode) else -1


# -- the program on the cluster; the worker's side is `tree_transfer` --------------------------------------------------


def _walk(root: bytes) -> "Iterator[tuple[bytes, int, bytes]]":
    """Kind, size and name of everything below a folder; no link is followed."""
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
    def __init__(self) -> None:
        self.ear = io.BufferedReader(io.FileIO(0), STREAM_BUFFER_BYTES)
        self.mouth = io.BufferedWriter(io.FileIO(1, "w"), STREAM_BUFFER_BYTES)

    def write(self, words: bytes) -> None:
        self.mouth.write(words)
        self.mouth.flush()

    def read_line(self) -> bytes:
        line = self.ear.readline(_LONGEST_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise EOFError
        return line[:-1]

    def names(self) -> "list[bytes]":
        size = int(self.read_line())
        words = self.ear.read(size)
        if len(words) != size:
            raise EOFError
        return words.split(b"\0")[:-1]

    def say_digests(self, digests: "Iterable[str]") -> None:
        self.write("".join(one + "\n" for one in digests).encode() + b".\n")


def receive_tree(talk: _Dialogue, target: bytes, stage: bytes) -> int:
    """Receive a tree: see `tree_transfer.TreeUpload`."""
    data = stage + b"/data"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    for folder in (target, data):
        if os.path.isdir(folder):
            for kind, size, name in _walk(folder):
                if kind == b"f":
                    talk.mouth.write(b"%d %s\0" % (size, name))
        talk.write(b"\0")
    hashes = {}
    for folder in (target, data):
        hashes = {name: hash_file(folder + b"/" + name, sys.maxsize) for name in talk.names()}
        talk.say_digests(one.hexdigest() for one in hashes.values())
    os.makedirs(data, exist_ok=True)
    for name in talk.names():
        remove(data + b"/" + name)
    for name in talk.names():
        os.makedirs(data + b"/" + name, exist_ok=True)
    if not _receive(talk, data, hashes):
        return MISMATCH
    if os.path.lexists(target) and not os.path.isdir(target):
        sys.stderr.write("a file stands where the folder should be\n")
        return IN_THE_WAY
    publish(data, target)
    try:
        os.rmdir(stage)
    except OSError:  # an earlier transfer left more there; and what stays is no harm
        with contextlib.suppress(OSError):
            _remove_tree(stage)
    talk.write(b"done\n")
    return 0


def _receive(talk: _Dialogue, data: bytes, begun: "dict[bytes, Any]") -> bool:
    """Files: a list of them, their bytes, their digests. Whether what arrived is what was sent."""
    wanted = []
    for record in talk.names():
        mode, offset, whole, name = record.split(b" ", 3)
        wanted.append((name, int(offset), int(whole), int(mode, 8)))
    found = receive(talk.ear, wanted, data, lambda size: None, begun)
    told = [talk.read_line().decode() for _ in wanted]
    if talk.read_line() != b".":
        raise EOFError
    if told != found:
        sys.stderr.write("what arrived is not what was sent\n")
    return told == found


def _receive_share(talk: _Dialogue, data: bytes) -> int:
    """Receive some of a tree's files into its staging folder, while another process takes the rest."""
    if not _receive(talk, data, {}):
        return MISMATCH
    talk.write(b"done\n")
    return 0


def _send_share(talk: _Dialogue, folder: bytes) -> int:
    """Send some of a tree's files, while another process gives the rest."""
    pairs = [record.partition(b" ") for record in talk.names()]
    wanted = [(folder + b"/" + name, 0, int(size)) for size, _, name in pairs]
    talk.say_digests(send(talk.mouth, wanted, lambda size: None, {}))
    return 0


def send_tree(talk: _Dialogue, folder: bytes) -> int:
    """Send a tree: see `tree_transfer.TreeDownload`."""
    if not os.path.isdir(folder):
        return NOT_THERE
    sizes = {}
    for kind, size, name in _walk(folder):
        talk.mouth.write(b"%s %d %s\0" % (kind, size, name))
        sizes[name] = size
    talk.write(b"\0")
    below = folder + b"/"
    talk.say_digests([hash_file(below + name, sys.maxsize).hexdigest() for name in talk.names()])
    words = talk.names()
    begun = {below + name: hash_file(below + name, int(size)) for size, name in zip(words[::2], words[1::2])}
    talk.say_digests(one.hexdigest() for one in begun.values())
    words = talk.names()
    wanted = [(below + name, int(offset), sizes[name]) for offset, name in zip(words[::2], words[1::2])]
    wanted += [(below + name, 0, sizes[name]) for name in talk.names()]
    talk.say_digests(send(talk.mouth, wanted, lambda size: None, begun))
    return 0


_PARTS = {
    b"receive": receive_tree,
    b"send": send_tree,
    b"receive share": _receive_share,
    b"send share": _send_share,
}  # type: dict[bytes, Callable[..., int]]


def main(words: "list[bytes]") -> int:
    """Be the far side; the exit code."""
    talk = _Dialogue()
    try:
        return _PARTS[words[0]](talk, *words[1:])
    except EOFError:
        return 1
    except Changed as changed:
        sys.stderr.write("changed while it was read: %r\n" % changed.args)
        return MISMATCH
    except OSError as error:
        if error.errno != errno.EPIPE:
            sys.stderr.write("%s\n" % error)
        return 1
