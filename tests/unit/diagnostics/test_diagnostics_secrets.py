"""The command, with secrets planted wherever a deployment has some: no byte of the archive shows one."""

import gzip
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-P", "-c", "from biomeroworker.cli import main; main()", "diagnostics"]

DATABASE = "dbpass-Xq81zz"
INI_PASSWORD = "inipass-Yw92zz"
WEBHOOK = "T0AB/B1CD/hookpath-Zr73zz"
DESCRIPTOR = "descrlogin-Vt64zz"
TOKEN_ONLY = "descrtoken-Kp55zz"
ENVIRONMENT = "envpass-Ub46zz"
FROM_FILE = "filepass-Nn37zz"
WRONG_FILE = "wrongfile-Mm28zz"
LOGGED = "logged-Ll19zz"
ADMIN = "adminpass-Jj10zz"
OMERO_DB = "omerodb-Hh01zz"
REGISTRY = "cmVnOnJlZ3Bhc3MtR2c5Mnp6"  # reg:regpass-Gg92zz
SESSION = "5e0c7a44-1b2d-4c3e-9f80-a1b2c3d4e5f6"
KEY = [
    "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW",
    "QyNTUxOQAAACDqX3pQmYwH9kTz5Qe1rN8vB7cJ2sLxF4gU6oKhR0aDWwAAAJh1Zm9vMWZv",
    "AAAECx5yZt8Qw",
]
SECRETS = [
    DATABASE, INI_PASSWORD, WEBHOOK, "hookpath", DESCRIPTOR, TOKEN_ONLY, ENVIRONMENT, FROM_FILE, WRONG_FILE, LOGGED,
    ADMIN, OMERO_DB, REGISTRY, "regpass-Gg92zz", SESSION[9:], *KEY[:2],
]  # fmt: skip


@pytest.fixture
def planted(tmp_path):
    """A deployment with its home, its server's folder and its environment."""
    home, server = tmp_path / "home", tmp_path / "server"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    key = "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *KEY, "-----END OPENSSH PRIVATE KEY-----"])
    (home / ".ssh/id_ed25519").write_text(key)
    (home / "auth.json").write_text(f'{{"auths": {{"r.example.org": {{"auth": "{REGISTRY}"}}}}}}')
    (home / "slurm-config.ini").write_text(
        f"""[SSH]
host = nowhere.invalid
[SLURM]
registry_credentials = {home}/auth.json
smtp_password = {INI_PASSWORD}
[ANALYTICS]
sqlalchemy_url = postgresql+psycopg2://bw:{DATABASE}@127.0.0.1:1/log
[NOTIFICATIONS]
webhook_url = https://chat.example.org/{WEBHOOK}
[WORKFLOWS]
one = one
one_repo = https://ada:{DESCRIPTOR}@127.0.0.1:1/lab/one
two = two
two_repo = https://{TOKEN_ONLY}@127.0.0.1:1/lab/two
"""
    )
    (home / "secret").write_text(f"{FROM_FILE}\n")
    (server / "etc/grid").mkdir(parents=True)
    (server / "etc/internal.cfg").write_text(
        f"Ice.Default.Locator=IceGrid/Locator:tcp -h 127.0.0.1 -p 1\nIceGridAdmin.Username=root\n"
        f"IceGridAdmin.Password={ADMIN}\n"
    )
    (server / "etc/grid/config.xml").write_text(f'<property name="omero.db.pass" value="{OMERO_DB}"/>')
    (server / "var/log").mkdir(parents=True)
    (server / "var/log/Blitz-0.log").write_text(
        f"Joined session {SESSION}\nlogin of ada with password={LOGGED}\nopened jdbc:{OMERO_DB} as omero\n"
        f"plain words {DATABASE} {ENVIRONMENT} {FROM_FILE} {ADMIN} {WRONG_FILE}\n{key}\ncut {KEY[1]}\n"
        f"delivered to https://chat.example.org/{WEBHOOK}\nlast line\n"
    )
    (server / f"var/log/x-password={LOGGED}.log").write_text("x\n")
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(home), "OMERODIR": str(server), "PYTHONPATH": str(CHECKOUT),
        "OMERO_PASSWORD": ENVIRONMENT, "BIOMERO_SMTP_PASSWORD": ENVIRONMENT, "OMERO_HOST": "127.0.0.1",
        "OMERO_PORT": "1", "BIOMERO_WEBHOOK_SECRET_FILE": f"{home}/secret", "INGEST_TRACKING_DB_URL": ENVIRONMENT,
        "OMERO_ROOT_PASSWORD_FILE": WRONG_FILE, "HTTPS_PROXY": f"http://ada:{ENVIRONMENT}@127.0.0.1:1",
    }  # fmt: skip
    return environ, home, tmp_path


def collected(planted, *words):
    """What the command wrote: the archive's members, and all that anyone may see of it."""
    environ, _, folder = planted
    done = subprocess.run(
        [*PROGRAM, "-o", folder / "d.tar.gz", *words], env=environ, cwd=folder, capture_output=True, timeout=200
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == f"{folder}/d.tar.gz\n"
    packed = (folder / "d.tar.gz").read_bytes()
    with tarfile.open(folder / "d.tar.gz") as tar:
        members = {one.name.partition("/")[2]: tar.extractfile(one).read() for one in tar.getmembers()}
    return members, b"\n".join([packed, gzip.decompress(packed), *members.values(), done.stderr, done.stdout])


def test_no_secret_is_in_the_archive_and_what_helps_is(planted):
    members, everything = collected(planted)
    for secret in SECRETS:
        assert secret.encode() not in everything, f"{secret} is shown"
    settings = members["configuration/settings.txt"].decode()
    assert "ANALYTICS.sqlalchemy_url = postgresql+psycopg2://bw:***@127.0.0.1:1/log" in settings
    assert f"[{planted[1]}/slurm-config.ini:7]" in settings, "each value has its origin"
    files = members["configuration/files.txt"].decode()
    assert f"{planted[1]}/.ssh/id_ed25519" in files
    assert f"{planted[1]}/secret" in files
    assert "OMERO_PASSWORD=***" in members["environment/environment.txt"].decode()
    assert members["logs/Blitz-0.log"].decode().endswith("last line\n")
    assert b"not available" in members["grid/missing.txt"]
    assert b"127.0.0.1" in members["run-log/missing.txt"]
    assert b"fail ssh" in members["doctor/doctor.txt"]
    assert b"biomeroworker==" in members["versions/distributions.txt"]


def test_a_wrong_configuration_is_reported_and_its_secrets_are_not(planted):
    _, home, _ = planted
    with (home / "slurm-config.ini").open("a") as ini:
        ini.write("[WORKER]\nretry_hours = many\n")
    members, everything = collected(planted)
    for secret in SECRETS[:6]:
        assert secret.encode() not in everything, f"{secret} is shown"
    assert b"retry_hours" in members["configuration/error.txt"]
    assert b"the configuration cannot be used" in members["summary.txt"]


def test_it_works_where_there_is_nothing_at_all(tmp_path):
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "none"), "PYTHONPATH": str(CHECKOUT)}
    members, _ = collected((environ, tmp_path, tmp_path), "--config", tmp_path / "no-such.ini")
    assert b"no-such.ini" in members["configuration/error.txt"]
    assert b"no registry is known here" in members["grid/missing.txt"]
