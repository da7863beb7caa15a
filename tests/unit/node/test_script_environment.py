"""What scripts see of the node's environment: the documented list, and no secret of the worker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from biomeroworker.config import Settings
from biomeroworker.errors import ConfigError
from biomeroworker.node import environment
from biomeroworker.node.environment import ALLOWED, environment_table, script_environment, without_node

CHECKOUT = Path(__file__).parents[3]

SEEN = {
    *("HTTP_PROXY", "https_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
    *("BIOMERO_CONFIG", "BIOMERO_SLURM_CONFIG_FILE", "BIOMERO_PULL_CPUS", "SQLALCHEMY_URL", "PERSISTENCE_MODULE"),
    *("INGEST_TRACKING_DB_URL", "IMPORTER_ENABLED", "USE_INPLACE_ATTACHMENTS", "OMERO_DATA_DIR", "OMERO_HOST"),
}
UNSEEN = {
    *("OMERO_PASSWORD", "OMERO_PASSWORD_FILE", "OMERO_ROOT_PASSWORD", "OMERO_LOCATOR", "AWS_SECRET_ACCESS_KEY"),
    *("BIOMERO_SMTP_PASSWORD", "BIOMERO_SMTP_PASSWORD_FILE", "BIOMERO_WEBHOOK_SECRET", "BIOMERO_WEBHOOK_SECRET_FILE"),
    *("BIOMERO_WEBHOOK_URL", "SQLALCHEMY_URL_FILE", "OMERO_USER"),
}


def test_scripts_see_the_list_and_nothing_else():
    assert set(script_environment(dict.fromkeys(SEEN | UNSEEN, "x"))) == SEEN


def test_a_site_adds_variables_but_never_a_secret_of_the_worker():
    given = dict.fromkeys(UNSEEN | {"LAB_A", "LAB_B", "TOKEN"}, "x")
    found = script_environment(given, ("LAB_*", "TOKEN", "OMERO_*", "BIOMERO*"))
    assert set(found) == {"LAB_A", "LAB_B", "TOKEN", "OMERO_USER"}


@pytest.mark.parametrize("name", ["OMERO_PASSWORD", "BIOMERO_SMTP_PASSWORD", "OMERO_LOCATOR", "a b"])
def test_a_setting_that_names_a_secret_or_no_variable_is_refused_with_its_line(tmp_path, name):
    file = tmp_path / "c.ini"
    file.write_text(f"[NODE]\nforward_env = LAB_A, {name.replace(' ', '-')}\n")
    with pytest.raises(ConfigError, match=r"c\.ini:2: \[NODE\] forward_env"):
        Settings.load(file, {"HOME": str(tmp_path)}, standard=[])


def test_the_documentation_has_the_list_that_holds():
    assert (CHECKOUT / "docs/environment.md").read_text() == environment_table()
    named = {name for names in ALLOWED.values() for name in names}
    assert {name for name in SEEN if not name.startswith("BIOMERO")} <= named


def test_icegrid_finds_our_module_first_and_scripts_do_not_find_our_modules_by_bare_names():
    here = str(Path(environment.__file__).parent)
    code = "import runProcessor, sys; print(runProcessor.__file__); print(any('node' in p for p in sys.path[1:]))"
    variables = {**os.environ, "PYTHONPATH": here}
    found = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, cwd="/")
    assert found.stdout.split() == [f"{here}/runProcessor.py", "False"]
    assert without_node(f"{here}:/a::/b") == "/a:/b"
