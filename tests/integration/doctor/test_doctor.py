"""The tests break one thing after the other on a real cluster; the doctor must find it and name the line to change."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from biomeroworker.config import Settings
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.doctor.examination import Finding
from tests.sandbox_fixtures import Sandbox

DESCRIPTOR = (
    """{"name": "W", "schema-version": "cytomine-0.1", "inputs": [], "container-image": {"image": "lab/w:v1"}}"""
)


@dataclass
class ChangedSite:
    """A configuration on the sandbox's cluster that a test changes line by line."""

    cluster: Sandbox
    folder: Path
    home: str
    lines: dict[str, dict[str, str]]
    shims: list[Path] = field(default_factory=list)

    def set(self, section: str, **keys: str) -> None:
        """Change the ini; an empty value removes a key."""
        self.lines.setdefault(section, {}).update(keys)

    def doctor(self, **how: bool | int) -> dict[str, Finding]:
        """The findings, by subject."""
        text = "\n".join(
            f"[{name}]\n" + "\n".join(f"{key.replace('__', '-')} = {value}" for key, value in keys.items())
            for name, keys in self.lines.items()
        )
        config = self.folder / "site.ini"
        config.write_text(text)
        deployment = Deployment(Settings.load(config, {"HOME": str(self.folder)}, standard=[]))
        return {finding.subject: finding for finding in deployment.doctor(**how)}  # type: ignore[arg-type]

    def line(self, key: str) -> str:
        """File name and line number of a key of the ini."""
        text = (self.folder / "site.ini").read_text().splitlines()
        return f"site.ini:{next(number for number, line in enumerate(text, 1) if line.startswith(key))}:"

    def shim(self, program: str, script: str) -> None:
        """Put a program of this name in front of the account's PATH."""
        folder = Path(self.home) / "shims"
        folder.mkdir(exist_ok=True)
        (folder / program).write_text(f"#!/bin/sh\n{script}\n")
        (folder / program).chmod(0o755)
        self.bashrc(f"export PATH={folder}:$PATH")

    def bashrc(self, line: str) -> None:
        """A line of the account's start-up file, which commands over SSH read too."""
        file = Path(self.home) / ".bashrc"
        with file.open("a") as stream:
            stream.write(line + "\n")
        self.shims.append(file)

    def restore(self) -> None:
        """Undo the changes on the cluster."""
        for file in self.shims:
            file.unlink(missing_ok=True)
        shutil.rmtree(Path(self.home) / "shims", ignore_errors=True)

    def key(self, *, passphrase: str = "", mode: int = 0o600) -> Path:
        """A new key as the only one of the SSH configuration."""
        file = self.folder / "key"
        file.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", file], check=True, timeout=30)
        file.chmod(mode)
        self.ssh(f"IdentityFile {file}")
        return file

    def ssh(self, *first: str) -> None:
        """An SSH configuration whose lines win over the sandbox's."""
        own = self.folder / "ssh_config"
        given = Path(self.cluster.env["SSH_CONFIG"]).read_text().splitlines()
        if any(line.startswith("IdentityFile") for line in first):
            given = [line for line in given if "identityfile" not in line.lower()]
        own.write_text("\n".join([*first, *given]))
        self.set("SSH", config_file=str(own))


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("w")
    (folder / "descriptor.json").write_text(DESCRIPTOR)
    return folder


@pytest.fixture
def deployment(cluster: Sandbox, workflow: Path, tmp_path: Path) -> Iterator[ChangedSite]:
    home = cluster.env["CLUSTER_HOME"]
    done = cluster.ssh("mkdir", "-p", "doctor/data", "doctor/images", "doctor/converters")
    assert done.returncode == 0, done.stderr
    lines = {
        "SSH": {"host": cluster.env["SSH_HOST"], "config_file": cluster.env["SSH_CONFIG"]},
        "SLURM": {
            "slurm_data_path": "doctor/data",
            "slurm_images_path": f"{home}/doctor/images",
            "slurm_converters_path": f"{home}/doctor/converters",
            "sbatch_mem": "100M",
        },
        "WORKFLOWS": {"w": "w", "w_repo": str(workflow), "w_job_cpus-per-task": "1"},
    }
    made = ChangedSite(cluster, tmp_path, home, lines)
    yield made
    made.restore()


def test_a_correct_site_has_no_failures(deployment: ChangedSite) -> None:
    found = deployment.doctor()
    for subject in ("database", "work folder", "host key", "ssh", "clock", "environment", "slurm", "sacct", "account",
                    "slurm_data_path", "partition cpu", "sbatch for w", "workflow w"):  # fmt: skip
        assert found[subject].level in ("ok", "warn"), found[subject]
    assert "GB free" in found["slurm_data_path"].message
    assert found["image of w"].level == "fail"
    assert "biomeroworker init" in found["image of w"].remedy


Wrong = tuple[str, str, str, str, str]

#: Wrong lines whose findings do not hide each other: section, key, value, subject and message of the finding.
WRONG: list[list[Wrong]] = [
    [
        ("SLURM", "slurm_default_partition", "down", "partition down", "is DOWN"),
        ("SLURM", "gpu_partition", "nope", "partition nope", "the cluster has cpu"),
        ("SLURM", "slurm_data_path", "/proc/data", "slurm_data_path", "the account cannot write to"),
        ("SLURM", "slurm_images_path", "doctor/none", "slurm_images_path", "does not exist"),
        ("SLURM", "slurm_converters_path", "/etc", "slurm_converters_path", "is not writable"),
        ("SLURM", "sbatch_part", "cpu", "options of w", "must be written in full: partition"),
        ("WORKFLOWS", "w_repo", "/nowhere", "workflow w", "no descriptor there"),
        ("ACCOUNTS", "required", "true", "account", "assigns no account"),
        ("WORKER", "work_folder", "/etc/passwd/x", "work folder", "is not writable"),
    ],
    [
        ("SLURM", "free_space_gb", "9999999", "slurm_data_path", "must stay free"),
        ("SLURM", "sbatch_mem", "500G", "sbatch for w", "configuration is not available"),
        ("WORKFLOWS", "v_job_time", "90-0", "sbatch for v", "time limit"),
        ("WORKFLOWS", "u_job_gres", "gpu:9", "sbatch for u", "configuration is not available"),
        ("WORKFLOWS", "t_job_frobnicate", "1", "sbatch for t", "unrecognized option"),
        ("WORKFLOWS", "s_job_partition", "nope", "sbatch for s", "nvalid partition"),
        ("ACCOUNTS", "group.Cell Lab", "nobody", "account", "no account 'nobody' in SLURM; it has lab"),
        ("ANALYTICS", "sqlalchemy_url", "postgresql+psycopg2://x@127.0.0.1:1/x", "database", "refused"),
    ],
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_finding_names_the_wrong_line(deployment: ChangedSite, wrong: list[Wrong]) -> None:
    for section, key, value, _, _ in wrong:
        workflow = key.partition("_job_")[0]
        if workflow != key:
            deployment.set(section, **{workflow: "w", f"{workflow}_job_mem": "100M"})
        deployment.set(section, **{key: value})
    found = deployment.doctor()
    for _, key, _, subject, message in wrong:
        finding = found[subject]
        assert finding.level == ("warn" if key.startswith("group.") else "fail"), finding
        assert message in finding.message, finding
        assert deployment.line(key) in finding.setting, finding


@pytest.mark.slow
def test_a_workflow_that_would_get_no_gpu_is_a_failure(deployment: ChangedSite) -> None:
    deployment.set("WORKFLOWS", w_use_gpu="true")
    finding = deployment.doctor()["gpu"]
    assert (finding.level, finding.setting) == ("fail", "[SLURM] gpu_gres")


SHIMS = [
    [
        ("date", '[ "$1" = +%s ] && exec /bin/date -d "+1 day" +%s; exec /bin/date "$@"', "clock", "fail", "s apart"),
        ("sacct", "echo 'sacct: error: slurm_persist_conn_open' >&2; exit 1", "sacct", "warn", "does not answer"),
        ("quota", "echo 'Disk quotas'; echo '/dev/sda1 950 900 1000 6days 5 0 0'", "quota", "fail", "/dev/sda1: full"),
        ("apptainer", "echo 'FATAL: no user namespaces' >&2; exit 255", "container runtime", "fail", "no user namesp"),
    ],
    pytest.param(
        [("squeue", "echo '987654|COMPLETED'", "sacct", "warn", "no final state yet for 1 of 1")],
        marks=pytest.mark.slow,
    ),
    pytest.param(
        [("scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1", "slurm", "fail", "does not answer")],
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize("shims", SHIMS)
def test_faults_of_the_front_end_are_found(
    deployment: ChangedSite, shims: list[tuple[str, str, str, str, str]]
) -> None:
    for program, script, *_ in shims:
        deployment.shim(program, script)
    deployment.bashrc("export SBATCH_PARTITION=short")
    found = deployment.doctor()
    for _, _, subject, level, message in shims:
        assert (found[subject].level, message in found[subject].message) == (level, True), found[subject]
    assert (found["environment"].level, "SBATCH_PARTITION" in found["environment"].message) == ("warn", True)


def test_a_key_that_others_can_read_is_a_failure(deployment: ChangedSite) -> None:
    file = deployment.key(mode=0o644)
    finding = deployment.doctor()[f"ssh key {file}"]
    assert (finding.level, finding.remedy) == ("fail", f"chmod 600 {file}")


def test_a_key_with_a_passphrase_needs_an_agent(deployment: ChangedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    file = deployment.key(passphrase="open sesame")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    found = deployment.doctor()
    assert found[f"ssh key {file}"].level == "fail"
    assert "ssh-add" in found[f"ssh key {file}"].remedy
    assert found["ssh"].level == "fail"

    socket = deployment.folder / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        program = deployment.folder / "askpass"
        program.write_text("#!/bin/sh\necho open sesame\n")
        program.chmod(0o700)
        askpass = {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"}
        environment = {**os.environ, "SSH_AUTH_SOCK": str(socket), **askpass}
        added = ["sh", "-c", 'for i in 1 2 3 4 5 6 7 8 9; do ssh-add "$0" && exit; sleep 0.2; done; exit 1', file]
        subprocess.run(added, env=environment, check=True, timeout=30, capture_output=True)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        finding = deployment.doctor()[f"ssh key {file}"]
        assert (finding.level, "the agent has the key" in finding.message) == ("ok", True)
    finally:
        agent.terminate()
        agent.wait(10)


@pytest.mark.slow
def test_a_file_that_is_not_a_key_is_a_failure(deployment: ChangedSite) -> None:
    file = deployment.key()
    file.write_text("not a key\n")
    finding = deployment.doctor()[f"ssh key {file}"]
    assert (finding.level, "is not a private key" in finding.message) == ("fail", True)


def test_without_any_key_the_finding_names_the_files_that_were_tried(
    deployment: ChangedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    deployment.ssh(f"IdentityFile {deployment.folder}/absent")
    assert f"{deployment.folder}/absent" in deployment.doctor()["ssh key"].message


def test_an_unknown_host_key_is_a_failure_with_a_remedy(deployment: ChangedSite) -> None:
    (deployment.folder / "hosts").write_text("")
    deployment.ssh(f"UserKnownHostsFile {deployment.folder}/hosts", "GlobalKnownHostsFile /dev/null")
    found = deployment.doctor()
    assert found["host key"].level == "fail"
    assert "ssh-keyscan" in found["host key"].remedy
    assert found["ssh"].level == "fail"


def test_unchecked_host_keys_are_a_failure(deployment: ChangedSite) -> None:
    deployment.ssh("StrictHostKeyChecking no")
    found = deployment.doctor()
    assert (found["host key"].level, found["ssh"].level) == ("fail", "fail")


def test_an_unreachable_host_is_a_failure_with_its_line(deployment: ChangedSite) -> None:
    deployment.ssh("HostName 127.0.0.1", "Port 1")
    found = deployment.doctor()
    assert found["ssh"].level == "fail"
    assert deployment.line("host") in found["ssh"].setting
    assert "slurm" not in found, "no finding about parts that could not be examined"


def test_each_cluster_has_its_own_findings(deployment: ChangedSite) -> None:
    deployment.lines["SSH:second"] = dict(deployment.lines["SSH"])
    deployment.lines["SLURM:second"] = {**deployment.lines["SLURM"], "slurm_default_partition": "nope"}
    deployment.set("WORKFLOWS", w_cluster="second")
    found = deployment.doctor()
    assert found["second: partition nope"].level == "fail"
    assert "[SLURM:second] slurm_default_partition" in found["second: partition nope"].setting
    assert "ssh" not in found, "nothing runs on the cluster without a name here"


# -- nodes -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def as_admin(cluster: Sandbox) -> Callable[..., str]:
    """SLURM's commands as root."""

    def run(*argv: str) -> str:
        environment = {**os.environ, "SLURM_CONF": cluster.env["SLURM_CONF"]}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_each_node_is_probed_by_a_job(deployment: ChangedSite, as_admin: Callable[..., str]) -> None:
    first, second = deployment.cluster.env["CLUSTER_NODES"].split(",")
    as_admin("scontrol", "update", f"nodename={second}", "state=drain", "reason=new disk")
    try:
        found = deployment.doctor(probe_nodes=True, deadline=60)
    finally:
        as_admin("scontrol", "update", f"nodename={second}", "state=resume")
    assert found[f"node {first}"].level in ("ok", "fail"), found[f"node {first}"]
    assert "does not see" not in found[f"node {first}"].message
    assert (found[f"node {second}"].level, "new disk" in found[f"node {second}"].message) == ("warn", True)
    assert found["partition cpu"].message.startswith("1 of 2 nodes")
    home = Path(deployment.home)
    assert not list((home / "doctor/data").glob(".probe-*")), "nothing is left behind"
    assert "biomero-probe" not in as_admin("squeue", "-h", "-o", "%j")


def test_a_node_that_does_not_see_the_folders_is_a_failure(deployment: ChangedSite) -> None:
    # a path that leads somewhere only from the home folder, where commands over SSH start, and probes do not
    link = Path(deployment.home) / "doctor/only-here"
    link.unlink(missing_ok=True)
    link.symlink_to("/proc/self/cwd/doctor")
    deployment.set("SLURM", slurm_data_path="doctor/only-here/data", slurm_images_path="doctor/only-here/images")
    first = deployment.cluster.env["CLUSTER_NODES"].split(",")[0]
    finding = deployment.doctor(probe_nodes=True, deadline=60)[f"node {first}"]
    assert finding.level == "fail"
    assert "does not see the data folder" in finding.message
    assert deployment.line("slurm_data_path") in finding.setting
    assert f"sbatch_exclude = {first}" in finding.remedy


@pytest.mark.slow
def test_a_busy_node_is_a_warning_not_a_failure(deployment: ChangedSite, as_admin: Callable[..., str]) -> None:
    first = deployment.cluster.env["CLUSTER_NODES"].split(",")[0]
    sleeper = deployment.cluster.ssh(
        "sbatch", "--parsable", "--partition=cpu", "--exclusive", f"--nodelist={first}", "--time=5",
        "--output=/dev/null", "--wrap='sleep 100'",
    )  # fmt: skip
    try:
        found = deployment.doctor(probe_nodes=True, deadline=5)
    finally:
        as_admin("scancel", sleeper.stdout.strip())
    assert found[f"node {first}"].level == "warn", found[f"node {first}"]
    assert "did not end within 5 s" in found[f"node {first}"].message
