"""What every container runtime promises, asked of the real one: a real registry, a real pull, a real run."""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from biomeroworker.cluster.apptainer import Apptainer
from biomeroworker.cluster.openssh import OpenSshTransport
from biomeroworker.cluster.site import Cluster
from biomeroworker.errors import Blocked, ConfigError, Permanent, Transient
from sandbox.workflow import oci

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(600)]

ENTRY = """#!/bin/sh
echo "home=$HOME"
echo "pythonpath=${PYTHONPATH:-none} gpus=${CUDA_VISIBLE_DEVICES:-none}"
for word do printf 'word=%s\\n' "$word"; done
[ "${1:-}" != write ] || echo written > "$2"
exit "${CODE:-0}"
"""


@pytest.fixture(scope="module")
def image(registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small image in the registry; its reference without a tag."""
    folder = tmp_path_factory.mktemp("image")
    root = folder / "root"
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc", "var/tmp", "home"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "cat", "env", "id", "ls"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "entry.sh").write_text(ENTRY)
    (root / "entry.sh").chmod(0o755)
    layer = oci.Layer.of_folder(root, folder / "layer.tar.gz")
    oci.write_layout(folder / "layout", "v1", [layer], ["/entry.sh"], {})
    name = f"{registry}/lab/w_contract"
    for tag in ("v1.9", "v1.10"):
        copy = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]
        subprocess.run([*copy, f"oci:{folder}/layout:v1", f"docker://{name}:{tag}"], check=True, timeout=60)
    return name


@pytest.fixture(scope="module")
def site(apptainer: Any) -> Iterator[Cluster]:
    env = apptainer.env
    transport = OpenSshTransport(env["SSH_HOST"], config_file=Path(env["SSH_CONFIG"]))
    folder = f"contract-{uuid4().hex[:8]}"
    transport.make_dirs([f"{folder}/data"])
    yield Cluster(
        transport,
        Apptainer(tmpdir=f"{folder}/tmp"),
        data=f"{folder}/data",
        images=f"{folder}/images",
        converters=f"{folder}/converters",
        converter_images={"zarr_to_tiff": "lab/convert:v3"},
    )
    transport.remove(folder)
    transport.close()


@pytest.fixture(scope="module")
def pulled(site: Cluster, image: str) -> str:
    """The path of the pulled image."""
    return site.pull("workflows/contract", f"{image}:v1.9").path


def test_an_image_is_pulled_once_under_the_name_that_deployments_know(site: Cluster, image: str, pulled: str) -> None:
    assert pulled == f"{site.layout.images}/workflows/contract/w_contract_v1.9.sif"
    before = site.transport.run(["stat", "-c", "%i %Y", pulled]).stdout
    again = site.pull("workflows/contract", f"{image}:v1.9")
    assert site.transport.run(["stat", "-c", "%i %Y", pulled]).stdout == before
    names = site.transport.list_dir(pulled.rpartition("/")[0])
    assert names == ["w_contract_v1.9.sif", "w_contract_v1.9.sif.json"]  # nothing half beside it
    digest = site.transport.run(["sha256sum", pulled]).stdout.split()[0]
    assert again.digest == f"sha256:{digest}"
    record = json.loads(site.transport.read_from(f"{pulled}.json"))
    assert (record["sha256"], record["reference"]) == (digest, f"{image}:v1.9")


def test_an_image_that_is_there_is_found_with_its_digest_in_one_execution(
    site: Cluster, image: str, pulled: str
) -> None:
    before = site.transport.executions
    found = site.image("workflows/contract", f"{image}:v1.9")
    assert (found.path, found.version) == (pulled, "v1.9")
    assert found.digest.startswith("sha256:")
    assert site.image("workflows/contract", f"{image}:v1.9") == found
    assert site.transport.executions == before + 1


def test_two_pulls_at_once_end_with_one_whole_image(site: Cluster, image: str) -> None:
    found: list[str] = []

    def pull() -> None:
        found.append(site.pull("workflows/twice", f"{image}:v1.10").digest)

    threads = [threading.Thread(target=pull) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 2
    path = site.image("workflows/twice", f"{image}:v1.10").path
    assert site.transport.run([*site.runtime.exec_prefix(path, binds=[]), "cat", "/entry.sh"]).stdout == ENTRY
    assert len(site.transport.list_dir(path.rpartition("/")[0])) == 2


def test_versions_are_told_newest_first(site: Cluster, image: str, pulled: str) -> None:
    site.pull("workflows/contract", f"{image}:v1.10")
    before = site.transport.executions
    assert site.versions(["workflows/contract", "workflows/none"]) == {
        "workflows/contract": ["v1.10", "v1.9"],
        "workflows/none": [],
    }
    assert site.transport.executions == before + 1
    assert site.image("workflows/contract", image).version == "v1.10"
    for suffix in ("", ".json"):
        site.transport.remove(pulled.replace("v1.9", "v1.10") + suffix)


def test_an_image_that_is_not_there_says_what_to_do(site: Cluster, image: str, pulled: str) -> None:
    with pytest.raises(Permanent, match=r"v7 is not on the cluster") as caught:
        site.image("workflows/contract", image, "v7")
    assert "biomeroworker init" in caught.value.hint
    assert "v1.9" in caught.value.hint


def test_an_image_that_no_registry_has_cannot_be_pulled_and_leaves_nothing(site: Cluster, image: str) -> None:
    with pytest.raises(Permanent, match="there is no image"):
        site.pull("workflows/absent", f"{image}:v99")
    assert site.transport.list_dir(f"{site.layout.images}/workflows/absent") == []


def test_a_registry_that_is_down_is_transient(site: Cluster) -> None:
    with pytest.raises(Transient):
        site.pull("workflows/absent", "127.0.0.1:9/lab/x:v1")


def test_a_program_that_is_not_there_needs_a_person(site: Cluster, image: str) -> None:
    other = Cluster(site.transport, Apptainer("no-such-apptainer"), data="d", images=site.layout.images, converters="c")
    with pytest.raises((Permanent, Blocked)) as caught:
        other.pull("workflows/absent", f"{image}:v1.9")
    assert "container_runtime" in caught.value.hint


def test_the_entry_point_gets_its_words_byte_for_byte_and_its_exit_code_is_kept(site: Cluster, pulled: str) -> None:
    folder = f"{site.layout.data}/run"
    site.transport.make_dirs([folder])
    words = ["a b", "$(id)", "`id`", "$HOME", "'", '"', "*", "--flag=x y", "a\\b", "\\", "-n", "--help", "é", ""]
    prefix = site.runtime.run_prefix(pulled, binds=[folder])
    done = site.transport.run(["env", "APPTAINERENV_CODE=7", *prefix, *words])
    assert [line[5:] for line in done.stdout.splitlines() if line.startswith("word=")] == words
    assert done.returncode == 7


def test_home_is_the_runs_folder_and_foreign_code_stays_outside(site: Cluster, pulled: str) -> None:
    folder = f"{site.layout.data}/run"
    site.transport.make_dirs([folder])
    prefix = site.runtime.run_prefix(pulled, binds=[folder])
    disguise = ["env", "PYTHONPATH=/elsewhere", "CUDA_VISIBLE_DEVICES=1"]
    done = site.transport.run([*disguise, *prefix, "write", f"{folder}/result"])
    assert done.stdout.splitlines()[:2] == [f"home={folder}", "pythonpath=none gpus=1"]
    assert site.transport.read_from(f"{folder}/result") == b"written\n"
    inside = site.transport.run([*site.runtime.exec_prefix(pulled, binds=[folder]), "ls", site.home])
    assert "contract" not in inside.stdout.split() or inside.returncode  # the account's home is not there as it is


def test_a_folder_that_a_bind_would_misread_is_refused() -> None:
    with pytest.raises(ConfigError):
        Apptainer().run_prefix("/x.sif", binds=["/data:/etc"])


def test_a_gpu_is_asked_for_only_when_wanted() -> None:
    assert "--nv" in Apptainer().run_prefix("/x.sif", binds=[], gpu=True)
    assert "--nv" not in Apptainer().run_prefix("/x.sif", binds=[])


def test_a_converter_must_be_configured_and_on_the_cluster(site: Cluster) -> None:
    with pytest.raises(Permanent, match="is not on the cluster"):
        site.converter()
    with pytest.raises(Permanent, match="no converter is configured"):
        site.converter("tiff_to_zarr")
