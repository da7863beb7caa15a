"""TLS in front of OMERO.web: the overlay and nginx's configuration as they are shipped, before a small web server."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.container import bases, compose_files
from tests.container.engine import Engine

NAME = "omero.example.org"
COMMAND_SECONDS = 300
HEALTHY_SECONDS = 120

#: In OMERO.web's place: answers with the headers that it got, and would have its pages cached.
WEB_SERVER = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(dict(self.headers) | {"path": self.path}).encode()
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Cache-Control", "public, max-age=99999")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 4080), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Site:
    """The running proxy."""

    engine: Engine
    folder: Path
    project: str
    authority: Path

    def compose(self, *argv: str) -> str:
        return self.engine.compose(*argv, folder=self.folder, timeout=COMMAND_SECONDS)

    @property
    def address(self) -> str:
        networks = self.engine.inspect(f"{self.project}_nginx_1")["NetworkSettings"]["Networks"]
        found: str = next(iter(networks.values()))["IPAddress"]
        return found

    def connect(self, name: str = NAME, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.authority))
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = newest
        context.set_ciphers("ALL:@SECLEVEL=0")
        return context.wrap_socket(socket.create_connection((self.address, 8443), timeout=20), server_hostname=name)

    def get(self, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPSConnection(NAME)
        connection.sock = self.connect()
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer, answer.read()


@pytest.fixture(scope="module")
def site(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = compose_files.make_project(tmp_path_factory.mktemp("tls"))
    certificates = folder / "certificates"
    certificates.mkdir()
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}", "-days", "1"]
    argv += ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", "privkey.pem", "-out", "fullchain.pem"]
    subprocess.run(argv, cwd=certificates, check=True, capture_output=True, timeout=60)
    project = f"biomeroworker-test-{uuid.uuid4().hex[:8]}"
    values = {"OMERO_WEB_HOST": NAME, "CERTIFICATES_FOLDER": "./certificates", "OMERO_WEB_PORT": "0"}
    values |= {"HTTP_PORT": "0", "HTTPS_PORT": "0", "NGINX_IMAGE": bases.built(engine, "nginx")}
    compose_files.write_env(folder, values)
    files = "docker-compose.yml:deploy/docker-compose.ssl.yml:docker-compose.override.yml"
    env = (folder / ".env").read_text()
    env = env.replace("COMPOSE_PROJECT_NAME=biomero", f"COMPOSE_PROJECT_NAME={project}")
    (folder / ".env").write_text(env.replace("COMPOSE_FILE=docker-compose.yml", f"COMPOSE_FILE={files}"))
    web = {"image": bases.built(engine, "attached"), "entrypoint": ["python3.11", "-c", WEB_SERVER]}
    (folder / "docker-compose.override.yml").write_text(yaml.safe_dump({"services": {"omeroweb": web}}))
    made = Site(engine, folder, project, certificates / "fullchain.pem")
    try:
        made.compose("up", "-d", "--no-deps", "omeroweb", "nginx")
        deadline = time.monotonic() + HEALTHY_SECONDS
        while engine.inspect(f"{project}_nginx_1")["State"]["Health"]["Status"] != "healthy":
            assert time.monotonic() < deadline, engine.logs(f"{project}_nginx_1")
            time.sleep(1)
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "3")


def test_omero_web_learns_that_the_request_was_encrypted(site: Site) -> None:
    answer, body = site.get("/webclient/?show=image-1")
    assert answer.status == 200
    seen = json.loads(body)
    assert seen["path"] == "/webclient/?show=image-1"
    assert seen["X-Forwarded-Proto"] == "https"
    assert seen["Host"] == NAME


@pytest.mark.parametrize("path", ["/webclient/", "/missing"])
def test_pages_have_security_headers_and_are_not_cached(site: Site, path: str) -> None:
    answer, _ = site.get(path)
    assert answer.headers.get_all("Cache-Control") == ["no-store"]
    assert int(answer.headers["Strict-Transport-Security"].removeprefix("max-age=")) >= 31536000
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]
    assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Server"] == "nginx"


def test_files_of_the_application_may_be_cached(site: Site) -> None:
    answer, _ = site.get("/static/webgateway/css/ome.body.css")
    assert answer.headers.get_all("Cache-Control") == ["public, max-age=3600"]


def test_plain_http_is_sent_to_https(site: Site) -> None:
    connection = http.client.HTTPConnection(site.address, 8080, timeout=20)
    connection.request("GET", "/webclient/?a=b", headers={"Host": NAME})
    answer = connection.getresponse()
    assert answer.status == 308
    assert answer.headers["Location"] == f"https://{NAME}:0/webclient/?a=b"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_other_names_and_old_versions_of_tls_are_refused(site: Site) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        site.connect("other.example.org")
    with pytest.raises(ssl.SSLError, match="ALERT"):
        site.connect(newest=ssl.TLSVersion.TLSv1_1)
    assert site.connect(newest=ssl.TLSVersion.TLSv1_2).version() == "TLSv1.2"


def test_omero_web_is_found_again_under_a_new_address(site: Site) -> None:
    before = site.engine.inspect(f"{site.project}_omeroweb_1")["NetworkSettings"]["Networks"]
    network = next(iter(before))
    address = before[network]["IPAddress"]
    site.compose("rm", "-sf", "omeroweb")
    # takes the address that is free now
    image = site.engine.inspect(f"{site.project}_nginx_1")["Config"]["Image"]
    other = f"{site.project}-other"
    site.engine.run("run", "-d", "--name", other, "--network", network, "--entrypoint=sleep", image, "99")
    try:
        site.compose("up", "-d", "--no-deps", "omeroweb")
        after = site.engine.inspect(f"{site.project}_omeroweb_1")["NetworkSettings"]["Networks"]
        assert after[network]["IPAddress"] != address
        deadline = time.monotonic() + 40
        while (status := site.get("/webclient/")[0].status) != 200:
            assert time.monotonic() < deadline, status
            time.sleep(1)
    finally:
        site.engine.run("rm", "-f", other)
