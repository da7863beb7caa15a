"""A fixture that calls the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("biomeroworker")


@pytest.fixture(scope="module")
def command(make_site, tmp_path_factory):
    """Call ``biomeroworker`` with a configuration without a database, and with a separate state folder."""
    site = make_site(database="")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("BIOMERO", "SQLALCHEMY", "OMERO"))
    }
    environment["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))

    def call(*arguments, code=0):
        done = subprocess.run(
            [PROGRAM, *arguments, *(() if arguments[0].startswith("-") else ("--config", site.config))],
            env=environment,
            text=True,
            capture_output=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    call.site = site
    call.state = Path(environment["XDG_STATE_HOME"])
    return call
