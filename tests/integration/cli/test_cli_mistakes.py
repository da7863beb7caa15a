"""Messages of the command line when something is missing. No cluster, database or OMERO is started."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = [Path(sys.executable).with_name("biomeroworker")]
#: The same where omero-py is not installed.
WITHOUT_ICE = [
    sys.executable,
    "-c",
    "import sys; sys.modules['Ice'] = None; from biomeroworker.cli import main; main()",
]


def output_of(*arguments, program=PROGRAM, **environment):
    """The output of a command that must fail."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("BIOMERO", "SQLALCHEMY", "OMERO"))
    }
    done = subprocess.run(
        [*program, *arguments],
        env={**inherited, **environment},
        text=True,
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_an_unreachable_database_is_one_sentence_that_names_the_setting():
    message = output_of("runs", SQLALCHEMY_URL="postgresql://biomero@127.0.0.1:9/biomero")
    assert message.startswith("error: the database cannot be used: ")
    assert "refused" in message
    assert "[ANALYTICS] sqlalchemy_url" in message
    assert "sqlalche.me" not in message, "a link to the documentation of SQLAlchemy is no help"


def test_attach_does_not_prompt_for_a_password_without_a_terminal():
    message = output_of("attach", "--host", "127.0.0.1", "--port", "9", "--user", "ada")
    assert "no password for ada" in message
    assert "OMERO_PASSWORD" in message


def test_attach_without_omero_py_names_the_missing_package():
    message = output_of("attach", "--host", "127.0.0.1", program=WITHOUT_ICE, OMERO_PASSWORD="x")
    assert "Ice is missing" in message
    assert "biomeroworker[omero]" in message
