"""Images from real registries, with and without a password, on the login node and in jobs; and runs on Charliecloud."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import tifffile
from typer.testing import CliRunner

from biomeroworker.cli import app
from biomeroworker.cluster.containers import registry_auth
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.cluster.containers.charliecloud import Charliecloud
from biomeroworker.cluster.containers.images import Images
from biomeroworker.cluster.containers.runtime import Runtime
from biomeroworker.cluster.paths import RemotePaths
from biomeroworker.cluster.transport.openssh import OpenSshTransport
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.errors import Permanent
from biomeroworker.eventlog.aggregates.states import RunState
from sandbox import images as samples
from sandbox.workflow import build
from tests.registries import auth_file, busybox_image, own_registry, push
from tests.sandbox_fixtures import Sandbox
from tests.site_fixtures import Site

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(600)]

LOGIN = ("ada", "pa$$ 'w\"d`id`")
ENTRY = "#!/bin/sh\nfor word do printf 'word=%s\\n' \"$word\"; done\n"


@pytest.fixture(scope="module")
def closed_registries(charliecloud: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Registries that require a password, with one image each: HTTP (Apptainer) and HTTPS (Charliecloud)."""
    folder = tmp_path_factory.mktemp("closed")
    with (
        own_registry(folder, folder / "storage", LOGIN, tls=False) as plain,
        own_registry(folder / "tls", folder / "storage", LOGIN) as secure,
    ):
        push(busybox_image(folder / "image", ENTRY), f"{plain}/lab/closed:v1", LOGIN)
        yield {"apptainer": plain, "charliecloud": secure}


@pytest.fixture
def transport(charliecloud: Sandbox) -> Iterator[OpenSshTransport]:
    env = charliecloud.env
    transport = OpenSshTransport(env["SSH_HOST"], config_file=Path(env["SSH_CONFIG"]))
    yield transport
    transport.close()


def folders(transport: OpenSshTransport, folder: str) -> RemotePaths:
    return RemotePaths(transport, data=folder, images=folder, converters=folder)


@pytest.mark.parametrize("name", ["apptainer", pytest.param("charliecloud", marks=pytest.mark.slow)])
def test_a_private_image_is_pulled_only_with_the_workers_credentials(
    transport: OpenSshTransport, closed_registries: dict[str, str], name: str, tmp_path: Path
) -> None:
    closed_registry = closed_registries[name]
    runtime: Runtime = Apptainer() if name == "apptainer" else Charliecloud(data="data")
    folder, reference = f"private-{uuid4().hex[:8]}", f"{closed_registry}/lab/closed:v1"
    with pytest.raises(Permanent, match="denies access") as caught:
        Images(transport, runtime, folders(transport, folder), {}).pull("w", reference)
    assert "registry_credentials" in caught.value.hint
    wrong = registry_auth.reader(auth_file(tmp_path / "wrong.json", closed_registry, ("ada", "wrong")))
    with pytest.raises(Permanent, match="denies access"):
        Images(transport, runtime, folders(transport, folder), {}, wrong).pull("w", reference)
    right = registry_auth.reader(auth_file(tmp_path / "right.json", f"{closed_registry}/lab", LOGIN))
    image = Images(transport, runtime, folders(transport, folder), {}, right).pull("w", reference)
    assert image.digest
    left = transport.run(["grep", "-rlF", "--", LOGIN[1], folder, ".apptainer", ".singularity"])
    assert left.stdout == ""
    transport.remove(folder)


OLD = r"""#!/bin/sh
# a program that knows no --no-eval, in front of one that does
case $* in
  *--help*) apptainer "$@" | grep -v -e no-eval; exit ;;
  *--no-eval*) echo 'Error: unknown flag: --no-eval' >&2; exit 1 ;;
esac
exec apptainer "$@"
"""


@pytest.mark.slow
def test_an_old_runtime_refuses_arguments_that_its_shell_would_evaluate(
    transport: OpenSshTransport, closed_registries: dict[str, str], tmp_path: Path
) -> None:
    closed_registry = closed_registries["apptainer"]
    folder = f"old-{uuid4().hex[:8]}"
    login = registry_auth.reader(auth_file(tmp_path / "auth.json", closed_registry, LOGIN))
    path = (
        Images(transport, Apptainer(), folders(transport, folder), {}, login)
        .pull("w", f"{closed_registry}/lab/closed:v1")
        .path
    )
    program = path.replace("w/closed_v1.sif", "old-singularity")
    transport.write_file(program, OLD.encode(), mode=0o700)
    prefix = Apptainer(program).run_prefix(path, binds=[])
    words = ["a b", "it's", "*", ";", "", "--help", "é", "a\nb"]
    done = transport.run([*prefix, *words])
    assert done.stdout == "".join(f"word={word}\n" for word in words), done.stderr
    done = transport.run([*prefix, "x", "$(touch executed)"])
    assert (done.returncode, done.stdout) == (64, "")
    assert "would evaluate the argument $(touch executed)" in done.stderr
    assert not transport.exists("executed")
    evaluated = transport.run([program, "--silent", "run", path, "$(echo this is why)"])
    assert evaluated.stdout == "word=this is why\n"
    transport.remove(folder)


# -- whole deployments -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure_registry(charliecloud: Sandbox, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The sandbox's registry over HTTPS, as Charliecloud requires."""
    with own_registry(tmp_path_factory.mktemp("secure"), charliecloud.path / "registry") as secure:
        yield secure


@pytest.fixture
def deploy(make_site: Callable[..., Site], registry: str, secure_registry: str) -> Callable[..., Site]:
    """A deployment of its own folders on the cluster, with further lines in [SLURM] and [WORKFLOWS]."""

    def make(slurm: str = "", workflows: str = "", converters: str = "") -> Site:
        site = make_site(pull=False)
        descriptor = site.folder / "obedient/descriptor.json"
        described = json.loads(descriptor.read_text())
        _, _, name = described["container-image"]["image"].partition("/")
        described["container-image"]["image"] = f"{secure_registry if 'charliecloud' in slurm else registry}/{name}"
        descriptor.write_text(json.dumps(described))
        own = f"site-{uuid4().hex[:8]}"
        text = (
            site.config.read_text()
            .replace("broken = broken\n", "")
            .replace(f"broken_repo = {site.folder}/broken\n", "")
        )
        for folder in ("data", "images", "converters"):
            text = text.replace(f"/{folder}\nslurm", f"/{own}/{folder}\nslurm").replace(
                f"/{folder}\ninsec", f"/{own}/{folder}\ninsec"
            )
        text = text.replace("[ANALYTICS]", f"{slurm}\n[ANALYTICS]") + workflows + f"\n[CONVERTERS]\n{converters}\n"
        site.config.write_text(text)
        return Site(site.config, site.folder, Deployment.load(site.config))

    return make


def init(site: Site) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["init", "--config", str(site.config)])
    return done.exit_code, done.output


def test_init_pulls_in_jobs_and_prints_missing_images_and_a_summary(
    deploy: Callable[..., Site], tmp_path: Path
) -> None:
    site = deploy(
        "slurm_image_pull_via_sbatch = true\nimage_pull_cpus = 1\nimage_pull_mem = 200M\nimage_pull_at_once = 2",
        f"missing = missing\nmissing_repo = {tmp_path}\n",
    )
    descriptor = json.loads((site.folder / "obedient/descriptor.json").read_text())
    good = descriptor["container-image"]["image"]
    descriptor["container-image"]["image"] = good.replace("obedient", "no_such")
    (tmp_path / "descriptor.json").write_text(json.dumps(descriptor))
    code, output = init(site)
    assert code == 1
    assert "obedient: v1.0.0 is on the cluster" in output
    assert "missing: there is no image" in output
    assert "images ready: 1; failures: 1" in output
    assert site.jobs_ever("biomero-pull-")
    descriptor["container-image"]["image"] = good
    (tmp_path / "descriptor.json").write_text(json.dumps(descriptor))
    code, output = init(site)
    assert code == 0, output
    assert "with 2 images" in output
    run = site.execute(site.request(site.images("one.tif")))
    assert run.state is RunState.DONE, run.report


def test_a_workflow_runs_on_charliecloud_from_end_to_end(deploy: Callable[..., Site]) -> None:
    site = deploy("container_runtime = charliecloud")
    code, output = init(site)
    assert code == 0, output
    text = 'it\'s "$(touch pwned)" `id` \\ é\n --exit 9'
    run = site.execute(site.request(site.images("one.tif"), text=text))
    assert run.state is RunState.DONE, run.report
    assert (site.results(run) / "one_text.txt").read_bytes() == text.encode()
    assert json.loads((site.results(run) / "provenance.json").read_text())["image_digest"].startswith("sha256:")
    run = site.execute(site.request(site.images("one.tif"), exit=3))
    assert run.state is RunState.FAILED
    assert "exit code 3" in run.report["message"]


@pytest.mark.slow
def test_nuclei_are_found_on_charliecloud_with_the_conversion_in_the_job(
    deploy: Callable[..., Site], registry: str, secure_registry: str, tmp_path: Path
) -> None:
    build.build_and_push(registry, print)
    descriptor = json.loads(Path(build.__file__).with_name("descriptor.json").read_text())
    descriptor["container-image"]["image"] = f"{secure_registry}/{build.NUCLEI.reference}"
    (tmp_path / "descriptor.json").write_text(json.dumps(descriptor))
    site = deploy(
        "container_runtime = charliecloud",
        f"nuclei = nuclei\nnuclei_repo = {tmp_path}\nnuclei_job_mem = 2G\nnuclei_job_cpus-per-task = 2\n",
        f"zarr_to_tiff = {secure_registry}/{build.CONVERT.reference}",
    )
    code, output = init(site)
    assert code == 0, output
    images = tmp_path / "images"
    images.mkdir()
    sample = samples.samples()[0]
    (images / "nuclei.tif").write_bytes(sample.image.read_bytes())
    run = site.execute(site.request(images, "nuclei"))
    assert run.state is RunState.DONE, run.report
    masks = list(site.results(run).rglob("*mask*.tif"))
    assert tifffile.imread(masks[0]).max() > 20
