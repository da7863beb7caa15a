"""entrypoint.sh: the scripts in their order, as the account, and the last one in the place of the first process."""

import os
import subprocess

import pytest

from tests.unit.startup.startup_kit import AS_UNPRIVILEGED, Box, node_variables

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture
def started(box: Box) -> Box:
    """A container whose processes all run as the user `nobody`, with this home folder."""
    box.program(
        "bin/getent",
        f'[ "$2" = account ] && echo "account:x:65534:65534::{box.home}:/bin/sh" || exec /usr/bin/getent "$@"',
    )
    box.variables["BIOMEROWORKER_ACCOUNT"] = "account"
    os.chown(box.home, 65534, 65534)
    os.chown(box.server, 65534, 65534)
    (box.mount / "id_rsa").write_text(KEY)
    (box.mount / "id_rsa").chmod(0o600)
    return box


def last_script(box: Box, body: str) -> None:
    (box.scripts / "99-run.sh").write_text(body)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a container that is started as root")


@needs_root
def test_root_copies_the_keys_and_all_else_runs_as_the_account(started):
    last_script(started, 'id -u; id -G; grep NoNewPrivs /proc/self/status; grep CapEff /proc/self/status; echo "$HOME"')
    done = started.run("entrypoint.sh", HOME="/root", **node_variables())
    assert done.returncode == 0, done.stderr
    uid, groups, privileges, capabilities, home = done.stdout.splitlines()
    assert (uid, groups, home) == ("65534", "65534", str(started.home))
    assert (privileges.split()[1], int(capabilities.split()[1], 16)) == ("1", 0)
    assert (started.ssh / "id_rsa").stat().st_uid == 65534
    assert done.stderr.count("SSH: 1 private key (id_rsa)") == 1


@needs_root
def test_started_as_the_account_it_copies_what_the_account_can_read(started):
    os.chown(started.mount / "id_rsa", 65534, 65534)
    last_script(started, "id -u")
    done = started.run("entrypoint.sh", prefix=AS_UNPRIVILEGED, **node_variables())
    assert (done.returncode, done.stdout) == (0, "65534\n")
    assert (started.ssh / "id_rsa").read_text() == KEY


@needs_root
def test_a_key_that_the_account_cannot_read_ends_the_start(started):
    last_script(started, "echo started")
    done = started.run("entrypoint.sh", prefix=AS_UNPRIVILEGED, **node_variables())
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot read" in done.stderr


@needs_root
@pytest.mark.parametrize(("account", "message"), [("root", "is root"), ("nothere", "there is no account nothere")])
def test_an_unsuitable_account_is_named(started, account, message):
    done = started.run("entrypoint.sh", BIOMEROWORKER_ACCOUNT=account, **node_variables())
    assert done.returncode == 1
    assert message in done.stderr


@needs_root
def test_a_wrong_variable_ends_the_start_before_anything_runs(started):
    last_script(started, "echo started")
    done = started.run("entrypoint.sh", CONFIG_omero_master_host="master")
    assert (done.returncode, done.stdout) == (1, "")
    assert "OMERO_WORKER_NAME is not set" in done.stderr


@needs_root
def test_a_script_of_the_site_reads_and_exports_variables_in_order(started):
    (started.scripts / "50-site.sh").write_text("export LAB=$OMERO_HOST\n")
    (started.scripts / "README").write_text("exit 1\n")
    last_script(started, 'echo "$LAB"')
    assert started.run("entrypoint.sh", **node_variables()).stdout == "127.0.0.1\n"


@needs_root
def test_a_command_runs_instead_of_the_services_with_the_secrets_of_the_node(started):
    secret = started.folder / "secret"
    secret.write_text("postgresql://db")
    command = ("bash", "-c", 'echo "$SQLALCHEMY_URL" "$@"', "x", "two words")
    done = started.run("entrypoint.sh", *command, SQLALCHEMY_URL_FILE=str(secret), **node_variables())
    assert done.stdout == "postgresql://db two words\n"


@needs_root
def test_a_command_logs_in_to_omero_as_the_supervisor_does(started):
    done = started.run("entrypoint.sh", "printenv", "OMERO_LOCATOR", **node_variables(port=14061))
    assert done.stdout == "IceGrid/Locator:tcp -h 127.0.0.1 -p 14061\n"
    last_script(started, "printenv OMERO_LOCATOR || echo none")
    assert started.run("entrypoint.sh", **node_variables()).stdout == "none\n"


@needs_root
def test_the_last_script_replaces_the_entry_point(started):
    last_script(started, "echo $$")
    process = subprocess.Popen(
        ["bash", started.scripts / "entrypoint.sh"],
        env={**started.variables, **node_variables()},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.communicate(timeout=20)[0] == f"{process.pid}\n"
