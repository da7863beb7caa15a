"""MariaDB for the accounting of SLURM."""

from __future__ import annotations

from sandbox.part import Part


class MariaDB(Part):
    """The server for slurmdbd."""

    name = "mariadb"
    user = "mysql"
    programs = ("mariadbd", "mariadb-install-db", "mariadb")

    def prepare(self) -> None:
        """Write the configuration; create the system tables once."""
        self.root.folder("run/mariadb", 0o755, self.user)
        config = self.write("my.cnf", self.root.folder("etc") / "my.cnf", {"root": self.root.path, "port": self.port})
        data = self.root.path / "mariadb"
        if not (data / "mysql").is_dir():
            self.root.folder("mariadb", 0o700, self.user)
            options = ["--skip-test-db", "--auth-root-authentication-method=socket"]
            where = [f"--defaults-file={config}", f"--user={self.user}", f"--datadir={data}"]
            self.must_run(["mariadb-install-db", *where, *options], timeout=60)

    def command(self) -> list[str]:
        """The server itself, because mysqld_safe is a supervisor."""
        return ["/usr/sbin/mariadbd", f"--defaults-file={self.root.path / 'etc/my.cnf'}"]

    def _sql(self, statement: str) -> str:
        socket = self.root.path / "run/mariadb/mysqld.sock"
        return self.run_client(["mariadb", "--no-defaults", "-N", "-S", str(socket), "-e", statement])

    def ready(self) -> None:
        """The server answers."""
        self._sql("SELECT 1")

    def initialize(self) -> None:
        """Create the database and the account for SLURM."""
        self._sql(
            "CREATE DATABASE IF NOT EXISTS slurm_acct_db;"
            f"CREATE USER IF NOT EXISTS slurm@127.0.0.1 IDENTIFIED BY '{self.root.secret('mariadb')}';"
            "GRANT ALL ON slurm_acct_db.* TO slurm@127.0.0.1;"
        )

    def probe(self) -> str:
        """The database of SLURM exists."""
        self._sql("USE slurm_acct_db")
        return "USE slurm_acct_db"
