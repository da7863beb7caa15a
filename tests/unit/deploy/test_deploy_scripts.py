"""Scripts of deploy/ that need no container: secrets, and the start of the grid's second node."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

DEPLOY = Path(__file__).parents[3] / "deploy"


def _run(*argv: str | Path, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    known = {"PATH": os.environ["PATH"]}
    return subprocess.run(argv, env=known | environment, input=given, capture_output=True, text=True, timeout=30)


# -- make-secrets.sh --------------------------------------------------------------------------------------------------


def _make_secrets(folder: Path, *argv: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return _run(DEPLOY / "make-secrets.sh", *argv, given=given, SECRETS_FOLDER=str(folder))


def test_secrets_are_random_and_accessible_to_the_owner_only(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        assert _make_secrets(folder).returncode == 0
        assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("omero_db_password", "omero_root_password", "biomero_db_password", "biomero_db_url"):
        assert (first / name).read_text() != (second / name).read_text(), name
        # the accounts in the containers read them
        assert (first / name).stat().st_mode & 0o777 == 0o444
    assert len((first / "omero_db_password").read_text()) >= 32


def test_the_url_of_the_event_log_contains_the_password_of_its_database(tmp_path: Path) -> None:
    assert _make_secrets(tmp_path).returncode == 0
    url = make_url((tmp_path / "biomero_db_url").read_text().strip())
    assert (url.username, url.host, url.database) == ("biomero", "database-biomero", "biomero")
    assert url.password == (tmp_path / "biomero_db_password").read_text()


def test_existing_secrets_are_not_changed(tmp_path: Path) -> None:
    (tmp_path / "omero_db_password").write_text("mine")
    assert _make_secrets(tmp_path).returncode == 0
    before = {one.name: one.read_text() for one in tmp_path.iterdir()}
    assert before["omero_db_password"] == "mine"
    assert _make_secrets(tmp_path).returncode == 0
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == before


def test_a_secret_of_another_system_is_prompted_for_and_written_once(tmp_path: Path) -> None:
    assert _make_secrets(tmp_path, "omero_password", given="s3cret word\n").returncode == 0
    assert (tmp_path / "omero_password").read_text() == "s3cret word\n"
    refused = _make_secrets(tmp_path, "omero_password", given="other\n")
    assert refused.returncode == 1
    assert "exists" in refused.stderr
    assert (tmp_path / "omero_password").read_text() == "s3cret word\n"


@pytest.mark.parametrize(("name", "given"), [("omero_password", ""), ("omero_password", "\n"), ("../omero", "x\n")])
def test_an_empty_secret_or_a_wrong_name_is_refused(tmp_path: Path, name: str, given: str) -> None:
    folder = tmp_path / "secrets"
    assert _make_secrets(folder, name, given=given).returncode == 1
    assert not list(folder.iterdir())
    assert [one.name for one in tmp_path.iterdir()] == ["secrets"]


# -- omeroserver/with-secrets.sh --------------------------------------------------------------------------------------


def _with_secrets(environment: Mapping[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    return _run("sh", DEPLOY / "omeroserver/with-secrets.sh", *argv, **environment)


def test_a_command_gets_its_secrets_from_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a 'b' $c\n")
    done = _with_secrets({"ROOTPASS_FILE": str(tmp_path / "password"), "OTHER": "unchanged"}, "env")
    values = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert values["ROOTPASS"] == "a 'b' $c"
    assert values["OTHER"] == "unchanged"
    # omero-server's startup sets every variable that begins with CONFIG_ as a property
    assert "ROOTPASS_FILE" not in values


@pytest.mark.parametrize(
    ("content", "environment", "message"),
    [
        (None, {}, "there is no file"),
        ("", {}, "is empty"),
        ("x", {"ROOTPASS": "y"}, "both set"),
    ],
)
def test_a_secret_that_cannot_be_used_stops_the_start(
    tmp_path: Path, content: str | None, environment: dict[str, str], message: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    done = _with_secrets({"ROOTPASS_FILE": str(file), **environment}, "echo", "started")
    assert done.returncode == 1
    assert message in done.stderr
    assert "started" not in done.stdout


# -- omeroworker/99-run.sh --------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A folder like OMERO.server, and a command `omero` that prints its arguments."""
    (tmp_path / "etc").mkdir()
    command = tmp_path / "omero"
    command.write_text('#!/bin/sh\necho "omero $*"\n')
    command.chmod(0o755)
    return tmp_path


@pytest.fixture
def registry() -> Iterator[None]:
    """Something that accepts connections where a grid's registry does."""
    with socket.create_server(("127.0.0.61", 4061), reuse_port=True) as listening:
        stop = threading.Event()
        listening.settimeout(0.1)

        def serve() -> None:
            while not stop.is_set():
                try:
                    listening.accept()[0].close()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        stop.set()
        thread.join()


def _start_node(server: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    values = {"CONFIG_omero_master_host": "127.0.0.61", "OMERO_WORKER_NAME": "omeroworker-1", **environment}
    return _run(
        "bash", DEPLOY / "omeroworker/99-run.sh", OMERODIR=str(server), OMERO_COMMAND=str(server / "omero"), **values
    )


@pytest.mark.usefixtures("registry")
def test_the_second_node_is_started_under_its_name(server: Path) -> None:
    done = _start_node(server)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "omero node omeroworker-1 start --foreground"
    written = dict(line.split("=", 1) for line in (server / "etc/omeroworker-1.cfg").read_text().splitlines()[1:])
    assert written["IceGrid.Node.Name"] == "omeroworker-1"
    assert written["IceGrid.Node.Endpoints"] == "tcp -h omeroworker-1"
    assert (server / written["IceGrid.Node.Data"]).is_dir()
    assert "-h 127.0.0.61" in (server / "etc/ice.config").read_text()


@pytest.mark.usefixtures("registry")
def test_the_second_node_can_have_another_address(server: Path) -> None:
    assert _start_node(server, OMERO_WORKER_HOST="omero.example.org").returncode == 0
    assert "tcp -h omero.example.org" in (server / "etc/omeroworker-1.cfg").read_text()


@pytest.mark.parametrize("variable", ["CONFIG_omero_master_host", "OMERO_WORKER_NAME", "OMERO_WORKER_HOST"])
def test_a_name_with_ice_syntax_is_refused(server: Path, variable: str) -> None:
    done = _start_node(server, **{variable: "host -p 1:tcp -h other"})
    assert done.returncode == 1
    assert variable in done.stderr
    assert not list((server / "etc").iterdir())
