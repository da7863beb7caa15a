"""The contract of container runtimes: Apptainer and Charliecloud on a real cluster with real registries, and the fake.

Singularity has the same command line as Apptainer (`test_runtime_commands.py`).
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.cluster.containers.charliecloud import Charliecloud
from biomeroworker.cluster.containers.runtime import Runtime
from biomeroworker.cluster.transport.openssh import OpenSshTransport
from biomeroworker.cluster.transport.transport import Completed
from biomeroworker.errors import Blocked, Permanent, Transient
from tests.fakes.runtime import FakeRuntime
from tests.fakes.transport import FakeTransport
from tests.registries import busybox_image, own_registry, push

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(600)]

ENTRY = """#!/bin/sh
echo "home=$HOME cwd=$(pwd)"
echo "pythonpath=${PYTHONPATH:-none} gpus=${CUDA_VISIBLE_DEVICES:-none} colour=${COLOUR:-none}"
for word do printf 'word=%s\\n' "$word"; done
case ${1:-} in
  write) echo written > "$2" ;;
  exit) exit "$2" ;;
  die) kill -"$2" $$ ;;
esac
"""

#: What a shell, an option parser or a careless hand might make something of.
WORDS = [
    "a b", "$(touch /tmp/executed)", "`id`", "$HOME", "${HOME}", "'", '"', "*", "?", "~", "--flag=x y", "a\\b", "\\",
    "\\\\", "-n", "--", "--help", "-b/etc:/x", "é", "測定", "", " ", "a\nb", "\n", "\t", "a;id", "a&&id", "|id",
    ">x", "#x", "!x", "%s", "{a,b}", "[x]", "a'b\"c", "$'x'", "\\$(id)", "=x", "\x7f",
]  # fmt: skip


#: What takes several pulls: of the slowest of the three only with ``-m "slow or not slow"``.
dear = pytest.mark.parametrize(
    "world",
    ["fake", "apptainer", pytest.param("charliecloud", marks=pytest.mark.slow)],
    indirect=True,
    scope="module",
)


@dataclass
class World:
    """A runtime, a cluster that has it, and a registry with ``w_contract`` in two versions."""

    name: str
    site: Cluster
    image: str
    pulled: dict[str, str] = field(default_factory=dict)

    @property
    def is_real(self) -> bool:
        return self.name != "fake"

    def path(self, tag: str = "v1.9") -> str:
        """The path of the image, pulled once."""
        if tag not in self.pulled:
            self.pulled[tag] = self.site.images.pull("workflows/contract", f"{self.image}:{tag}").path
        return self.pulled[tag]

    def folder(self) -> str:
        """A run's folder."""
        folder = f"{self.site.remote_paths.data}/biomero_{uuid4()}"
        self.site.transport.make_dirs([f"{folder}/attempt-1"])
        return folder

    def run(self, folder: str, *words: str, env: tuple[str, ...] = (), tag: str = "v1.9") -> Completed:
        """The entry point, started where a job would start it."""
        prefix = self.site.runtime.run_prefix(self.path(tag), binds=[folder])
        start = ["sh", "-c", 'cd -- "$1" || exit; shift; exec "$@"', "job", f"{folder}/attempt-1", "env", *env]
        return self.site.transport.run([*start, *prefix, *words], timeout=120)

    def with_runtime(self, runtime: Runtime) -> Cluster:
        """The same cluster with another program."""
        return Cluster(self.site.transport, runtime, data="d", images=self.site.remote_paths.images, converters="c")


@pytest.fixture(scope="module")
def registries(sandbox: Any, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One image over HTTP (Apptainer) and HTTPS (Charliecloud); its reference without ``:tag``."""
    folder = tmp_path_factory.mktemp("image")
    layout = busybox_image(folder, ENTRY, {"Env": ["PATH=/bin", "COLOUR=it's blue"], "WorkingDir": "/etc"})
    for tag in ("v1.9", "v1.10"):
        push(layout, f"{registry}/lab/w_contract:{tag}")
    with own_registry(tmp_path_factory.mktemp("tls"), sandbox.path / "registry") as secure:
        yield {"apptainer": f"{registry}/lab/w_contract", "charliecloud": f"{secure}/lab/w_contract"}


@pytest.fixture(scope="module", params=["fake", "apptainer", "charliecloud"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if request.param == "fake":
        home = tmp_path_factory.mktemp("home")
        runtime: Any = FakeRuntime(home / "registry")
        for tag in ("v1.9", "v1.10"):
            runtime.put("lab/w_contract", tag, ENTRY)
        transport: Any = FakeTransport(home)
        image, folder = "lab/w_contract", "contract"
    else:
        cluster = request.getfixturevalue("charliecloud")
        image = request.getfixturevalue("registries")[request.param]
        folder = f"contract-{uuid4().hex[:8]}"
        transport = OpenSshTransport(cluster.env["SSH_HOST"], config_file=Path(cluster.env["SSH_CONFIG"]))
        if request.param == "apptainer":
            runtime = Apptainer(tmpdir=f"{folder}/tmp")
        else:
            runtime = Charliecloud(data=f"{folder}/data", tmpdir=f"{folder}/tmp")
    transport.make_dirs([f"{folder}/data"])
    site = Cluster(
        transport,
        runtime,
        data=f"{folder}/data",
        images=f"{folder}/images",
        converters=f"{folder}/converters",
        converter_images={"zarr_to_tiff": "lab/convert:v3"},
    )
    yield World(request.param, site, image)
    transport.remove(folder)
    transport.close()


# -- pulling -----------------------------------------------------------------------------------------------------------


def test_an_image_is_pulled_once_under_the_name_of_existing_deployments(world: World) -> None:
    site, suffix = world.site, world.site.runtime.suffix
    path = site.images.pull("workflows/once", f"{world.image}:v1.9").path
    assert path == f"{site.remote_paths.images}/workflows/once/w_contract_v1.9{suffix}"
    before = site.transport.run(["stat", "-c", "%i %Y", path]).stdout
    again = site.images.pull("workflows/once", f"{world.image}:v1.9")
    assert site.transport.run(["stat", "-c", "%i %Y", path]).stdout == before
    names = site.transport.list_dir(path.rpartition("/")[0])
    assert [name for name in names if not name.endswith(".entry")] == [
        f"w_contract_v1.9{suffix}", f"w_contract_v1.9{suffix}.json",
    ]  # fmt: skip  # nothing half beside it
    digest = site.transport.run(["sha256sum", path]).stdout.split()[0]
    assert again.digest == f"sha256:{digest}"
    record = json.loads(site.transport.read_from(f"{path}.json"))
    assert (record["sha256"], record["reference"]) == (digest, f"{world.image}:v1.9")
    assert record["runtime"]


def test_an_existing_image_is_found_with_its_digest_in_one_execution(world: World) -> None:
    path = world.path()
    site = world.with_runtime(world.site.runtime)
    before = site.transport.executions
    found = site.image("workflows/contract", f"{world.image}:v1.9")
    assert (found.path, found.version) == (path, "v1.9")
    assert found.digest.startswith("sha256:")
    assert site.image("workflows/contract", f"{world.image}:v1.9") == found
    assert site.transport.executions == before + 1


@dear
def test_two_concurrent_pulls_leave_one_complete_image(world: World) -> None:
    with ThreadPoolExecutor(2) as pool:
        pulls = [pool.submit(world.site.images.pull, "workflows/twice", f"{world.image}:v1.10") for _ in range(2)]
    assert all(pull.result().digest for pull in pulls)
    path = world.site.image("workflows/twice", f"{world.image}:v1.10").path
    prefix = world.site.runtime.run_prefix(path, binds=[world.folder()])
    assert "word=whole" in world.site.transport.run([*prefix, "whole"]).stdout
    assert not [name for name in world.site.transport.list_dir(path.rpartition("/")[0]) if name.startswith(".")]


@dear
def test_files_of_a_killed_pull_are_removed_and_those_of_a_running_pull_are_not(world: World) -> None:
    transport, folder = world.site.transport, f"{world.site.remote_paths.images}/workflows/left"
    for name in ("dead", "alive"):
        transport.write_file(f"{folder}/.pull-{name}/lock", b"")
        transport.write_file(f"{folder}/.pull-{name}/image", b"half")
    with held(transport, f"{folder}/.pull-alive/lock"):
        pulled = world.site.images.pull("workflows/left", f"{world.image}:v1.9").path
        names = transport.list_dir(folder)
    assert pulled.rpartition("/")[2] in names
    assert [name for name in names if name.startswith(".pull-")] == [".pull-alive"]


@contextlib.contextmanager
def held(transport: Any, lock: str) -> Iterator[None]:
    """A process on the cluster holds this lock until the block ends, for at most five minutes."""
    hold = 'cd; setsid flock "$1" sleep 300 >/dev/null 2>&1 </dev/null & echo $!'
    pid = transport.run(["sh", "-c", hold, "hold", lock]).stdout.strip()
    seen = 'cd; for n in $(seq 300); do flock -n "$1" true || exit 0; sleep 0.1; done; exit 1'
    try:
        assert transport.run(["sh", "-c", seen, "seen", lock]).ok
        yield
    finally:
        transport.run(["sh", "-c", 'kill -- "-$1"', "kill", pid])


@dear
def test_versions_are_listed_newest_first(world: World) -> None:
    site = world.site
    site.images.pull("workflows/versions", f"{world.image}:v1.9")
    site.images.pull("workflows/versions", f"{world.image}:v1.10")
    before = site.transport.executions
    assert site.versions(["workflows/versions", "workflows/none"]) == {
        "workflows/versions": ["v1.10", "v1.9"],
        "workflows/none": [],
    }
    assert site.transport.executions == before + 1
    assert site.image("workflows/versions", world.image).version == "v1.10"


def test_a_missing_image_is_reported_with_the_next_step(world: World) -> None:
    world.path()
    with pytest.raises(Permanent, match=r"v7 is not on the cluster") as caught:
        world.site.image("workflows/contract", world.image, "v7")
    assert "biomeroworker init" in caught.value.hint
    assert "v1.9" in caught.value.hint


def test_a_failed_pull_of_an_unknown_image_leaves_no_file(world: World) -> None:
    with pytest.raises(Permanent, match=r"there is no image|denies access"):
        world.site.images.pull("workflows/absent", f"{world.image}:v99")
    assert world.site.transport.list_dir(f"{world.site.remote_paths.images}/workflows/absent") == []


def test_a_registry_that_is_down_is_transient(world: World) -> None:
    if isinstance(world.site.runtime, FakeRuntime):
        world.site.runtime.fail_pull("connection refused")
    with pytest.raises(Transient):
        world.site.images.pull("workflows/absent", "127.0.0.1:9/lab/x:v1")
    if isinstance(world.site.runtime, FakeRuntime):
        world.site.runtime.fail_pull("")


def test_a_missing_container_program_is_blocked(world: World, tmp_path: Path) -> None:
    if isinstance(world.site.runtime, FakeRuntime):
        runtime: Any = FakeRuntime(tmp_path)
        runtime.missing = True
    elif isinstance(world.site.runtime, Apptainer):
        runtime = Apptainer("no-such-apptainer")
    else:
        runtime = _without_programs()
    other = world.with_runtime(runtime)
    with pytest.raises((Permanent, Blocked)) as caught:
        other.images.pull("workflows/absent", f"{world.image}:v1.9")
    assert "container_runtime" in caught.value.hint
    done = world.site.transport.run([*runtime.run_prefix(world.path(), binds=[world.folder()]), "x"])
    assert (done.returncode, done.stderr.startswith("FATAL: ")) == (255, True)


def _without_programs() -> Charliecloud:
    """Charliecloud with program names that do not exist."""

    class Missing(Charliecloud):
        program = "no-such-ch-run"

        def pull_command(self, *args: Any, **more: Any) -> list[str]:
            return [word if word != "ch-image" else "no-such-ch-image" for word in super().pull_command(*args, **more)]

    return Missing(data="d")


# -- running -----------------------------------------------------------------------------------------------------------


def test_the_entry_point_gets_its_arguments_byte_for_byte(world: World) -> None:
    done = world.run(world.folder(), *WORDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n", 2)[2] == "".join(f"word={word}\n" for word in WORDS)
    assert not Path("/tmp/executed").exists()


@pytest.mark.parametrize(("words", "code"), [(("exit", "7"), 7), (("exit", "1"), 1), (("die", "KILL"), 137)])
def test_the_exit_code_is_that_of_the_entry_point_or_of_its_signal(
    world: World, words: tuple[str, ...], code: int
) -> None:
    assert world.run(world.folder(), *words).returncode == code


def test_home_is_the_folder_of_the_run_and_the_working_folder_that_of_the_job(world: World) -> None:
    folder = world.folder()
    disguise = ("PYTHONPATH=/elsewhere", "CUDA_VISIBLE_DEVICES=1")
    done = world.run(folder, "write", f"{folder}/result", env=disguise)
    assert done.stdout.splitlines()[0] == f"home={folder} cwd={folder}/attempt-1"
    assert done.stdout.splitlines()[1].startswith("pythonpath=none gpus=1 ")
    assert world.site.transport.read_from(f"{folder}/result") == b"written\n"


def test_variables_of_the_image_override_those_of_the_job(world: World) -> None:
    if not world.is_real:
        pytest.skip("a script has no variables of its own")
    folder = world.folder()
    assert "colour=it's blue" in world.run(folder).stdout
    assert "colour=it's blue" in world.run(folder, env=("COLOUR=red",)).stdout


def test_other_runs_and_the_home_folder_are_not_visible(world: World) -> None:
    if not world.is_real:
        pytest.skip("a script runs on the machine as it is")
    mine, other = world.folder(), world.folder()
    prefix = world.site.runtime.exec_prefix(world.path(), binds=[mine])
    seen = world.site.transport.run([*prefix, "ls", world.site.remote_paths.data])
    assert mine.rpartition("/")[2] in seen.stdout.split()
    if not (mine.startswith("/tmp/") and isinstance(world.site.runtime, Apptainer)):  # /tmp is the node's, as a whole
        assert other.rpartition("/")[2] not in seen.stdout.split()


def test_an_unreadable_image_is_a_failure_of_the_runtime(world: World) -> None:
    prefix = world.site.runtime.run_prefix(f"{world.site.remote_paths.images}/none", binds=[world.folder()])
    done = world.site.transport.run([*prefix, "x"])
    assert done.returncode == 255
    assert "FATAL: " in done.stderr


def test_a_bound_folder_is_visible_under_its_own_path(world: World, make_bound: Callable[[str], Runtime]) -> None:
    elsewhere = f"{world.site.remote_paths.home}/elsewhere-{uuid4().hex[:6]}"
    world.site.transport.make_dirs([elsewhere])
    runtime = make_bound(elsewhere)
    site = Cluster(
        world.site.transport, runtime, data=world.site.remote_paths.data, images=f"{elsewhere}/images", converters="c"
    )
    path = site.images.pull("workflows/bound", f"{world.image}:v1.9").path
    done = site.transport.run([*runtime.run_prefix(path, binds=[world.folder()]), "write", f"{elsewhere}/file"])
    assert done.returncode == 0, done.stderr
    assert site.transport.read_from(f"{elsewhere}/file") == b"written\n"
    site.transport.remove(elsewhere)


@pytest.fixture
def make_bound(world: World) -> Callable[[str], Runtime]:
    """The same runtime with an additional bind."""

    def make(folder: str) -> Runtime:
        match world.site.runtime:
            case Apptainer():
                return Apptainer(binds=[folder])
            case Charliecloud():
                return Charliecloud(data=world.site.remote_paths.data, binds=[folder])
            case FakeRuntime():
                return FakeRuntime(world.site.runtime._registry, binds=[folder])
            case other:
                raise AssertionError(other)

    return make


def test_a_converter_must_be_configured_and_on_the_cluster(world: World) -> None:
    with pytest.raises(Permanent, match="is not on the cluster"):
        world.site.converter()
    with pytest.raises(Permanent, match="no converter is configured"):
        world.site.converter("tiff_to_zarr")


@dear
def test_an_outdated_image_is_reported_and_pulled_again(world: World) -> None:
    path = "workflows/outdated"
    world.site.images.pull(path, f"{world.image}:v1.9")
    match world.site.runtime:
        case FakeRuntime() as fake:
            fake.outdate("made for other folders")
            site = world.with_runtime(fake)
        case Charliecloud():
            site = world.with_runtime(Charliecloud(data="other/data"))
        case _:
            pytest.skip("an image of Apptainer does not depend on the configuration")
    with pytest.raises(Permanent, match="cannot be run") as caught:
        site.image(path, f"{world.image}:v1.9")
    assert "init" in caught.value.hint
    site.images.pull(path, f"{world.image}:v1.9")
    if isinstance(site.runtime, FakeRuntime):
        site.runtime.outdate("")
    assert site.image(path, f"{world.image}:v1.9").digest
