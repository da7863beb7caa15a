"""Trees to the cluster and back: ours beside what else one could use, over loopback and over a long line.

Every way has its connection open before the clock starts. All OpenSSH ways use the cipher that ours chooses, so that
what is compared is the way and not the cipher; ``ssh cat`` with the default cipher is shown as well.

    python -m benchmarks.transfer --megabytes 100 --files 500 [--delay 0.05] [--only biomeroworker,ssh]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import paramiko
from rich.console import Console

from benchmarks import report
from benchmarks.context import Context
from benchmarks.figures import OURS, THEIRS, Figures, number
from benchmarks.frontend import FrontEnd, master, master_pid
from benchmarks.processes import tree_cpu
from biomeroworker.cluster.transport.openssh import OpenSshTransport

CAT, CAT_DEFAULT, CATS, TAR, RSYNC, SFTP = (
    "ssh cat",
    "ssh cat, default cipher",
    "ssh cat × 4",
    "tar | ssh",
    "rsync",
    "sftp",
)
PARAMIKO = "paramiko SFTP"
INCUMBENT = f"{THEIRS} (zip, SFTP, unzip)"
CIPHER = "Ciphers=aes128-gcm@openssh.com"
_NAME = "image-1.ome.zarr"
#: What takes so many seconds is measured once.
LONG = 30


@dataclass(frozen=True)
class Tree:
    """Something to send: a folder here and the same on the far side, to be fetched."""

    name: str
    local: Path
    remote: Path
    files: int
    size: int
    sample: Tree | None = None  #: a smaller one of the same kind, for ways that take minutes


#: Moves a tree (``send`` or not) to the folder given, and says how many seconds that took.
Way = Callable[[Tree, bool, Path], float]


def make_tree(name: str, folder: Path, far: Path, files: int, size: int, sample: Tree | None = None) -> Tree:
    """One file of noisy pixels, or many of what compressed chunks look like; laid out as the incumbent wants it."""
    local, remote = folder / name.replace(" ", "_").replace(",", ""), far / name.replace(" ", "_").replace(",", "")
    rng = np.random.default_rng(1)
    inside = local / _NAME / "0"
    inside.mkdir(parents=True)
    if files == 1:
        pixels = rng.poisson(200, 1 << 21).astype("<u2").tobytes()
        with (inside / "0.0.0.0.0").open("wb") as file:
            for start in range(0, size, len(pixels)):
                file.write(pixels[: size - start])
    else:
        for number in range(files):
            chunk = inside / str(number // 100) / f"{number % 100}"
            chunk.parent.mkdir(exist_ok=True)
            chunk.write_bytes(rng.bytes(size // files))
    shutil.copytree(local, remote / "data/out")  # where the incumbent looks for results
    return Tree(name, local, remote / "data/out", files, files * (size // files), sample)


def digest(folder: Path) -> str:
    """Of all names and contents."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(os.fsencode(path.relative_to(folder)) + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _timed(argv: Sequence[str], **more: Any) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, stderr=subprocess.PIPE, timeout=1800, **more)
    return time.perf_counter() - began


def _piped(source: Sequence[str], sink: Sequence[str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(source, stdout=subprocess.PIPE) as feeding:
        subprocess.run(sink, check=True, stdin=feeding.stdout, timeout=1800)
    if feeding.returncode:
        raise RuntimeError(f"{source[0]} failed")
    return time.perf_counter() - began


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Ways:
    """All ways over one line."""

    def __init__(self, server: FrontEnd, config: Path, folder: Path, context: Context) -> None:
        self._server, self._config, self._folder, self._context = server, config, folder, context
        self._stack = ExitStack()
        self._talker: subprocess.Popen[str] | None = None
        self.parts: dict[str, dict[str, float]] = {}

    def __enter__(self) -> Ways:
        enter = self._stack.enter_context
        alias, root = self._server.alias, self._server.root
        self._ours = OpenSshTransport(alias, config_file=self._config, runtime_dir=root / "rt")
        self._stack.callback(self._ours.close)
        self._ours.check()
        tag = self._config.name[-6:]
        self._same = enter(master(self._config, alias, root / f"m1{tag}", CIPHER))
        self._default = enter(master(self._config, alias, root / f"m2{tag}"))
        if "theirs" in self._context.pythons:
            data = str(self._server.home / "theirs")
            command = self._context.program("theirs", "transfer_work", str(self._config), alias, data)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._talker = enter(subprocess.Popen(command, text=True, **pipes))
            self._stack.callback(self._talker.kill)
            assert self._talker.stdout
            assert json.loads(self._talker.stdout.readline()) == "ready"
        self._paramiko = enter(self._plain_paramiko())
        ours = ["-F", str(self._config), "-S", str(self._ours._socket)]
        self._roots = [os.getpid(), *(master_pid(one, alias) for one in (self._same, self._default, ours))]
        return self

    def cpu(self) -> float:
        """Processor time that both ends have taken so far, in seconds."""
        return tree_cpu(self._roots)

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def _plain_paramiko(self) -> Iterator[paramiko.SFTPClient]:
        settings = paramiko.SSHConfig.from_path(str(self._config)).lookup(self._server.alias)
        client = paramiko.SSHClient()
        client.load_host_keys(settings["userknownhostsfile"])
        client.connect(
            settings["hostname"], int(settings["port"]), "root", key_filename=settings["identityfile"],
            look_for_keys=False, allow_agent=False,
        )  # fmt: skip
        with client, client.open_sftp() as sftp:
            yield sftp

    def all(self, tree: Tree) -> dict[str, Way]:
        """The ways that make sense for a tree."""
        ways: dict[str, Way] = {OURS: self.ours}
        if tree.files == 1:
            ways |= {CAT: self.cat, CAT_DEFAULT: self.cat_default, CATS: self.cats}
        ways |= {TAR: self.tar, RSYNC: self.rsync, SFTP: self.sftp, PARAMIKO: self.paramiko}
        if self._talker:
            ways[INCUMBENT] = self.incumbent
        return ways

    def _ssh(self, words: Sequence[str], *command: str) -> list[str]:
        return ["ssh", *words, self._server.alias, shlex.join(command)]

    def ours(self, tree: Tree, send: bool, to: Path) -> float:
        """With checksums, verified on both sides."""
        began = time.perf_counter()
        if send:
            self._ours.send_tree(tree.local, str(to))
        else:
            self._ours.fetch_tree(str(tree.remote), to)
        return time.perf_counter() - began

    def cat(self, tree: Tree, send: bool, to: Path, words: Sequence[str] = ()) -> float:
        """One file through a pipe."""
        words = words or self._same
        (file,) = _files(tree.local if send else tree.remote)
        target = to / file.relative_to(tree.local if send else tree.remote)
        target.parent.mkdir(parents=True)
        if send:
            with file.open("rb") as source:
                return _timed(["ssh", *words, self._server.alias, f"cat >{shlex.quote(str(target))}"], stdin=source)
        with target.open("wb") as sink:
            return _timed(self._ssh(words, "cat", str(file)), stdout=sink)

    def cat_default(self, tree: Tree, send: bool, to: Path) -> float:
        """The same with the cipher that OpenSSH chooses by itself."""
        return self.cat(tree, send, to, self._default)

    def cats(self, tree: Tree, send: bool, to: Path) -> float:
        """Four quarters at once on the one connection."""
        (file,) = _files(tree.local if send else tree.remote)
        target = to / file.relative_to(tree.local if send else tree.remote)
        target.parent.mkdir(parents=True)
        block, quarter = 1 << 20, -(-tree.size // 4 >> 20)
        target.touch()

        def part(number: int) -> None:
            here = ["dd", f"bs={block}", "status=none", "iflag=fullblock"]
            read = [*here, f"if={file}", f"skip={number * quarter}", f"count={quarter}"]
            write = [*here, f"of={target}", f"seek={number * quarter}", "conv=notrunc"]
            ssh = [*self._ssh(self._same, *(write if send else read))]
            _piped(read, ssh) if send else _piped(ssh, write)

        began = time.perf_counter()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(part, range(4)))
        return time.perf_counter() - began

    def tar(self, tree: Tree, send: bool, to: Path) -> float:
        """Two tars and a pipe."""
        pack, unpack = (
            ["tar", "-C", str(tree.local if send else tree.remote), "-cf-", "."],
            ["tar", "-C", str(to), "-xf-"],
        )
        to.mkdir(parents=True)
        if send:
            return _piped(pack, self._ssh(self._same, *unpack))
        return _piped(self._ssh(self._same, *pack), unpack)

    def rsync(self, tree: Tree, send: bool, to: Path) -> float:
        """``rsync -a``, which checks sizes and, while it writes, its own checksum."""
        shell = ["-e", shlex.join(["ssh", *self._same])]
        if send:
            return _timed(["rsync", "-a", *shell, f"{tree.local}/", f"{self._server.alias}:{to}/"])
        return _timed(["rsync", "-a", *shell, f"{self._server.alias}:{tree.remote}/", f"{to}/"])

    def sftp(self, tree: Tree, send: bool, to: Path) -> float:
        """OpenSSH's own sftp, the tree in one batch."""
        to.parent.mkdir(parents=True, exist_ok=True)
        order = f"put -R {tree.local} {to}\n" if send else f"get -R {tree.remote} {to}\n"
        batch = ["sftp", *self._same, "-b", "-", self._server.alias]
        return _timed(batch, input=order.encode(), stdout=subprocess.DEVNULL)

    def paramiko(self, tree: Tree, send: bool, to: Path) -> float:
        """File by file, as paramiko is shipped."""
        root = tree.local if send else tree.remote
        began = time.perf_counter()
        folders: set[Path] = set()
        for file in _files(root):
            target = to / file.relative_to(root)
            if target.parent not in folders:
                target.parent.mkdir(parents=True, exist_ok=True)  # free of charge
                folders.add(target.parent)
            (self._paramiko.put if send else self._paramiko.get)(str(file), str(target))
        return time.perf_counter() - began

    def incumbent(self, tree: Tree, send: bool, to: Path) -> float:
        """Its own client's calls, as its scripts make them."""
        data = self._server.home / "theirs"
        data.mkdir(exist_ok=True)
        if send:
            archive = self._folder / to.name
            answer = self._told(do="send", archive=str(archive), folder=str(tree.local))
            shutil.move(data / to.name / "data/in", to)
            shutil.rmtree(data / to.name)
            (data / f"{to.name}.zip").unlink()
        else:
            folder = data / to.name
            folder.mkdir()
            (folder / "data").symlink_to(tree.remote.parent)
            local = self._folder / f"{to.name}-zip"
            local.mkdir()
            answer = self._told(do="fetch", folder=to.name, local=str(local) + "/", into=str(to))
            shutil.rmtree(local)
            shutil.rmtree(folder)
        self.parts[f"{tree.name}, {'to the cluster' if send else 'back'}"] = answer
        return float(answer["seconds"])

    def _told(self, **command: Any) -> dict[str, float]:
        assert self._talker
        assert self._talker.stdin
        assert self._talker.stdout
        self._talker.stdin.write(json.dumps(command) + "\n")
        self._talker.stdin.flush()
        answer: dict[str, float] = json.loads(self._talker.stdout.readline() or "{}")
        return answer


def measure(context: Context, only: Sequence[str] = ()) -> Figures:
    """One large file and many small ones, each way, near and far."""
    figures = Figures(
        "transfer",
        "trees over SSH, each way",
        "MB/s (10⁶ bytes) of content, from the call to its end on a connection that is open already. Ours and nobody "
        "else compares SHA-256 on both sides. The OpenSSH ways use the cipher that ours chooses. Both ends lie in "
        "memory and share the machine's cores; processor time is that of both ends, and tells more than the speed "
        "when others work on the machine.",
    )
    for delay, megabytes, files in (
        (0.0, context.size(1000, 4), context.size(5000, 40)),
        (0.05, context.size(100, 1), context.size(500, 10)),
    ):
        compare(context, figures, delay, ceil(megabytes * context.fraction), ceil(files * context.fraction), only)
    return figures


def compare(
    context: Context, figures: Figures, delay: float, megabytes: int, files: int, only: Sequence[str] = ()
) -> None:
    """Add the rows of one line."""
    with ExitStack() as stack:
        place = stack.enter_context(context.in_memory("transfer", 5 * max(megabytes * 10**6, files << 16)))
        folder, home = place / "near", place / "far"
        folder.mkdir()
        home.mkdir()
        server = FrontEnd(home)
        stack.callback(server.close)
        config = stack.enter_context(server.far_away(delay)) if delay else server.config
        few = max(10, files // 10) if files > 100 else files
        sample = make_tree(f"{few:,} files of 64 KiB, sample", folder, server.home / "far", few, few << 16)
        trees = [
            make_tree(_words(f"one file of {megabytes} MB", delay), folder, server.home / "far", 1, megabytes * 10**6),
            make_tree(
                _words(f"{files:,} files of 64 KiB", delay), folder, server.home / "far", files, files << 16, sample
            ),
        ]
        ways = stack.enter_context(Ways(server, config, folder, context))
        for tree in trees:
            for send in (True, False):
                _tree(context, figures, ways, server, tree, send, only)
        for what, parts in ways.parts.items():
            split = ", ".join(f"{name} {took:.1f} s" for name, took in parts.items() if name != "seconds")
            figures.remarks.append(f"{INCUMBENT}, {what}: {split}.")


def _words(what: str, delay: float) -> str:
    return f"{what}, {1000 * delay:.0f} ms each way" if delay else what


def _tree(
    context: Context, figures: Figures, ways: Ways, server: FrontEnd, tree: Tree, send: bool, only: Sequence[str]
) -> None:
    what = f"{tree.name}, {'to the cluster' if send else 'back'}"
    context.say(what)
    speeds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    wanted = {one: digest(one.local) for one in (tree, tree.sample) if one}
    for turn in range(context.times):
        for who, way in ways.all(tree).items():  # in turn, so that a busy moment of the machine meets all of them
            if only and not any(who.startswith(one) for one in only):
                continue
            if turn and tree.size / 1e6 / speeds[who][0] > LONG:
                continue
            moved = tree.sample if who == PARAMIKO and tree.sample else tree
            notes[who] = f"{moved.files} files" if moved is not tree else ""
            to = (server.home if send else ways._folder) / f"to-{os.urandom(4).hex()}"
            before = ways.cpu()
            seconds = way(moved, send, to)
            cpu.setdefault(who, []).append((ways.cpu() - before) / moved.size * 1e9)
            speeds.setdefault(who, []).append(moved.size / seconds / 1e6)
            if turn == 0 and digest(to) != wanted[moved]:
                raise RuntimeError(f"{who}: what arrived is not what was sent ({what})")
            shutil.rmtree(to)
    for who, values in speeds.items():
        files = f"{tree.files * values[len(values) // 2] * 1e6 / tree.size:,.0f} files/s" if tree.files > 1 else ""
        spent = f"{number(statistics.median(cpu[who]))} s CPU per GB"
        figures.add(what, who, values, "MB/s", ", ".join(filter(None, (files, notes[who], spent))))
    best = [CAT] if tree.files == 1 else [TAR, RSYNC]
    if (ratio := figures.compare(what, best)) is not None:
        figures.remarks.append(f"{what}: ours is {ratio:.2f} × {' and '.join(best)} (the better of them).")
    if (ratio := figures.compare(what, [INCUMBENT])) is not None:
        figures.remarks.append(f"{what}: ours is {ratio:.1f} × the incumbent.")


def main() -> None:
    """A comparison of one's own choice, for who works on the transport; shown, not written down."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds each way")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="beginnings of names, with commas")
    parser.add_argument("--incumbent", action="store_true")
    options = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        context = Context(
            Path(folder), Path(folder) / "none", console, repeats=options.repeats, alone=not options.incumbent
        )
        figures = Figures("transfer", "trees over SSH", "")
        only = [one for one in options.only.split(",") if one]
        compare(context, figures, options.delay, options.megabytes, options.files, only)
        report.show(figures, console)


if __name__ == "__main__":
    main()
