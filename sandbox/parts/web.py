"""OMERO.web 5.33 with the plugin OMERO.biomero, in a Python environment of its own."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from pathlib import Path

from sandbox.deployment import config_path
from sandbox.errors import Unhealthy
from sandbox.part import Part
from sandbox.parts.postgres import Postgres
from sandbox.web.environment import CHECKOUT, HERE, python_of_web

#: The session of a user is in the memory of one process: OMERO.web keeps its connections to OMERO there.
WORKERS, THREADS = 1, 8
#: Seconds for a request, which includes calls to OMERO and to scripts.
REQUEST_TIMEOUT_SECONDS = 120


class Web(Part):
    """OMERO.web behind gunicorn."""

    name = "web"
    needs = ("glacier2",)
    optional = True
    timeout_seconds = 60.0

    @property
    def folder(self) -> Path:
        """The ``OMERODIR`` of OMERO.web."""
        return self.root.folder("web", 0o700)

    def prepare(self) -> None:
        """Create the Python environment, the configuration and the static files."""
        configure = [str(python_of_web()), "-W", "ignore", str(HERE / "configure.py")]
        self.must_run([*configure, str(self.folder), str(self.root.port("glacier2"))], self.environment(), timeout=120)

    def command(self) -> list[str]:
        """The argv."""
        gunicorn = [str(python_of_web()), "-W", "ignore", "-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}"]
        workers = ["--workers", str(WORKERS), "--threads", str(THREADS), "--timeout", str(REQUEST_TIMEOUT_SECONDS)]
        return [*gunicorn, *workers, "--worker-tmp-dir", "/dev/shm", "omeroweb.wsgi:application"]

    def environment(self) -> Mapping[str, str]:
        """Also what OMERO.biomero reads: the ini file, the database, and the address of a Metabase that is down."""
        database = {"SQLALCHEMY_URL": Postgres(self.root).url()} if "postgres" in self.root.requested_parts() else {}
        return {
            "OMERODIR": str(self.folder),
            "HOME": str(self.folder),
            "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'packages/biomero'}",
            "BIOMERO_SLURM_CONFIG_FILE": str(config_path(self.root.path)),
            "IMPORTER_ENABLED": "false",
            "IMPORT_MOUNT_PATH": str(self.folder),
            "METABASE_SITE_URL": "http://127.0.0.1:9",
            "METABASE_SECRET_KEY": self.root.secret("metabase"),
            "METABASE_WORKFLOWS_DB_PAGE_DASHBOARD_ID": "1",
            "METABASE_IMPORTS_DB_PAGE_DASHBOARD_ID": "2",
            **database,
        }

    def probe(self) -> str:
        """The login page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/webclient/login/")
            response = connection.getresponse()
            response.read()
        except OSError as error:
            raise Unhealthy(f"GET /webclient/login/: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise Unhealthy(f"GET /webclient/login/ answered {response.status}")
        return f"http://127.0.0.1:{self.port}/webclient/"
