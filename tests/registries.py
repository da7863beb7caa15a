"""Separate container registries for tests, with TLS and optional passwords, and small images for them."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bcrypt

from sandbox.root import free_port
from sandbox.workflow import oci


@contextlib.contextmanager
def own_registry(
    folder: Path, storage: Path, login: tuple[str, str] | None = None, *, tls: bool = True
) -> Iterator[str]:
    """Debian's docker-registry, over HTTPS with an untrusted certificate, or over HTTP; yields ``host:port``."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = [*request, *names, "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    port = free_port()
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if tls:
        config["http"]["tls"] = {"certificate": str(certificate), "key": str(key)}
    if login:
        hashed = bcrypt.hashpw(login[1].encode(), bcrypt.gensalt(4)).decode()
        (folder / "htpasswd").write_text(f"{login[0]}:{hashed}\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    (folder / "registry.yml").write_text(json.dumps(config))  # JSON is YAML
    with (folder / "registry.log").open("w") as log:
        server = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "registry.yml")], stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        assert server.poll() is None, (folder / "registry.log").read_text()
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def busybox_image(folder: Path, entry: str, more: Mapping[str, Any] | None = None) -> Path:
    """The OCI layout, tag ``v1``, of an image of some megabytes whose entry point is this shell script."""
    root = folder / "root"
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc", "var/tmp", "home"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "cat", "env", "id", "ls", "pwd", "kill", "sleep", "touch"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "entry.sh").write_text(entry)
    (root / "entry.sh").chmod(0o755)
    layer = oci.Layer.of_folder(root, folder / "layer.tar.gz")
    oci.write_layout(folder / "layout", "v1", [layer], ["/entry.sh"], {}, more)
    return folder / "layout"


def push(layout: Path, name: str, login: tuple[str, str] | None = None) -> None:
    """Push the image to a registry as ``host:port/path:tag``."""
    copy = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]
    if login:
        copy.append(f"--dest-creds={login[0]}:{login[1]}")
    subprocess.run([*copy, f"oci:{layout}:v1", f"docker://{name}"], check=True, timeout=60)


def auth_file(path: Path, key: str, login: tuple[str, str]) -> Path:
    """A file with one login, as podman writes it."""
    secret = base64.b64encode(":".join(login).encode()).decode()
    path.write_text(json.dumps({"auths": {key: {"auth": secret}}}))
    path.chmod(0o600)
    return path
