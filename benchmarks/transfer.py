"""File transfer to and from the cluster: our transport and other programs, without and with latency.

Each program has an open connection before the measurement starts. All programs that use OpenSSH use the same cipher as
our transport, so that the cipher does not affect the comparison. ``ssh cat`` is also measured with the default cipher.

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
#: A transfer that takes longer is measured only once.
LONG_SECONDS = 30


@dataclass(frozen=True)
class Tree:
    """A local folder to send, and an equal folder on the cluster to fetch."""

    name: str
    local: Path
    remote: Path
    files: int
    size: int
    sample: Tree | None = None  #: a smaller tree of the same kind, for programs that take minutes


#: Sends (or fetches) a tree to the given folder, and returns the seconds that this took.
Way = Callable[[Tree, bool, Path], float]


def make_tree(name: str, folder: Path, far: Path, files: int, size: int, sample: Tree | None = None) -> Tree:
    """Create one file of noisy pixels, or many random files like compressed chunks, in the layout of the incumbent."""
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
    shutil.copytree(local, remote / "data/out")  # the folder from which the incumbent fetches results
    return Tree(name, local, remote / "data/out", files, files * (size // files), sample)


def digest(folder: Path) -> str:
    """The SHA-256 of all file names and contents."""
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
    """All transfer programs over one connection."""

    def __init__(self, server: FrontEnd, config: Path, folder: Path, context: Context) -> None:
        self._server, self._config, self._folder, self._context = server, config, folder, context
        self._stack = ExitStack()
        self._incumbent: subprocess.Popen[str] | None = None
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
            self._incumbent = enter(subprocess.Popen(command, text=True, **pipes))
            self._stack.callback(self._incumbent.kill)
            assert self._incumbent.stdout
            assert json.loads(self._incumbent.stdout.readline()) == "ready"
        self._paramiko = enter(self._plain_paramiko())
        ours = ["-F", str(self._config), "-S", str(self._ours._socket)]
        self._roots = [os.getpid(), *(master_pid(one, alias) for one in (self._same, self._default, ours))]
        return self

    def cpu(self) -> float:
        """Processor time of both ends since their start, in seconds."""
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
        """The programs that apply to a tree."""
        ways: dict[str, Way] = {OURS: self.ours}
        if tree.files == 1:
            ways |= {CAT: self.cat, CAT_DEFAULT: self.cat_default, CATS: self.cats}
        ways |= {TAR: self.tar, RSYNC: self.rsync, SFTP: self.sftp, PARAMIKO: self.paramiko}
        if self._incumbent:
            ways[INCUMBENT] = self.incumbent
        return ways

    def _ssh(self, words: Sequence[str], *command: str) -> list[str]:
        return ["ssh", *words, self._server.alias, shlex.join(command)]

    def ours(self, tree: Tree, send: bool, to: Path) -> float:
        """Our transport, which verifies checksums on both sides."""
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
        """The same with the default cipher of OpenSSH."""
        return self.cat(tree, send, to, self._default)

    def cats(self, tree: Tree, send: bool, to: Path) -> float:
        """Four quarters of the file in parallel over one connection."""
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
        """Run tar on both sides, over a pipe."""
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
        """File by file, with the defaults of paramiko."""
        root = tree.local if send else tree.remote
        began = time.perf_counter()
        folders: set[Path] = set()
        for file in _files(root):
            target = to / file.relative_to(root)
            if target.parent not in folders:
                target.parent.mkdir(parents=True, exist_ok=True)  # does not count as a network operation
                folders.add(target.parent)
            (self._paramiko.put if send else self._paramiko.get)(str(file), str(target))
        return time.perf_counter() - began

    def incumbent(self, tree: Tree, send: bool, to: Path) -> float:
        """The calls of the incumbent's client, as in its scripts."""
        data = self._server.home / "theirs"
        data.mkdir(exist_ok=True)
        if send:
            archive = self._folder / to.name
            answer = self._send_command(do="send", archive=str(archive), folder=str(tree.local))
            shutil.move(data / to.name / "data/in", to)
            shutil.rmtree(data / to.name)
            (data / f"{to.name}.zip").unlink()
        else:
            folder = data / to.name
            folder.mkdir()
            (folder / "data").symlink_to(tree.remote.parent)
            local = self._folder / f"{to.name}-zip"
            local.mkdir()
            answer = self._send_command(do="fetch", folder=to.name, local=str(local) + "/", into=str(to))
            shutil.rmtree(local)
            shutil.rmtree(folder)
        self.parts[f"{tree.name}, {'to the cluster' if send else 'from the cluster'}"] = answer
        return float(answer["seconds"])

    def _send_command(self, **command: Any) -> dict[str, float]:
        assert self._incumbent
        assert self._incumbent.stdin
        assert self._incumbent.stdout
        self._incumbent.stdin.write(json.dumps(command) + "\n")
        self._incumbent.stdin.flush()
        answer: dict[str, float] = json.loads(self._incumbent.stdout.readline() or "{}")
        return answer


def measure(context: Context, only: Sequence[str] = ()) -> Figures:
    """Measure one large file and many small files, in both directions, without and with latency."""
    figures = Figures(
        "transfer",
        "files over SSH, in both directions",
        "MB/s (10⁶ bytes) of content, from the call to its end, on an open connection. Only biomeroworker compares "
        "SHA-256 on both sides. All programs that use OpenSSH use the cipher of biomeroworker. The files of both "
        "ends are in memory, and both ends share the cores of the machine. Processor time is the sum of "
        "both ends; it is the better measure on a busy machine.",
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
    """Add the rows for one latency."""
    with ExitStack() as stack:
        place = stack.enter_context(context.in_memory("transfer", 5 * max(megabytes * 10**6, files << 16)))
        folder, home = place / "near", place / "far"
        folder.mkdir()
        home.mkdir()
        server = FrontEnd(home)
        stack.callback(server.close)
        config = stack.enter_context(server.with_delay(delay)) if delay else server.config
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
    return f"{what}, {1000 * delay:.0f} ms latency each way" if delay else what


def _tree(
    context: Context, figures: Figures, ways: Ways, server: FrontEnd, tree: Tree, send: bool, only: Sequence[str]
) -> None:
    what = f"{tree.name}, {'to the cluster' if send else 'from the cluster'}"
    context.report(what)
    speeds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    wanted = {one: digest(one.local) for one in (tree, tree.sample) if one}
    for turn in range(context.times):
        for who, way in ways.all(tree).items():  # alternately, so that other load on the machine affects all programs
            if only and not any(who.startswith(one) for one in only):
                continue
            if turn and tree.size / 1e6 / speeds[who][0] > LONG_SECONDS:
                continue
            moved = tree.sample if who == PARAMIKO and tree.sample else tree
            notes[who] = f"{moved.files} files" if moved is not tree else ""
            to = (server.home if send else ways._folder) / f"to-{os.urandom(4).hex()}"
            before = ways.cpu()
            seconds = way(moved, send, to)
            cpu.setdefault(who, []).append((ways.cpu() - before) / moved.size * 1e9)
            speeds.setdefault(who, []).append(moved.size / seconds / 1e6)
            if turn == 0 and digest(to) != wanted[moved]:
                raise RuntimeError(f"{who}: the received data differs from the sent data ({what})")
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
    """Run a comparison with other sizes and print it, without saving it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds each way")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="prefixes of names, separated by commas")
    parser.add_argument("--incumbent", action="store_true")
    options = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        context = Context(
            Path(folder), Path(folder) / "none", console, repeats=options.repeats, alone=not options.incumbent
        )
        figures = Figures("transfer", "files over SSH", "")
        only = [one for one in options.only.split(",") if one]
        compare(context, figures, options.delay, options.megabytes, options.files, only)
        report.show(figures, console)


if __name__ == "__main__":
    main()
