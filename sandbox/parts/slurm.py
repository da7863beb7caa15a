"""SLURM: munge, the accounting daemon, the controller and two virtual nodes.

The names of nodes contain the tag of the sandbox. slurmd names its cgroups after its node, so the tag separates the
cgroups of two sandboxes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import time
from pathlib import Path

from sandbox.errors import Unhealthy
from sandbox.part import Part
from sandbox.parts.account import cluster_user
from sandbox.processes import Process
from sandbox.root import Root

CLUSTER = "sandbox"
CGROUPS = Path("/sys/fs/cgroup")
#: Controllers in which the cgroup/v1 plugin of slurmd creates folders.
CONTROLLERS = ("memory", "freezer", "cpuset", "devices", "cpuacct", "cpu")


def slurm_conf(root: Root) -> Path:
    """The value of ``SLURM_CONF`` for SLURM commands."""
    return root.path / "etc/slurm.conf"


def node_name(root: Root, number: int) -> str:
    """The name of virtual node 1 or 2."""
    return f"{root.tag}-n{number}"


def munge_socket(root: Root) -> Path:
    """The socket of munge."""
    return root.path / "run/munge/munge.socket"


def has_cgroups() -> bool:
    """Whether the controllers that slurmd needs are mounted as cgroup v1 and are writable.

    Without them jobs run, but out-of-memory is reported as FAILED, and detached processes of a job continue after
    `scancel`. ``SANDBOX_CGROUPS=no`` disables cgroups.
    """
    if os.environ.get("SANDBOX_CGROUPS") == "no":
        return False
    mounts = Path("/proc/mounts").read_text().splitlines()
    v1 = {fields[1] for line in mounts if (fields := line.split())[2] == "cgroup" and "rw" in fields[3].split(",")}
    needed = (CGROUPS / name for name in ("memory", "freezer", "cpuset", "cpuacct"))
    return all(str(folder) in v1 and os.access(folder, os.W_OK) for folder in needed)


class Munge(Part):
    """Authentication between daemons and commands of SLURM."""

    name = "munge"
    user = "munge"
    listens = False
    programs = ("/usr/sbin/munged", "munge", "unmunge")

    def prepare(self) -> None:
        """Create the key once."""
        self.root.folder("run/munge", 0o755, self.user)
        key = self.root.folder("etc/munge", 0o700, self.user) / "munge.key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(secrets.token_bytes(128))
            os.chown(key, key.parent.stat().st_uid, key.parent.stat().st_gid)
            key.chmod(0o400)
        munge_socket(self.root).unlink(missing_ok=True)

    def command(self) -> list[str]:
        """The argv."""
        run = self.root.path / "run/munge"
        return [
            "/usr/sbin/munged", "--foreground", f"--key-file={self.root.path / 'etc/munge/munge.key'}",
            f"--socket={munge_socket(self.root)}", f"--pid-file={run / 'munged.pid'}",
            f"--seed-file={run / 'munged.seed'}", "--num-threads=4",
        ]  # fmt: skip

    def probe(self) -> str:
        """Create a credential and decode it."""
        credential = self.run_client(["munge", "-n", "-S", str(munge_socket(self.root))])
        self.run_client(["unmunge", "-S", str(munge_socket(self.root))], text=credential)
        return "munge | unmunge"


class _Slurm(Part):
    """Base class of the SLURM daemons: each writes the common configuration."""

    user: str | None = "slurm"

    def _env(self) -> dict[str, str]:
        return {"SLURM_CONF": str(slurm_conf(self.root))}

    environment = _env

    def prepare(self) -> None:
        """Write the whole configuration of SLURM."""
        root, etc = self.root, self.root.folder("etc")
        root.folder("run/slurm", 0o755, "slurm")
        root.folder("slurm", 0o755, "slurm")
        for number in (0, 1):
            gpu = etc / f"fakegpu{number}"
            if not gpu.exists():  # a null device, because SLURM requires a character device for a GPU
                os.mknod(gpu, stat.S_IFCHR | 0o666, os.makedev(1, 3))
                gpu.chmod(0o666)
        values = {
            "root": root.path, "host": socket.gethostname().split(".")[0], "cluster": CLUSTER,
            "node1": node_name(root, 1), "node2": node_name(root, 2), "socket": munge_socket(root),
            "password": root.secret("mariadb"), "srun_ports": self._srun_ports(),
            **{part.name.replace("-", "_"): root.port(part.name) for part in (Slurmctld, Slurmdbd, Slurmd1, Slurmd2)},
            "mariadb": root.port("mariadb"),
            "accounting": "cgroup" if has_cgroups() else "linux",
            "proctrack": "proctrack/cgroup" if has_cgroups() else "proctrack/linuxproc",
            "task": "task/cgroup" if has_cgroups() else "task/none",
            "gather": "" if has_cgroups() else "JobAcctGatherParams=OverMemoryKill",
        }  # fmt: skip
        for name in ("slurm.conf", "cgroup.conf", "gres.conf"):
            self.write(name, etc / name, values)
        secret = etc / "slurmdbd.conf"
        secret.touch(mode=0o600)
        self.write("slurmdbd.conf", secret, values)
        os.chown(secret, root.folder("slurm").stat().st_uid, root.folder("slurm").stat().st_gid)

    def _srun_ports(self) -> str:
        first = 30000 + 100 * (self.root.port("slurmctld") % 25)  # an overlap is harmless: srun uses a free port
        return f"{first}-{first + 99}"


class Slurmdbd(_Slurm):
    """Accounting, for sacct."""

    name = "slurmdbd"
    needs = ("munge", "mariadb", "account")
    programs = ("/usr/sbin/slurmdbd", "sacctmgr")

    def command(self) -> list[str]:
        """The argv."""
        return ["/usr/sbin/slurmdbd", "-D"]

    def environment(self) -> dict[str, str]:
        """The path of slurm.conf; slurmdbd expects its configuration in the same folder."""
        return self._env()

    def probe(self) -> str:
        """The daemon answers sacctmgr."""
        self.run_client(["sacctmgr", "-n", "-i", "list", "cluster"], self._env())
        return "sacctmgr list cluster"

    def initialize(self) -> None:
        """Register the cluster and the association of the account."""
        user = cluster_user(self.root)
        sacctmgr, env = ["sacctmgr", "-i", "-Q"], self._env()
        if CLUSTER not in self.run_client(["sacctmgr", "-n", "-P", "list", "cluster", "format=cluster"], env).split():
            self.run_client([*sacctmgr, "add", "cluster", CLUSTER], env)
        if user not in self.run_client(["sacctmgr", "-n", "-P", "list", "user", "format=user"], env).split():
            with contextlib.suppress(Unhealthy):  # exists already
                self.run_client([*sacctmgr, "add", "account", "lab", "Description=lab", "Organization=lab"], env)
            self.run_client([*sacctmgr, "add", "user", user, "Account=lab"], env)


class Slurmctld(_Slurm):
    """The controller."""

    name = "slurmctld"
    needs = ("munge", "slurmdbd")
    programs = ("/usr/sbin/slurmctld", "scontrol")

    def prepare(self) -> None:
        """Write the configuration and create the state folder."""
        super().prepare()
        self.root.folder("slurm/ctld", 0o755, "slurm")

    def command(self) -> list[str]:
        """The argv."""
        return ["/usr/sbin/slurmctld", "-D"]

    def probe(self) -> str:
        """``scontrol ping`` prints UP."""
        answer = self.run_client(["scontrol", "ping"], self._env())
        if " is UP" not in answer:
            raise Unhealthy(answer.strip())
        return "scontrol ping"

    def before_down(self) -> None:
        """Cancel all jobs and wait for their end, before the nodes are stopped."""
        with contextlib.suppress(Unhealthy):
            self.run_client(["scancel", "-u", cluster_user(self.root)], self._env())
            deadline = time.monotonic() + 10
            while self.run_client(["squeue", "-h"], self._env()).strip() and time.monotonic() < deadline:
                time.sleep(0.1)


class Slurmd1(_Slurm):
    """Virtual node 1."""

    name = "slurmd-1"
    needs = ("slurmctld",)
    user = None
    number = 1
    programs = ("/usr/sbin/slurmd", "sinfo")

    @property
    def _node(self) -> str:
        return node_name(self.root, self.number)

    def prepare(self) -> None:
        """Create the spool folder; the controller writes the configuration."""
        self.root.folder(f"slurm/{self._node}")

    def command(self) -> list[str]:
        """The argv, with the name of the node."""
        return ["/usr/sbin/slurmd", "-D", "-N", self._node]

    def _state(self) -> str:
        return self.run_client(["sinfo", "-h", "-N", "-n", self._node, "-p", "cpu", "-o", "%t"], self._env()).strip()

    def ready(self) -> None:
        """The node is registered at the controller."""
        if (state := self._state()).endswith("*") or state.startswith(("unk", "down")):
            raise Unhealthy(f"node is {state}")

    def initialize(self) -> None:
        """Undo an earlier drain, which remains after a restart."""
        if self._state().startswith("dr"):
            self.run_client(["scontrol", "update", f"nodename={self._node}", "state=resume"], self._env())

    def probe(self) -> str:
        """Jobs can start on the node."""
        state = self._state()
        if state not in ("idle", "mix", "alloc", "comp"):
            raise Unhealthy(f"sinfo: {self._node} is {state or 'unknown'}")
        return f"sinfo: {self._node} {state}"

    def stop(self) -> bool:
        """Stop slurmd, then remove its cgroups, which it does not remove."""
        stopped = super().stop()
        for controller in CONTROLLERS:
            top = CGROUPS / controller / f"slurm_{self._node}"
            for folder in sorted(top.rglob("*/"), reverse=True) if top.is_dir() else []:
                _remove_cgroup(folder)
            _remove_cgroup(top)
        return stopped


class Slurmd2(Slurmd1):
    """Virtual node 2."""

    name = "slurmd-2"
    number = 2


def _remove_cgroup(folder: Path) -> None:
    """End remaining processes of a cgroup and remove it."""
    with contextlib.suppress(OSError):
        for word in (folder / "cgroup.procs").read_text().split():
            if process := Process.of(int(word)):
                process.stop(0)
    with contextlib.suppress(OSError):
        folder.rmdir()
