"""The Compose files are valid for both programs, contain no secret, and name a missing variable."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.container import compose_files
from tests.container.compose_files import FILES, MAIN, OVERLAYS, STAND_ALONE
from tests.container.engine import Result
from tests.container.images import CHECKOUT

Config = Callable[..., Result]

SSL, DESKTOP, SECOND, MASTER = OVERLAYS
EXISTING, EXTERNAL = STAND_ALONE
#: Every combination that docs/deploy.md names.
COMBINATIONS: list[Sequence[str]] = [
    [MAIN],
    *([MAIN, overlay] for overlay in OVERLAYS),
    [MAIN, SSL, DESKTOP],
    [MAIN, SSL, SECOND],
    [MAIN, MASTER, SSL],
    *([alone] for alone in STAND_ALONE),
]
NEEDED = {file: values for group in (OVERLAYS, STAND_ALONE) for file, values in group.items()}
SECRET = re.compile(r"pass|secret|token|credential|private|_url$", re.IGNORECASE)


@pytest.fixture(params=[compose_files.config_v1, compose_files.config_v2], ids=["docker-compose-1.29", "compose-v2"])
def config(request: pytest.FixtureRequest) -> Config:
    chosen: Config = request.param
    return chosen


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return compose_files.make_project(tmp_path)


def _set_all(project: Path, files: Sequence[str]) -> None:
    compose_files.write_env(project, {k: v for file in files for k, v in NEEDED.get(file, {}).items()})


@pytest.mark.parametrize(
    "files", COMBINATIONS, ids=lambda files: "+".join(Path(one).stem.split(".")[-1] for one in files)
)
def test_each_documented_combination_is_valid(config: Config, project: Path, files: Sequence[str]) -> None:
    _set_all(project, files)
    found = compose_files.model(config(project, files, ["localslurm"]))
    assert ("localslurm" in found["services"]) == (MAIN in files)
    for name, service in found["services"].items():
        assert service.get("mem_limit"), f"{name} has no limit of memory"
        assert service["logging"]["options"]["max-size"], f"the log of {name} is not rotated"
        assert service["restart"] == "unless-stopped", name
        assert not service.get("privileged") or name == "localslurm", f"{name} is privileged"
        if "biomeroworker" in name:
            assert service["stop_grace_period"] == "20s"


@pytest.mark.parametrize("file", [MAIN, *STAND_ALONE])
def test_without_env_the_message_names_the_variable(config: Config, project: Path, file: str) -> None:
    found = config(project, [file])
    assert found.status != 0
    missing = {"SECRETS_FOLDER", *NEEDED.get(file, {})}
    assert any(f"set {name} in .env" in found.errors for name in missing), found.errors


@pytest.mark.parametrize(("file", "variable"), [(file, name) for file, values in NEEDED.items() for name in values])
def test_a_missing_variable_is_named(config: Config, project: Path, file: str, variable: str) -> None:
    values = {name: value for name, value in NEEDED[file].items() if name != variable}
    compose_files.write_env(project, values)
    found = config(project, [file] if file in STAND_ALONE else [MAIN, file])
    assert found.status != 0
    assert f"set {variable} in .env" in found.errors


def test_env_example_names_each_variable_and_no_other() -> None:
    text = (CHECKOUT / ".env.example").read_text()
    explained = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
    used = set()
    for file in FILES:
        content = re.sub(r"^\s*#.*$", "", (CHECKOUT / file).read_text(), flags=re.MULTILINE)
        used |= set(re.findall(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*)", content))
    assert explained == used | {"COMPOSE_PROJECT_NAME", "COMPOSE_FILE", "COMPOSE_PROFILES"}


def test_defaults_in_env_example_are_those_of_the_files() -> None:
    text = (CHECKOUT / ".env.example").read_text()
    shown = dict(re.findall(r"^# ([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE))
    for file in FILES:
        for name, default in re.findall(r"\$\{([A-Z][A-Z0-9_]*):-([^}~]*)\}", (CHECKOUT / file).read_text()):
            if name in shown:
                assert shown[name] == default, f"{name} in {file}"


def test_no_secret_has_a_default() -> None:
    for line in (CHECKOUT / ".env.example").read_text().splitlines():
        name, _, value = line.lstrip("# ").partition("=")
        if re.fullmatch(r"[A-Z][A-Z0-9_]*", name) and SECRET.search(name):
            assert name == "SECRETS_FOLDER", f"{name} is a secret in .env.example"
            assert value == "./secrets"
    for file in FILES:
        content = compose_files.as_written(file)
        for variable, default in re.findall(r"\$\{([A-Za-z_0-9]+):?-([^}]*)\}", (CHECKOUT / file).read_text()):
            assert not (SECRET.search(variable) and default), f"{variable} has a default in {file}"
        for name, service in content["services"].items():
            for variable, value in (service.get("environment") or {}).items():
                if SECRET.search(variable.removesuffix("_FILE")):
                    assert variable.endswith("_FILE"), f"{variable} of {name} in {file} is no file"
                    assert value.startswith("/run/secrets/")
                    assert value.removeprefix("/run/secrets/") in service["secrets"]
        for name, secret in content.get("secrets", {}).items():
            assert secret == {"file": f"${{SECRETS_FOLDER:?set SECRETS_FOLDER in .env (see .env.example)}}/{name}"}


def test_the_node_descriptors_of_the_grid_are_as_documented(config: Config, project: Path) -> None:
    _set_all(project, [MAIN])
    services = compose_files.model(config(project, [MAIN]))["services"]
    descriptors = services["omeroserver"]["environment"]["CONFIG_omero_server_nodedescriptors"]
    nodes = dict(one.split(":") for one in descriptors.split())
    assert nodes == {
        "master": "Blitz-0",
        "omeroworker-1": "Tables-0,Indexer-0,PixelData-0,DropBox,MonitorServer,FileServer,Storm",
        "biomeroworker-external": "Processor-0",
    }
    assert services["biomeroworker"]["environment"]["OMERO_WORKER_NAME"] == "biomeroworker-external"
    assert services["omeroworker-1"]["environment"]["OMERO_WORKER_NAME"] == "omeroworker-1"


def test_a_second_node_is_processor_1(config: Config, project: Path) -> None:
    _set_all(project, [MAIN])
    services = compose_files.model(config(project, [MAIN, SECOND]))["services"]
    descriptors = services["omeroserver"]["environment"]["CONFIG_omero_server_nodedescriptors"].split()
    assert descriptors[-2:] == ["biomeroworker-external:Processor-0", "biomeroworker-2:Processor-1"]
    first, second = services["biomeroworker"], services["biomeroworker-2"]
    for key in (
        "image",
        "user",
        "cap_add",
        "cap_drop",
        "mem_limit",
        "cpus",
        "stop_grace_period",
        "depends_on",
        "secrets",
    ):
        assert first[key] == second[key], key


def test_the_mounts_are_as_documented(config: Config, project: Path) -> None:
    _set_all(project, [MAIN])
    mounts = compose_files.model(config(project, [MAIN]))["services"]["biomeroworker"]["volumes"]
    assert _bind(mounts, "/tmp/.ssh") == "/home/admin/.ssh:ro"
    assert _bind(mounts, "/etc/slurm-config.ini") == f"{project}/slurm-config-override.ini:ro"


def _bind(mounts: list[object], target: str) -> str:
    """Source and mode of one mount, in the short form of 1.29 or the long one of v2."""
    for mount in mounts:
        if isinstance(mount, dict) and mount["target"] == target:
            return f"{mount['source']}:{'ro' if mount['read_only'] else 'rw'}"
        if isinstance(mount, str) and f":{target}:" in mount:
            return mount.replace(f":{target}:", ":")
    raise AssertionError(f"nothing is mounted at {target}")


def test_services_start_in_order(config: Config, project: Path) -> None:
    _set_all(project, [MAIN])
    services = compose_files.model(config(project, [MAIN]))["services"]
    waits = {}
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            waits[name, other] = how["condition"]
    assert waits == {
        ("omeroserver", "database"): "service_healthy",
        ("omeroweb", "omeroserver"): "service_healthy",
        ("omeroworker-1", "omeroserver"): "service_started",
        ("biomeroworker", "omeroserver"): "service_started",
        ("biomeroworker", "database-biomero"): "service_healthy",
    }
    # the images of these two have health checks of their own
    without = {name for name, one in services.items() if "healthcheck" not in one}
    assert without - {"localslurm"} == {"biomeroworker"}


def test_the_masters_side_of_an_external_worker_runs_no_worker(config: Config, project: Path) -> None:
    _set_all(project, [MASTER])
    services = compose_files.model(config(project, [MAIN, MASTER]))["services"]
    active = {name for name, one in services.items() if not one.get("profiles")}
    assert active == {"database", "omeroserver", "omeroworker-1", "omeroweb"}
    assert services["omeroserver"]["network_mode"] == services["omeroworker-1"]["network_mode"] == "host"
    assert not services["omeroserver"].get("ports")


def test_both_sides_of_an_external_worker_agree(config: Config, project: Path) -> None:
    _set_all(project, [MASTER, EXTERNAL])
    master = compose_files.model(config(project, [MAIN, MASTER]))["services"]["omeroserver"]["environment"]
    worker = compose_files.model(config(project, [EXTERNAL]))["services"]["biomeroworker"]
    assert worker["environment"]["CONFIG_omero_master_host"] == master["CONFIG_omero_master_host"]
    assert f"{worker['environment']['OMERO_WORKER_NAME']}:Processor-0" in master["CONFIG_omero_server_nodedescriptors"]
    for port in (worker["environment"]["OMERO_WORKER_PORT"], worker["environment"]["OMERO_PROCESSOR_PORT"]):
        assert re.search(rf"\b{port}\b.*\b{port}\b", compose_files.dumped(worker["ports"])), port


def test_nothing_but_omero_web_on_this_machine_is_published(config: Config, project: Path) -> None:
    _set_all(project, [MAIN])
    services = compose_files.model(config(project, [MAIN]))["services"]
    published = {name: compose_files.dumped(one["ports"]) for name, one in services.items() if one.get("ports")}
    assert published.keys() == {"omeroweb"}
    assert "127.0.0.1" in published["omeroweb"]


def test_the_scripts_are_in_the_folder_from_which_omero_lists_official_scripts() -> None:
    mounts = compose_files.as_written(MAIN)["services"]["omeroserver"]["volumes"]
    assert "./scripts:/opt/omero/server/OMERO.server/lib/scripts/BIOMERO:ro" in mounts
    assert (CHECKOUT / "scripts/workflows/SLURM_Run_Workflow.py").is_file()
