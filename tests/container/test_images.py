"""The images of the Dockerfile: what is in them, what is not, and what they do when they are started."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.container import bases, images
from tests.container.bases import PREFIX
from tests.container.engine import Engine
from tests.container.images import CHECKOUT, REVISION, SOURCE, Built, version

#: What the images may add to their base. Measured: 520 MB, most of it numpy, scipy, pandas and OMERO's clients.
ADDED_BYTES = 600 * 10**6

#: What the entry point insists on before it runs a command.
VARIABLES = {
    "node": {"CONFIG_omero_master_host": "omeroserver", "OMERO_WORKER_NAME": "biomeroworker"},
    "attached": {"OMERO_HOST": "omeroserver", "OMERO_PASSWORD": "not-used-here"},
}
TARGETS = tuple(VARIABLES)


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def image(request: pytest.FixtureRequest, target: str) -> Built:
    built: Built = request.getfixturevalue(f"{target}_image")
    return built


def output(engine: Engine, image: Built, *argv: str) -> str:
    """What a program of the image prints; it must succeed."""
    done = engine.in_image(image.tag, *argv)
    assert done.status == 0, done.errors
    return (done.output + done.errors).strip()


def test_its_program_has_this_version(engine: Engine, image: Built) -> None:
    assert output(engine, image, "biomeroworker", "--version") == version()


def test_scripts_of_others_find_their_libraries(engine: Engine, image: Built) -> None:
    modules = "omero, omero.gateway, ezomero, omero_zarr, omero_metadata, biomero, biomero.slurm_client"
    assert output(engine, image, "python", "-c", f"import {modules}; print(biomero.__file__)").startswith("/opt/")


def test_libraries_work_without_their_test_suites(engine: Engine, image: Built) -> None:
    modules = "numpy.testing, scipy.ndimage, scipy.stats, pandas, skimage.measure, dask.array, networkx, zarr, s3fs"
    assert output(engine, image, "python", "-c", f"import {modules}; print('imported')") == "imported"


def test_the_omero_command_knows_its_plugins(engine: Engine, image: Built) -> None:
    assert "zarr" in output(engine, image, "omero", "help", "--list").split()


def test_it_has_the_ssh_client(engine: Engine, image: Built) -> None:
    assert output(engine, image, "ssh", "-V").startswith("OpenSSH_")


@pytest.mark.parametrize("program", ["cc", "gcc", "g++", "c++", "clang", "make", "ld", "as", "pip"])
def test_it_has_nothing_that_builds_programs(engine: Engine, image: Built, program: str) -> None:
    assert engine.in_image(image.tag, "sh", "-c", f"command -v {program}").output == ""


def test_no_file_of_the_build_is_left(engine: Engine, image: Built) -> None:
    places = "/build /layers /root/.cache /var/lib/apt/lists/* /var/cache/apt/*.bin /tmp/* /run/secrets/*"
    assert engine.in_image(image.tag, "sh", "-c", f"ls -d {places}", user="0").output == ""


def test_its_processes_are_not_root(engine: Engine, image: Built) -> None:
    assert engine.inspect(image.tag)["Config"]["User"] == "1000"
    assert output(engine, image, "id", "-u") == "1000"


@pytest.mark.parametrize("user", ["1000", "0"])
def test_its_entry_point_drops_root(engine: Engine, image: Built, target: str, user: str) -> None:
    variables = [f"--env={name}={value}" for name, value in VARIABLES[target].items()]
    mount = f"--volume={CHECKOUT}/slurm-config.ini:/etc/slurm-config.ini:ro"
    argv = ["run", "--rm", "--network=none", f"--user={user}", mount, *variables, image.tag]
    assert engine.run(*argv, "sh", "-c", "id -u; echo $HOME; id -un").split() == [
        "1000",
        {"node": "/opt/omero/server", "attached": "/home/biomeroworker"}[target],
        {"node": "omero-server", "attached": "biomeroworker"}[target],
    ]


def test_its_account_may_write_into_the_state_folder(engine: Engine, image: Built) -> None:
    """A named volume that is mounted there takes over the owner."""
    folder = output(engine, image, "sh", "-c", "echo $HOME/.local/state/biomeroworker")
    argv = ["run", "--rm", "--network=none", f"--volume={folder}", "--entrypoint=touch", image.tag, f"{folder}/file"]
    engine.run(*argv)


def test_it_cannot_change_its_own_programs(engine: Engine, image: Built) -> None:
    folders = ("/opt/biomeroworker", "/startup", "/usr/local/bin", "/etc/passwd")
    assert output(engine, image, "find", *folders, "-writable", "-not", "-type", "l") == ""


def test_a_missing_variable_is_one_line_and_status_1(engine: Engine, image: Built) -> None:
    done = engine.attempt("run", "--rm", "--network=none", image.tag)
    assert done.status == 1
    errors = [line for line in done.errors.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert "is not set" in errors[0]


def test_a_forgotten_configuration_is_one_line_and_status_1(engine: Engine, image: Built, target: str) -> None:
    """No sample of the image stands in for the file."""
    variables = [f"--env={name}={value}" for name, value in VARIABLES[target].items()]
    done = engine.attempt("run", "--rm", "--network=none", *variables, image.tag)
    assert done.status == 1
    errors = [line for line in done.errors.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert "mount your slurm-config.ini" in errors[0]


def test_the_startup_scripts_of_the_base_are_gone(engine: Engine, node_image: Built) -> None:
    assert engine.in_image(node_image.base, "cat", "/startup/50-config.sh").status == 0
    found = output(engine, node_image, "sh", "-c", "cd /startup && ls [0-9]*").split()
    assert found == sorted(file.name for file in (CHECKOUT / "startup").glob("[0-9]*"))
    config = engine.inspect(node_image.tag)["Config"]
    assert config["Entrypoint"] == ["/usr/local/bin/biomeroworker-entrypoint"]
    assert not config["Cmd"]


def test_its_labels_name_its_source(engine: Engine, image: Built) -> None:
    labels = engine.inspect(image.tag)["Config"]["Labels"]
    prefix = "org.opencontainers.image."
    assert {name.removeprefix(prefix): value for name, value in labels.items() if name.startswith(prefix)} == {
        "title": labels[f"{prefix}title"],
        "version": version(),
        "revision": REVISION,
        "source": SOURCE,
        "licenses": "GPL-2.0-or-later",
        "base.name": image.base,
    }


def test_its_health_check_reports_what_is_wrong(engine: Engine, image: Built, target: str) -> None:
    check = engine.inspect(image.tag)["Config"]["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    variables = [f"--env={name}={value}" for name, value in VARIABLES[target].items()]
    argv = ["run", "--rm", "--network=none", *variables, f"--entrypoint={check[1]}", image.tag, *check[2:]]
    done = engine.attempt(*argv)
    assert (done.status, done.output) == (1, "the supervisor is not running\n")


def test_it_adds_little_to_its_base(
    engine: Engine, image: Built, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    size, base = (engine.inspect(tag)["Size"] for tag in (image.tag, image.base))
    added = (size - base) / 1e6
    with capsys.disabled():
        print(f"\n{target}: {added:.0f} MB over its base ({size / 1e6:.0f} MB), built in {image.seconds:.0f} s")
    assert size - base <= ADDED_BYTES


def test_hadolint_has_no_complaint() -> None:
    files = [CHECKOUT / "Dockerfile", *(CHECKOUT / "tests/container/bases").glob("*.Dockerfile")]
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), *files], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


# -- builds ------------------------------------------------------------------------------------------------------------

#: Planted in what the build is given as secrets, and looked for in the image.
MARK = "planted-7d1f0c5e9a"


@pytest.fixture(scope="session")
def rebuilt_image(
    engine: Engine, attached_image: Built, build_context: Path, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    """The target `attached` once more, without the layers that Docker has, and with a mark in each secret."""
    options = ["--no-cache", *images.secrets(tmp_path_factory.mktemp("secrets"), mark=MARK)]
    return images.build(engine, build_context, "attached", attached_image.base, suffix="-again", options=options)


def test_a_second_build_makes_the_same_layers(engine: Engine, attached_image: Built, rebuilt_image: Built) -> None:
    first, second = (engine.inspect(one.tag)["RootFS"]["Layers"] for one in (attached_image, rebuilt_image))
    base = engine.inspect(attached_image.base)["RootFS"]["Layers"]
    assert first[: len(base)] == second[: len(base)]
    packages = len(base)  # the layer after the base's: OS packages, which have the time of their installation
    assert len(first) > packages + 3
    assert first[packages + 1 :] == second[packages + 1 :]


def test_the_secrets_of_a_build_are_in_no_layer(engine: Engine, rebuilt_image: Built) -> None:
    argv = ["/usr/bin/docker", "save", rebuilt_image.tag]
    found = {MARK: 0, REVISION: 0}  # the revision is in the labels: what is searched is the whole image
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=engine.environment) as process:
        assert process.stdout is not None
        rest = b""
        while block := process.stdout.read(1 << 24):
            for text in found:
                found[text] += (rest + block).count(text.encode())
            rest = block[-100:]
    assert process.returncode == 0
    assert found[REVISION] > 0
    assert found[MARK] == 0


def test_a_base_without_python_is_refused_at_once(engine: Engine, build_context: Path, debian_image: str) -> None:
    done = images.attempt_build(engine, build_context, "attached", arguments={"ATTACHED_BASE": debian_image})
    assert done.status != 0
    assert "the base image has no python3.11; name its Python 3.11 with --build-arg PYTHON=PATH" in done.errors


def test_bioformats2raw_is_unpacked_where_its_checksum_is_given(engine: Engine, build_context: Path) -> None:
    base = bases.built(engine, "bioformats2raw", bases.built(engine, "node"))
    checksum = output(engine, Built(base, base, 0), "sha256sum", "/bioformats2raw-1.0.zip").split()[0]
    arguments = {
        "NODE_BASE": base,
        "BIOFORMATS2RAW_VERSION": "1.0",
        "BIOFORMATS2RAW_URL": "file:///bioformats2raw-1.0.zip",
        "BIOFORMATS2RAW_SHA256": checksum,
    }
    tag = f"{PREFIX}/bioformats2raw:latest"
    done = images.attempt_build(engine, build_context, "bioformats2raw", tag=tag, arguments=arguments)
    assert done.status == 0, done.errors
    program = "/layers/bioformats2raw/opt/bioformats2raw/bin/bioformats2raw"
    assert engine.in_image(tag, program, "--version").output == "1.0\n"

    arguments["BIOFORMATS2RAW_SHA256"] = "0" * 64
    done = images.attempt_build(engine, build_context, "bioformats2raw", arguments=arguments)
    assert done.status != 0
    assert f"has the checksum {checksum}, expected is {'0' * 64}" in done.errors


@pytest.mark.slow
def test_the_ice_wheel_is_built_from_source_where_none_is_given(
    engine: Engine, build_context: Path, attached_image: Built, tmp_path: Path
) -> None:
    """Five minutes of compiling."""
    context = tmp_path / "context"
    shutil.copytree(build_context, context)
    for wheel in (context / "container/image/wheels").glob("*.whl"):
        wheel.unlink()
    built = images.build(engine, context, "attached", attached_image.base)
    assert output(engine, built, "python", "-c", "import Ice; print(Ice.stringVersion())") == "3.6.5"
    assert engine.in_image(built.tag, "sh", "-c", "command -v g++").output == ""
