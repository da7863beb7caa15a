"""20-config.sh: secrets from files, and one line for each thing that is wrong."""

import os
import sys
from pathlib import Path

import pytest

from tests.unit.startup.startup_kit import AS_UNPRIVILEGED, UNPRIVILEGED_UID, Box, node_variables

SECRETS = (
    "SQLALCHEMY_URL",
    "OMERO_PASSWORD",
    "BIOMERO_SMTP_PASSWORD",
    "BIOMERO_WEBHOOK_SECRET",
    "INGEST_TRACKING_DB_URL",
)


def exported(box: Box, **variables: str) -> dict[str, str]:
    """The environment that the scripts after 20-config.sh get."""
    (box.scripts / "99-run.sh").write_text("env -0\n")
    done = box.run("entrypoint.sh", SSH_SOURCE="", BIOMEROWORKER_ACCOUNT="nobody", **variables)
    assert done.returncode == 0, done.stderr
    return dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)


def refused(box: Box, **variables: str) -> str:
    """The one line with which the script refuses these variables."""
    done = box.run("20-config.sh", **variables)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_secrets_come_from_files(box):
    files = {}
    for name in SECRETS:
        secret = box.folder / name
        secret.write_text(f"{name} s3 cret$(x)\r\n")
        files[f"{name}_FILE"] = str(secret)
    found = exported(box, **node_variables(), **files)
    assert {name: found[name] for name in SECRETS} == {name: f"{name} s3 cret$(x)" for name in SECRETS}
    assert not set(files) & set(found)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_given_twice_is_refused_and_both_variables_are_named(box, name):
    secret = box.folder / "secret"
    secret.write_text("one")
    output = refused(box, **node_variables(), **{name: "other-value", f"{name}_FILE": str(secret)})
    assert f"{name} and {name}_FILE are both set" in output
    assert "other-value" not in output


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no file"), ("", "is empty"), ("\n", "is empty"), ("a\nb\n", "more than one")],
)
def test_a_secret_file_that_cannot_be_a_secret_is_refused(box, content, message):
    secret = box.folder / "secret"
    if content is not None:
        secret.write_text(content)
    line = refused(box, **node_variables(), OMERO_PASSWORD_FILE=str(secret))
    assert f"OMERO_PASSWORD_FILE: {'there is no file ' if content is None else ''}{secret}" in line
    assert message in line


def test_a_folder_in_place_of_a_secret_file_is_refused(box):
    assert "is not a file" in refused(box, **node_variables(), OMERO_PASSWORD_FILE=str(box.mount))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_a_secret_file_of_another_account_is_named_with_owner_and_mode(box):
    secret = box.folder / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    done = box.run("20-config.sh", prefix=AS_UNPRIVILEGED, OMERO_PASSWORD_FILE=str(secret), **node_variables())
    assert done.returncode == 1
    assert f"OMERO_PASSWORD_FILE: uid {UNPRIVILEGED_UID} cannot read {secret} (uid 0, mode 600)" in done.stderr


def test_a_variable_that_is_set_but_empty_counts_as_unset(box):
    secret = box.folder / "secret"
    secret.write_text("one")
    found = exported(
        box, **node_variables(), OMERO_PASSWORD="", OMERO_PASSWORD_FILE=str(secret), SQLALCHEMY_URL_FILE=""
    )
    assert found["OMERO_PASSWORD"] == "one"


@pytest.mark.parametrize("name", ["CONFIG_omero_master_host", "OMERO_WORKER_NAME"])
def test_missing_variables_of_a_node_are_named(box, name):
    variables = node_variables()
    del variables[name]
    assert f"{name} is not set" in refused(box, **variables)


@pytest.mark.parametrize("name", ["OMERO_HOST", "OMERO_PASSWORD"])
def test_missing_variables_of_an_attached_processor_are_named(box, name):
    variables = {"BIOMEROWORKER_MODE": "attached", "OMERO_HOST": "omero", "OMERO_PASSWORD": "secret"}
    del variables[name]
    assert f"{name} is not set" in refused(box, **variables)


def test_an_attached_processor_needs_neither_master_nor_icegrid(box):
    (box.folder / "bin/icegridnode").unlink()
    found = exported(box, BIOMEROWORKER_MODE="attached", OMERO_HOST="omero", OMERO_PASSWORD="secret")
    assert (found["OMERO_USER"], found["OMERO_PORT"]) == ("root", "4064")


def test_a_node_image_without_icegrid_is_named(box):
    (box.folder / "bin/icegridnode").unlink()
    for program in ("bash", "dirname", "id"):
        (box.folder / "bin" / program).symlink_to(f"/usr/bin/{program}")
    output = refused(box, **node_variables(), PATH=f"{box.folder}/bin")
    assert "the program icegridnode is missing" in output


def test_an_unknown_mode_is_refused(box):
    assert "BIOMEROWORKER_MODE='both' is neither" in refused(box, BIOMEROWORKER_MODE="both")


@pytest.mark.parametrize("name", ["", "-x", "a b", "../up", "worker\n1", "$(id)", "x" * 64, "internal", "a:b"])
def test_worker_names_with_odd_characters_are_refused(box, name):
    assert "OMERO_WORKER_NAME" in refused(box, **node_variables() | {"OMERO_WORKER_NAME": name})


@pytest.mark.parametrize("name", ["biomeroworker_external-1", "node.lab.example.org"])
def test_ordinary_worker_names_are_accepted(box, name):
    assert exported(box, **node_variables() | {"OMERO_WORKER_NAME": name})["OMERO_WORKER_NAME"] == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONFIG_omero_master_host", "a -p 1:tcp -h b"),
        ("CONFIG_omero_master_host", "-h"),
        ("OMERO_WORKER_PUBLISHED_HOST", 'a"b'),
        ("OMERO_WORKER_PUBLISHED_HOST", "x\ny"),
        ("OMERO_HOST", "a b"),
        ("OMERO_HOST", "host;x"),
    ],
)
def test_a_host_with_ice_syntax_is_refused(box, name, value):
    assert f"{name}=" in refused(box, **node_variables() | {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONFIG_omero_master_port", "0"),
        ("CONFIG_omero_master_port", "4061 -h x"),
        ("OMERO_WORKER_PORT", "65536"),
        ("OMERO_PROCESSOR_PORT", "ssl"),
        ("OMERO_PORT", "-1"),
        ("OMERO_PORT", "04"),
    ],
)
def test_an_invalid_port_is_refused(box, name, value):
    assert f"{name}='{value}' is not a port" in refused(box, **node_variables() | {name: value})


def test_an_external_worker_needs_two_different_ports(box):
    variables = node_variables(OMERO_WORKER_PUBLISHED_HOST="worker.example.org")
    assert exported(box, **variables)["OMERO_PROCESSOR_PORT"] == "4065"
    assert "are both 5000" in refused(box, **variables, OMERO_WORKER_PORT="5000", OMERO_PROCESSOR_PORT="5000")


def test_scripts_and_supervisor_log_in_at_the_master_unless_another_host_is_given(box):
    assert exported(box, **node_variables())["OMERO_HOST"] == "127.0.0.1"
    assert exported(box, **node_variables(), OMERO_HOST="omero")["OMERO_HOST"] == "omero"


def test_the_environment_of_our_programs_goes_first(box):
    found = exported(box, **node_variables())
    assert found["PATH"].split(":")[0] == f"{box.folder}/venv/bin"
    assert found["OMERODIR"] == str(box.server)


# -- the configuration, read by the real command ----------------------------------------------------------------------


@pytest.fixture
def real(box: Box) -> Box:
    """With the real `biomeroworker` of this checkout."""
    checkout = Path(__file__).parents[3]
    box.program(
        "venv/bin/biomeroworker",
        f"cd {checkout} && exec {sys.executable} -c 'from biomeroworker.cli import main; main()' \"$@\"",
    )
    return box


def test_a_valid_configuration_passes(real):
    (real.home / "slurm-config.ini").write_text("[SSH]\nhost = hpc\n")
    assert real.run("20-config.sh", **node_variables()).returncode == 0


def test_a_configuration_that_cannot_be_parsed_is_one_line_with_file_and_line(real):
    (real.home / "slurm-config.ini").write_text("host = hpc\n")
    output = refused(real, **node_variables())
    assert "the configuration cannot be used" in output
    assert "slurm-config.ini:1: a setting before the first [SECTION]" in output


def test_a_value_of_the_wrong_type_is_named(real):
    (real.home / "slurm-config.ini").write_text("[SLURM]\narray_throttle = many\n")
    assert "array_throttle" in refused(real, **node_variables())


@pytest.mark.parametrize("name", ["BIOMERO_CONFIG", "BIOMERO_SLURM_CONFIG_FILE"])
def test_a_missing_named_configuration_is_reported_with_its_variable(box, name):
    assert f"{name}: there is no file /missing.ini" in refused(box, **node_variables(), **{name: "/missing.ini"})


def test_a_container_without_any_configuration_does_not_start(box):
    (box.folder / "slurm-config.ini").unlink()
    assert "there is no configuration; mount your slurm-config.ini" in refused(box, **node_variables())
    own = box.folder / "own.ini"
    own.write_text("[SSH]\n")
    assert box.run("20-config.sh", **node_variables(), BIOMERO_SLURM_CONFIG_FILE=str(own)).returncode == 0


def test_a_folder_in_the_place_of_an_ini_file_is_explained(box):
    (box.folder / "slurm-config.ini").unlink()
    (box.folder / "slurm-config.ini").mkdir()
    assert "is missing on the host" in refused(box, **node_variables())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
def test_an_ini_file_that_the_account_cannot_read_is_named(box):
    ini = box.folder / "slurm-config.ini"
    ini.write_text("[SSH]\n")
    ini.chmod(0o600)
    done = box.run("20-config.sh", prefix=AS_UNPRIVILEGED, **node_variables())
    assert done.returncode == 1
    assert f"uid {UNPRIVILEGED_UID} cannot read {ini} (uid 0, mode 600)" in done.stderr
