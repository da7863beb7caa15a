"""A container registry on 127.0.0.1, from which the cluster pulls workflows."""

from __future__ import annotations

import http.client

from sandbox.errors import Unhealthy
from sandbox.part import Part


class Registry(Part):
    """Debian's docker-registry, without TLS and without passwords."""

    name = "registry"
    user = "docker-registry"
    programs = ("docker-registry",)

    def prepare(self) -> None:
        """Write the configuration."""
        storage = self.root.folder("registry", 0o700, self.user)
        self.write("registry.yml", self.root.folder("etc") / "registry.yml", {"storage": storage, "port": self.port})

    def command(self) -> list[str]:
        """The argv."""
        return ["docker-registry", "serve", str(self.root.path / "etc/registry.yml")]

    def probe(self) -> str:
        """``GET /v2/``, the first request of every client."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v2/")
            status = connection.getresponse().status
        except OSError as error:
            raise Unhealthy(f"GET /v2/: {error}") from error
        finally:
            connection.close()
        if status != 200:
            raise Unhealthy(f"GET /v2/ answered {status}")
        return "GET /v2/ 200"
