"""PostgreSQL for the events of runs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from pwd import getpwnam

from sandbox.errors import PartError
from sandbox.part import Part
from sandbox.processes import working_in


def programs_folder() -> Path:
    """The folder of the newest installed server of Debian."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else Path("/usr/lib/postgresql/15/bin")


class Postgres(Part):
    """A server with a database and role ``biomero``."""

    name = "postgres"
    user = "postgres"
    programs = (str(programs_folder() / "postgres"), "psql")
    stop_signal = signal.SIGINT  # fast shutdown: do not wait for clients

    @property
    def _data(self) -> Path:
        return self.root.path / "postgres"

    def prepare(self) -> None:
        """Create the data folder once, and wait until processes of a killed server have ended."""
        self.root.folder("run/postgres", 0o755, self.user)
        if not (self._data / "PG_VERSION").exists():
            self._data.mkdir(exist_ok=True, mode=0o700)
            uid, gid = getpwnam("postgres")[2:4]
            os.chown(self._data, uid, gid)
            initdb = [str(programs_folder() / "initdb"), "--pgdata", str(self._data), "--no-sync", "--encoding=UTF8"]
            access = ["--auth-local=peer", "--auth-host=scram-sha-256", "--locale=C.UTF-8"]
            self.must_run([*initdb, *access], user=self.user, timeout=60)
        deadline = time.monotonic() + 10
        while left := working_in(self._data, getpwnam("postgres").pw_uid):
            if time.monotonic() > deadline:
                raise PartError(
                    self.name, f"process {left[0].pid} of an earlier server still uses {self._data}", self.log
                )
            time.sleep(0.05)
        # No process uses the folder. Without this, the lock files of a killed server count while its zombie exists.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        for lock in (self.root.path / "run/postgres").glob(".s.PGSQL.*"):
            lock.unlink()

    def command(self) -> list[str]:
        """Only on 127.0.0.1; without fsync, which is needed for a power failure but not for a kill."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.root.path / "run/postgres",
            "fsync": "off",
            "max_connections": 100,
        }
        argv = [str(programs_folder() / "postgres"), "-D", str(self._data)]
        return argv + [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]

    def _psql(self, statement: str, env: dict[str, str] | None = None) -> str:
        return self.run_client(
            ["psql", "-h", str(self.root.path / "run/postgres"), "-p", str(self.port), "-XAtqc", statement, "postgres"],
            env,
            user=self.user,
        )

    def ready(self) -> None:
        """The server answers the superuser."""
        self._psql("SELECT 1")

    def initialize(self) -> None:
        """Create the role and its database."""
        password = self.root.secret("postgres")
        if not self._psql("SELECT 1 FROM pg_roles WHERE rolname = 'biomero'"):
            self._psql(f"CREATE ROLE biomero LOGIN CREATEDB PASSWORD '{password}'")
        if not self._psql("SELECT 1 FROM pg_database WHERE datname = 'biomero'"):
            self._psql("CREATE DATABASE biomero OWNER biomero")

    def probe(self) -> str:
        """``SELECT 1`` over TCP as role ``biomero``."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "biomero"]
        password = {"PGPASSWORD": self.root.secret("postgres")}
        self.run_client(["psql", *where, "-XAtqwc", "SELECT 1", "biomero"], password)
        return "SELECT 1"

    def url(self) -> str:
        """The URL for SQLAlchemy."""
        return f"postgresql+psycopg2://biomero:{self.root.secret('postgres')}@127.0.0.1:{self.port}/biomero"
