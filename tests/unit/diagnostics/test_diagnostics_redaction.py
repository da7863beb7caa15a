"""No secret passes, and what a person needs to read does."""

import time

import pytest

from biomeroworker.diagnostics.redaction import Redactor, is_secret_name

SECRET = "hunter2-CORRECT"
SESSION = "7c1b2f0e-93aa-4d6f-8a11-5b9e2d3c4f60"
KEY_LINE = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW"


@pytest.mark.parametrize(
    "line",
    [
        f"connect to postgresql+psycopg2://bw:{SECRET}@db/x failed",
        f"GET https://{SECRET}@github.com/lab/private",
        f"GET https://api.example.org/x?user=a&token={SECRET}&b=1",
        f"password = {SECRET}",
        f"DB_PASSWORD: {SECRET}",
        f"db.pass=`{SECRET}'",
        f"IceGridAdmin.Password={SECRET}",
        f'{{"user": "ada", "password": "{SECRET}", "port": 1}}',
        f"{{'api_key': '{SECRET}'}}",
        f"login --password {SECRET} --user ada",
        f"omero login -u root -w {SECRET} -s host",
        f"omero -k {SECRET} script list",
        f"passphrase= a {SECRET} of several words",
        f"Authorization: Basic {SECRET}",
        f"sent 'Bearer {SECRET}'",
        f"POST https://hooks.example.org/services/T00/{SECRET}",
        f"POST https://chat.example.org/hooks/{SECRET}: 404",
        f"session_key={SECRET}",
    ],
)
def test_a_secret_is_hidden_wherever_its_place_gives_it_away(line):
    assert SECRET not in Redactor()(line)


@pytest.mark.parametrize("line", [f"Joined session {SESSION}", f"session-{SESSION}/x", SESSION.upper()])
def test_no_sessions_key_passes_and_a_run_can_still_be_recognised(line):
    shown = Redactor()(line)
    assert SESSION.lower()[9:] not in shown.lower()
    assert "7c1b2f0e-****" in shown.lower()


def test_a_private_key_is_hidden_line_by_line_also_where_its_first_line_is_missing():
    key = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{KEY_LINE}\nshort\n-----END OPENSSH PRIVATE KEY-----\nafter"
    shown = Redactor()(key)
    assert KEY_LINE not in shown
    assert "short" not in shown
    assert shown.endswith("\nafter")
    assert KEY_LINE not in Redactor()(f"read {KEY_LINE}\n{KEY_LINE}==")


@pytest.mark.parametrize("form", ['a b/c?d"e', 'a b%2Fc?d"e', "a%20b%2Fc%3Fd%22e", 'a b/c?d\\"e'])
def test_a_known_value_is_hidden_in_each_form_that_it_is_written_in(form):
    redact = Redactor(['a b/c?d"e', 'a b%2Fc?d"e'])
    assert redact(f"x {form} y") == "x *** y"


@pytest.mark.parametrize(
    "line",
    [
        'FATAL: password authentication failed for user "bw"',
        "SLURM.slurm_data_path = my-scratch/data  [/etc/slurm-config.ini:12]",
        "Processor-0 on master: active (pid = 12, enabled): /opt/biomeroworker/bin/python -m runProcessor",
        "-rw------- ada ada 411 /home/ada/.ssh/id_ed25519",
        "image docker://lab/nuclei@sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
        "Processor-0 -t -e 1.1:tcp -h 127.0.0.1 -p 36685 -t 60000",
        "/opt/omero/server/OMERO/server/var/log/Processor/0/Extra/Folder/Names",
        "KeyError: 'image'",
    ],
)
def test_what_is_no_secret_is_not_changed(line):
    assert Redactor(["***", "abc"])(line) == line


def test_a_long_line_takes_no_long_time():
    started = time.monotonic()
    for piece in ("-", "a", "https://", "omero ", "password", "eyJ", "://:"):
        Redactor()((piece * 4000)[:4000])
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["ROOTPASS", "OMERO_PASSWORD", "X_TOKEN", "SSH_KEY", "CLIENT_SECRET", "omero.db.pass"])
def test_names_of_secrets(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["PWD", "PATH", "OMERO_HOST", "PASSED_ON", "SSH_AUTH_SOCK", "slurm_data_path"])
def test_names_of_others(name):
    assert not is_secret_name(name)
