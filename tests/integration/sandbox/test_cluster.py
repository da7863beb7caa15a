"""What a user of the sandbox's cluster can do there."""

from __future__ import annotations

import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.parts.slurm import has_cgroups
from tests.sandbox_fixtures import Sandbox

pytestmark = pytest.mark.sandbox


def test_the_login_node_has_slurm_and_refuses_other_users(cluster: Sandbox) -> None:
    assert cluster.ssh("id", "-un").stdout.strip() == cluster.env["CLUSTER_USER"]
    assert cluster.ssh("echo $SLURM_CONF").stdout.strip() == cluster.env["SLURM_CONF"]
    config = ["ssh", "-F", cluster.env["SSH_CONFIG"], cluster.env["SSH_HOST"]]
    root = subprocess.run([*config, "-l", "root", "true"], capture_output=True, text=True, timeout=30)
    assert "Permission denied" in root.stderr
    stranger = [*config[:3], "-o", "UserKnownHostsFile=/dev/null", config[3], "true"]
    assert "Host key verification failed" in subprocess.run(stranger, capture_output=True, text=True, timeout=30).stderr


def test_a_job_runs_and_accounting_has_its_final_state(cluster: Sandbox) -> None:
    done = cluster.ssh("sbatch", "--wait", "--parsable", "--job-name=three", text="#!/bin/bash\nhostname\nexit 3\n")
    assert done.returncode == 3, done.stderr
    number = done.stdout.strip()
    deadline = time.monotonic() + 20
    row = ""
    while time.monotonic() < deadline and not row.startswith("three|FAILED|3:0"):
        time.sleep(0.5)
        row = cluster.ssh("sacct", "-nXPj", number, "-o", "jobname,state,exitcode,nodelist").stdout.strip()
    assert row.startswith("three|FAILED|3:0")
    assert row.rpartition("|")[2] in cluster.env["CLUSTER_NODES"].split(",")


def test_a_job_on_each_node_at_once(cluster: Sandbox) -> None:
    done = cluster.ssh("srun", "-N2", "printenv", "SLURMD_NODENAME")
    assert sorted(done.stdout.split()) == cluster.env["CLUSTER_NODES"].split(",")


def test_a_job_out_of_memory_is_reported_as_such_with_cgroups(cluster: Sandbox) -> None:
    if not has_cgroups():
        pytest.skip("no cgroup v1 controllers to write to")
    hog = "#!/bin/bash\nhead -c 200m /dev/zero | tail -c 200m >/dev/null\n"
    number = cluster.ssh("sbatch", "--wait", "--parsable", "--mem=32M", text=hog).stdout.strip()
    assert "JobState=OUT_OF_MEMORY" in cluster.ssh("scontrol", "show", "job", number).stdout


def test_jobs_run_without_cgroups_too(new_sandbox: Callable[[], Sandbox], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_CGROUPS", "no")
    sandbox = new_sandbox()
    sandbox.up("cluster")
    assert "proctrack/linuxproc" in sandbox.ssh("scontrol", "show", "config").stdout
    assert sandbox.ssh("srun", "echo", "ran").stdout == "ran\n"
    assert sandbox.run("down", "--purge").returncode == 0


def test_apptainer_pulls_from_the_registry_and_runs_a_container_in_a_job(
    apptainer: Sandbox, registry: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    programs = ["/bin/sh", "/bin/cat"]
    linked = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    libraries = {word for word in linked.split() if word.startswith("/") and not word.endswith(":")}
    for file in [*programs, *libraries]:
        target = root / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(file).read_bytes())
        target.chmod(0o755)
    (root / "greeting").write_text("from the registry\n")
    with tarfile.open(tmp_path / "layer.tar", "w") as layer:
        layer.add(root, arcname=".")
    source, target = f"tarball:{tmp_path / 'layer.tar'}", f"docker://{registry}/lab/greeting:v1"
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", source, target]
    subprocess.run(copy, check=True, timeout=60)
    pulled = apptainer.ssh("apptainer", "pull", "--force", "--no-https", "greeting.sif", target)
    assert pulled.returncode == 0, pulled.stderr
    job = "#!/bin/bash\napptainer -s exec greeting.sif cat /greeting\napptainer -s exec greeting.sif sh -c 'exit 7'\n"
    done = apptainer.ssh("sbatch", "--wait", "--output=greeting.txt", text=job)
    assert done.returncode == 7
    assert apptainer.ssh("cat", "greeting.txt").stdout.strip() == "from the registry"
