"""The command lines of containers: what is in them, what may not be, and what the shell parts do with hostile words."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers import apptainer, charliecloud, pull_script
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.cluster.containers.charliecloud import Charliecloud
from biomeroworker.cluster.containers.factory import binds_below_home, runtime_of
from biomeroworker.cluster.containers.runtime import Reference, RegistryCredentials, Runtime
from biomeroworker.config.cluster_settings import SlurmSettings
from biomeroworker.errors import ConfigError
from tests.fakes.transport import FakeTransport

HOSTILE = ["$(touch executed)", "`touch executed`", '"; touch executed; "', "'; touch executed; '", "a\ntouch executed"]


def settings(**values: Any) -> SlurmSettings:
    return SlurmSettings(**values)


# -- the configuration -------------------------------------------------------------------------------------------------


def test_the_configured_runtime_is_made_with_its_folders() -> None:
    one = runtime_of(settings(container_runtime="singularity", slurm_data_bind_path="/scratch, /data:/mnt:ro"))
    argv = one.run_prefix("/i.sif", binds=["/scratch/run"])
    assert one.program == "singularity"
    assert argv[argv.index("--home") :] == [
        "--home", "/scratch/run", "--bind", "/scratch/run", "--bind", "/scratch", "--bind", "/data:/mnt:ro", "/i.sif",
    ]  # fmt: skip
    other = runtime_of(settings(container_runtime="charliecloud", slurm_data_bind_path="/scratch"))
    assert (other.program, other.suffix) == ("ch-run", ".sqfs")
    assert "/scratch" in other.run_prefix("/i.sqfs", binds=["/scratch/run"])


def test_singularity_has_the_command_line_of_apptainer() -> None:
    for gpu in (False, True):
        for verb in ("run_prefix", "exec_prefix"):
            ours, theirs = (
                getattr(Apptainer(name), verb)("/i.sif", binds=["/run"], gpu=gpu)
                for name in ("apptainer", "singularity")
            )
            assert [word if word != "apptainer" else "singularity" for word in ours] == theirs
    pull = Apptainer("singularity", tmpdir="t", cachedir="c").pull_command(Reference.parse("lab/x:v1"), "/i/x_v1.sif")
    assert "singularity" in pull
    for name in ("TMPDIR", "CACHEDIR", "DOCKER_USERNAME", "DOCKER_PASSWORD"):
        assert f"SINGULARITY_{name}" in pull[2]
        assert f"APPTAINER_{name}" in pull[2]


@pytest.mark.parametrize(
    "value",
    ["/a:b", "/a:/b:exec", "/a:/b:ro:x", "/a\n/b", "-v", "/a:-b", "$SCRATCH/x", "scratch:/x", *HOSTILE],
)
def test_a_bind_of_the_ini_that_could_be_misread_is_refused(value: str) -> None:
    for name in ("apptainer", "singularity", "charliecloud"):
        with pytest.raises((ConfigError, ValidationError), match="slurm_data_bind_path"):
            runtime_of(settings(container_runtime=name, slurm_data_bind_path=value))


def test_a_relative_bind_is_below_the_home_folder(tmp_path: Path) -> None:
    slurm = settings(slurm_data_bind_path="my-scratch/data, /scratch, ~/more")
    one = Cluster(
        FakeTransport(tmp_path / "me"), runtime_of(slurm), data="d", images="i", converters="c",
        binds=binds_below_home(slurm),
    )  # fmt: skip
    words = one.runtime.exec_prefix("/i/x.sif", binds=one.binds("/d/run"))
    bound = [word for option, word in itertools.pairwise(words) if option == "--bind"]
    assert bound == ["/d/run", f"{tmp_path}/me/my-scratch/data", f"{tmp_path}/me/more", "/scratch"]


def test_a_read_only_bind_is_refused_if_it_is_not_supported() -> None:
    with pytest.raises(ConfigError, match="read-only"):
        runtime_of(settings(container_runtime="charliecloud", slurm_data_bind_path="/data:/mnt:ro"))


@pytest.mark.parametrize("folder", ["/data:/etc", "/a,b", "relative", "-b"])
def test_a_run_folder_that_a_bind_would_misread_is_refused(folder: str) -> None:
    for runtime in (Apptainer(), Charliecloud(data="d")):
        with pytest.raises(ConfigError):
            runtime.run_prefix("/x.sif", binds=[folder])


def test_a_gpu_is_requested_only_if_the_run_uses_one() -> None:
    assert "--nv" in Apptainer().run_prefix("/x.sif", binds=[], gpu=True)
    assert "--nv" not in Apptainer().run_prefix("/x.sif", binds=[])
    assert "gpu" in Charliecloud(data="d").run_prefix("/x.sqfs", binds=[], gpu=True)
    assert "gpu" not in Charliecloud(data="d").run_prefix("/x.sqfs", binds=[])


def test_certificates_are_unchecked_and_http_is_used_only_for_insecure_registries() -> None:
    for name, runtime in (
        ("--no-https", Apptainer(insecure_registries=["reg.lab:5000"])),
        ("yes", Charliecloud(data="d", insecure_registries=["reg.lab:5000"])),
    ):
        runtime_: Runtime = runtime
        for reference, unsafe in (("reg.lab:5000/x:v1", 1), ("ghcr.io/org/x:v1", 0), ("127.0.0.1:5000/x:v1", 1)):
            assert (name in runtime_.pull_command(Reference.parse(reference), "/t")) == bool(unsafe), reference


def test_a_name_and_a_password_are_in_no_argv_and_not_shown() -> None:
    login = RegistryCredentials("ada", "secret word")
    assert login.lines == b"ada\nsecret word\n"
    assert "secret" not in repr(login)
    with pytest.raises(ConfigError):
        _ = RegistryCredentials("ada", "a\nb").lines


# -- the shell parts, run with what a tester puts in the place of the programs ----------------------------------------


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for programs, first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def run(argv: Sequence[str], programs: Path, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(cwd)}
    return subprocess.run(argv, env=env, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=30)


OLD = """
case "$*" in *--help*) echo "no such words"; exit ;; inspect*) echo 'eval "set ${SINGULARITY_OCI_RUN}"'; exit ;; esac
printf 'ran:'; printf ' <%s>' "$@"
"""
OLD_IMAGE = OLD.replace("no such words", "  --no-eval   do not evaluate")
PLAIN = OLD.replace('eval "set ${SINGULARITY_OCI_RUN}"', 'exec python3 /app/main.py "$@"')
NEW = OLD_IMAGE.replace('eval "set', 'if [ -n "$SINGULARITY_NO_EVAL" ]; then exec "$@"; fi; eval "set')


@pytest.mark.parametrize("script", [OLD, OLD_IMAGE], ids=["old program", "image of an old program"])
def test_arguments_that_a_shell_would_evaluate_are_refused(programs: Path, tmp_path: Path, script: str) -> None:
    program(programs, "singularity", script)
    prefix = Apptainer("singularity").run_prefix("/i.sif", binds=["/run"])
    for word in ("$(id)", "`id`", "a\\b", 'a"b', "$HOME"):
        done = run([*prefix, "harmless", word], programs, tmp_path)
        assert done.returncode == 64, word
        assert "would evaluate" in done.stderr
        assert "ran:" not in done.stdout
    done = run([*prefix, "a b", "it's", "--flag=x", "é", "*", ";", "", "\n"], programs, tmp_path)
    assert done.stdout.endswith("</i.sif> <a b> <it's> <--flag=x> <é> <*> <;> <> <\n>")


@pytest.mark.parametrize(("script", "flag"), [(NEW, " <--no-eval>"), (PLAIN, "")], ids=["new", "no OCI image"])
def test_without_evaluation_by_a_shell_all_arguments_are_accepted(
    programs: Path, tmp_path: Path, script: str, flag: str
) -> None:
    program(programs, "singularity", script)
    done = run([*Apptainer("singularity").run_prefix("/i.sif", binds=[]), *HOSTILE], programs, tmp_path)
    assert done.stdout == f"ran: <--silent> <run>{flag} </i.sif>" + "".join(f" <{word}>" for word in HOSTILE)
    assert not (tmp_path / "executed").exists()


def test_a_path_of_the_cluster_that_looks_like_a_command_is_one_word(programs: Path, tmp_path: Path) -> None:
    program(programs, "apptainer", NEW)
    program(programs, "ch-run", 'printf "<%s>" "$@"')
    for word in HOSTILE:
        image = f"{tmp_path}/{word.replace('/', '')}.sif"
        Path(image).touch()
        Path(image + ".entry").write_bytes(b"E/run\0")
        folder = f"{tmp_path}/{word.replace(':', '')}"
        for runtime in (Apptainer(), Charliecloud(data=str(tmp_path / "elsewhere"))):
            done = run([*runtime.run_prefix(image, binds=[folder]), "x"], programs, tmp_path)
            assert f"<{image}>" in done.stdout, done.stderr
    assert not (tmp_path / "executed").exists()


FETCHED = """
case "$*" in *--version*) echo 0.31; exit ;; esac
[ -z "${CH_IMAGE_PASSWORD:-}" ] || printf '%s:%s\\n' "$CH_IMAGE_USERNAME" "$CH_IMAGE_PASSWORD" >secret
printf '<%s>' "$@" >words
while [ "$1" != -s ]; do shift; done
mkdir -p "$2/img/fetched/ch" "$2/img/fetched/bin"
cp config "$2/img/fetched/ch/config.pulled.json"
"""


@pytest.fixture
def fetching(programs: Path, tmp_path: Path) -> Path:
    program(programs, "ch-image", FETCHED)
    program(programs, "mksquashfs", 'cp "$1/ch/config.pulled.json" "$2"; (cd "$1" && find . -type d | sort) >tree')
    (tmp_path / "config").write_text(
        '{"config": {"Entrypoint": ["python3", "it\'s $(id)"], "Cmd": null, "Env": ["A=b"]}}'
    )
    return tmp_path


def test_a_charliecloud_pull_adds_mount_points_and_the_entry_point(fetching: Path, programs: Path) -> None:
    runtime = Charliecloud(data="my-scratch/data", binds=["/scratch", "/data:/mnt/data"])
    done = run(runtime.pull_command(Reference.parse("lab/x:v1"), "images/x_v1.sqfs"), programs, fetching)
    assert done.returncode == 0, done.stderr
    entry = (fetching / "images/x_v1.sqfs.entry").read_bytes().split(b"\0")
    home = str(fetching).encode()
    assert entry[:3] == [b"M" + home + b"/my-scratch/data", b"M/scratch", b"M/mnt/data"]
    assert entry[3:] == [b"VA=b", b"Epython3", b"Eit's $(id)", b""]
    tree = (fetching / "tree").read_text().split()
    assert {f".{fetching}/my-scratch/data", "./scratch", "./mnt/data", "./ch/gpu3"} <= set(tree)
    assert runtime.outdated({"mounts": ["my-scratch/data", "/scratch", "/mnt/data"]}) == ""
    assert "/mnt/data" in runtime.outdated({"mounts": ["my-scratch/data", "/scratch"]})
    assert runtime.outdated({})
    assert "--auth" not in (fetching / "words").read_text()


def test_a_link_in_place_of_a_mount_point_is_refused(fetching: Path, programs: Path) -> None:
    (programs / "ch-image").write_text((programs / "ch-image").read_text() + 'ln -s / "$2/img/fetched/scratch"\n')
    argv = Charliecloud(data="/scratch/x").pull_command(Reference.parse("lab/x:v1"), "images/x_v1.sqfs")
    done = run(argv, programs, fetching)
    assert done.returncode != 0
    assert "a link at /scratch" in done.stderr
    assert list((fetching / "images").iterdir()) == []


def test_credentials_reach_the_program_only_in_its_environment(fetching: Path, programs: Path) -> None:
    argv = Charliecloud(data="d").pull_command(Reference.parse("ghcr.io/lab/x:v1"), "images/x_v1.sqfs")
    done = run(argv, programs, fetching, RegistryCredentials("ada", "pa$$ 'w\"d`id`").lines.decode())
    assert done.returncode == 0, done.stderr
    assert (fetching / "secret").read_text() == "ada:pa$$ 'w\"d`id`\n"
    assert "--auth" in (fetching / "words").read_text()
    everything = done.stdout + done.stderr + (fetching / "images/x_v1.sqfs.json").read_text() + " ".join(argv)
    assert "pa$$" not in everything
    assert "ada" not in everything.replace(str(fetching), "")


def test_variables_of_an_image_are_not_evaluated(programs: Path, tmp_path: Path) -> None:
    program(programs, "ch-run", 'printf "<%s>" "$@"')
    image = tmp_path / "x.sqfs"
    image.touch()
    items = [
        "VGOOD=$(touch executed)",
        "Va[$(touch executed)]=1",
        "VQ=it's",
        "V=",
        "VPATH=/opt/bin",
        "VHOME=/root",
        "E/run",
    ]
    Path(f"{image}.entry").write_bytes(b"".join(item.encode() + b"\0" for item in items))
    done = run(Charliecloud(data="/d").run_prefix(str(image), binds=[]), programs, tmp_path)
    assert "<--set-env=GOOD='$(touch executed)'><--set-env=Q='it's'><--set-env=PATH='/opt/bin'>" in done.stdout
    assert "a[" not in done.stdout
    assert "HOME" not in done.stdout
    assert not (tmp_path / "executed").exists()


def test_the_nodes_nvidia_libraries_are_bound_for_a_gpu(programs: Path, tmp_path: Path) -> None:
    program(programs, "ch-run", 'printf "%s\\n" "$@"')
    known = (
        ("libcuda.so.1", "x86-64", "/usr/lib64/nvidia"), ("libcuda.so.1", "libc6", "/usr/lib"),
        ("libnvidia-ml.so.1", "x86-64", "/usr/lib64"), ("libcudart.so.12", "x86-64", "/opt/cuda"),
        ("libc.so.6", "x86-64", "/lib64"), ("libEGL_nvidia.so.0", "x86-64, OS ABI: Linux 3.2", "/usr/lib64"),
    )  # fmt: skip
    lines = "\n".join(f"\t{name} (libc6,{kind}) => {folder}/{name}" for name, kind, folder in known)
    program(programs, "ldconfig", f"cat <<'END'\n99 libs found\n{lines}\nEND")
    image, folder = tmp_path / "x.sqfs", tmp_path / "run"
    image.touch()
    Path(f"{image}.entry").write_bytes(b"E/run\0VLD_LIBRARY_PATH=/opt/lib\0")
    done = run(Charliecloud(data="/d").run_prefix(str(image), binds=[str(folder)], gpu=True), programs, tmp_path)
    (farm,) = folder.glob(".gpu-*")
    links = {link.name: str(link.readlink()) for link in farm.iterdir() if link.is_symlink()}
    assert links == {
        "libcuda.so.1": "../gpu0/libcuda.so.1", "libnvidia-ml.so.1": "../gpu1/libnvidia-ml.so.1",
        "libEGL_nvidia.so.0": "../gpu1/libEGL_nvidia.so.0",
    }  # fmt: skip
    words = done.stdout.splitlines()
    assert {"--bind=/usr/lib64/nvidia:/ch/gpu0", "--bind=/usr/lib64:/ch/gpu1", f"--bind={farm}:/ch/gpu"} <= set(words)
    assert "--set-env=LD_LIBRARY_PATH='/ch/gpu:/opt/lib'" in words


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize(
    ("shell", "script"),
    [
        ("sh", apptainer._RUN),
        ("sh", apptainer._FETCH + pull_script._FRAME),
        ("sh", charliecloud._FETCH + pull_script._FRAME),
        ("bash", charliecloud._RUN),
    ],
    ids=["apptainer run", "apptainer pull", "charliecloud pull", "charliecloud run"],
)
def test_the_shell_parts_are_clean(shell: str, script: str) -> None:
    done = subprocess.run(
        ["shellcheck", f"--shell={shell}", "-"], input=script, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout
