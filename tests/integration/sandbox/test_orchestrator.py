"""Commands `up`, `status` and `down`, with real parts."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy

from sandbox.parts import GROUPS
from sandbox.parts.apptainer import FUSE_USERS
from sandbox.parts.slurm import CGROUPS, node_name
from sandbox.processes import owned_by
from sandbox.root import Root
from tests.sandbox_fixtures import Sandbox

pytestmark = pytest.mark.sandbox


def pids(sandbox: Sandbox) -> dict[str, str]:
    return {file.stem: file.read_text() for file in (sandbox.path / "run").glob("*.pid") if "own" not in file.stem}


def down_parts(sandbox: Sandbox) -> set[str]:
    """The parts that `status` calls down (tests share a sandbox: others may have left a part of theirs down)."""
    rows = (line.split("│") for line in sandbox.run("status").stdout.splitlines() if line.startswith("│"))
    return {row[1].strip() for row in rows if row[4].strip() == "down"}


def processes_of(root: Path) -> list[str]:
    """Every process that shows `root` in its command line, environment or working directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            text += str((entry / "cwd").readlink()).encode()
        except OSError:
            continue
        if str(root).encode() in text:
            found.append(f"{entry.name} {text[:80]!r}")
    return found


def test_a_second_up_starts_nothing_new(cluster: Sandbox) -> None:
    before = pids(cluster)
    assert {"sshd", "munge", "mariadb", "slurmdbd", "slurmctld", "slurmd-1", "slurmd-2"} <= set(before)
    cluster.up("cluster")
    assert pids(cluster) == before


def test_a_killed_part_is_shown_as_down_and_restarted_by_the_next_up(cluster: Sandbox) -> None:
    before = pids(cluster)
    os.kill(int(before["slurmd-2"].split()[0]), signal.SIGKILL)
    time.sleep(0.1)
    assert cluster.run("status").returncode == 1
    assert "slurmd-2" in down_parts(cluster)
    cluster.up("cluster")
    after = pids(cluster)
    assert after.pop("slurmd-2") != before.pop("slurmd-2")
    assert after == before
    assert not down_parts(cluster) & set(GROUPS["cluster"])


def test_a_killed_database_restarts_with_its_data(sandbox: Sandbox, postgres: str) -> None:
    engine = sqlalchemy.create_engine(postgres, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (x int)")
        connection.exec_driver_sql("INSERT INTO numbers VALUES (7)")
    os.kill(int(pids(sandbox)["postgres"].split()[0]), signal.SIGKILL)
    time.sleep(0.1)
    sandbox.up("postgres")
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT x FROM numbers").scalar() == 7
        connection.exec_driver_sql("DROP TABLE numbers")


@pytest.fixture(scope="module")
def other(new_sandbox: Callable[[], Sandbox]) -> Sandbox:
    """A sandbox beside the session's. Each test starts the parts that it needs; later tests reuse their data."""
    return new_sandbox()


def test_two_sandboxes_run_side_by_side_and_stop_independently(apptainer: Sandbox, other: Sandbox) -> None:
    other.up("cluster", "apptainer")
    users = set()
    for sandbox in (apptainer, other):
        done = sandbox.ssh("srun", "-N1", "id", "-un")
        assert done.returncode == 0, done.stderr
        users.add(done.stdout.strip())
        assert done.stdout.strip() == sandbox.env["CLUSTER_USER"]
    assert len(users) == 2
    ports = [set(json.loads((s.path / "state.json").read_text())["ports"].values()) for s in (apptainer, other)]
    assert not ports[0] & ports[1]
    assert other.run("down").returncode == 0
    other.up("apptainer")
    assert (FUSE_USERS / Root(other.path).tag).exists(), "it found /dev/fuse open, but does not hold it open"
    assert other.run("down").returncode == 0
    assert not (FUSE_USERS / Root(other.path).tag).exists()
    assert not down_parts(apptainer) & {*GROUPS["cluster"], "apptainer"}  # /dev/fuse is still open for it


def test_down_leaves_no_process_no_mount_no_cgroup_and_purge_no_account(other: Sandbox) -> None:
    sandbox = other
    assert sandbox.run("down").returncode == 0
    fuse = Path("/dev/fuse").stat().st_mode
    sandbox.up("cluster", "apptainer", "postgres")
    user = sandbox.env["CLUSTER_USER"]
    job = "#!/bin/bash\nsetsid sleep 1000 &\nsleep 1000\n"
    assert sandbox.ssh("sbatch", "--wait-all-nodes=1", text=job).returncode == 0
    sandbox.ssh("nohup sleep 1000 >/dev/null 2>&1 </dev/null &")
    deadline = time.monotonic() + 20
    while "RUNNING" not in sandbox.ssh("squeue", "-h", "-o", "%T").stdout and time.monotonic() < deadline:
        time.sleep(0.2)
    down = sandbox.run("down")
    assert down.returncode == 0, down.stderr
    uid = pwd.getpwnam(user).pw_uid
    assert processes_of(sandbox.path) == []
    assert owned_by(uid) == []
    assert str(sandbox.path) not in Path("/proc/mounts").read_text()
    assert not list(CGROUPS.glob(f"*/slurm_{node_name(Root(sandbox.path), 1)}"))
    assert Path("/dev/fuse").stat().st_mode == fuse
    assert sandbox.run("status").returncode == 1
    assert sandbox.run("down", "--purge").returncode == 0
    assert not sandbox.path.exists()
    with pytest.raises(KeyError):
        pwd.getpwnam(user)


def test_a_stopped_sandbox_restarts_within_six_seconds(other: Sandbox) -> None:
    sandbox = other
    sandbox.up("cluster")
    sandbox.ssh("touch", "remains")
    assert sandbox.run("down").returncode == 0
    began = time.monotonic()
    sandbox.up("cluster")
    took = time.monotonic() - began
    assert "remains" in sandbox.ssh("ls").stdout.split()
    assert not down_parts(sandbox) & set(GROUPS["cluster"])
    assert took < 6 * max(1.0, os.getloadavg()[0] / 2)  # the aim is for a machine that has nothing else to do


def test_a_port_in_use_is_reported_with_its_part_and_the_next_step(new_sandbox: Callable[[], Sandbox]) -> None:
    sandbox = new_sandbox()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = sandbox.run("up", "--only", "registry", "--port", f"registry={port}")
    assert done.returncode == 1
    assert f"registry: port {port} on 127.0.0.1 is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_part_that_does_not_start_is_named_with_the_end_of_its_log(new_sandbox: Callable[[], Sandbox]) -> None:
    sandbox = new_sandbox()
    sandbox.up("munge")
    assert sandbox.run("down").returncode == 0
    (sandbox.path / "etc/munge/munge.key").chmod(0o644)  # munged refuses a key that others can read
    done = sandbox.run("up", "--only", "munge")
    assert done.returncode == 1
    assert done.stderr.startswith("sandbox: munge: ")
    assert str(sandbox.path / "log/munge.log") in done.stderr
    assert "should be readable" in done.stderr or "munge.key" in done.stderr


def test_status_and_env_of_a_root_where_nothing_was_started_fail(new_sandbox: Callable[[], Sandbox]) -> None:
    sandbox = new_sandbox()
    for command in ("status", "env"):
        done = sandbox.run(command)
        assert done.returncode == 1
        assert "there is no sandbox" in done.stdout + done.stderr
