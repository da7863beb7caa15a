"""A router and a server of their own for tests: the real glacier2router, the real server process, two seconds.

    omero-stand-in [--data FOLDER] -- COMMAND ...

runs a command with ``OMERO_HOST``, ``OMERO_PORT``, ``OMERO_TCP_PORT`` and ``OMERO_ROOT_PASSWORD`` set, and ends the
two processes with it; without a command it waits for Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Where this package is, so that the server that is started is this one, installed or not.
PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
_ROUTER = """
Glacier2.InstanceName=OMERO.Glacier2
Glacier2.Client.Endpoints=ssl -h 127.0.0.1 -p {ssl}:tcp -h 127.0.0.1 -p {tcp}
Glacier2.Server.Endpoints=tcp -h 127.0.0.1
Glacier2.PermissionsVerifier=BlitzVerifier:tcp -h 127.0.0.1 -p {blitz}
Glacier2.SessionManager=BlitzManager:tcp -h 127.0.0.1 -p {blitz}
Glacier2.Client.ForwardContext=1
Glacier2.Client.ACM.Close=4
Glacier2.Client.ACM.Timeout=60
Glacier2.SessionTimeout=600
Glacier2.Client.MessageSizeMax=250000
Ice.MessageSizeMax=250000
Ice.Plugin.IceSSL=IceSSL:createIceSSL
IceSSL.CertFile={cert}
IceSSL.Password=
IceSSL.VerifyPeer=0
Ice.Warn.Connections=0
"""


@dataclass
class Running:
    """A server that answers."""

    host: str
    port: int
    tcp_port: int
    root_password: str
    data: Path
    process: subprocess.Popen[bytes]

    def environment(self) -> dict[str, str]:
        """The variables by which clients find it."""
        return {
            "OMERO_HOST": self.host,
            "OMERO_PORT": str(self.port),
            "OMERO_TCP_PORT": str(self.tcp_port),
            "OMERO_ROOT_PASSWORD": self.root_password,
        }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended with exit code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"{what} does not answer at port {port}")


def _certificate(folder: Path) -> Path:
    """A self-signed certificate in PKCS#12, as the router wants it."""
    key, cert, both = folder / "key.pem", folder / "cert.pem", folder / "router.p12"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(cert),
        ],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        ["openssl", "pkcs12", "-export", "-inkey", str(key), "-in", str(cert), "-out", str(both), "-passout", "pass:"],
        check=True,
        capture_output=True,
    )
    return both


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def running(data: Path | None = None, root_password: str | None = None, log: Path | None = None) -> Iterator[Running]:
    """Start a router and a server on free ports of loopback; stop both at the end."""
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omero-stand-in-")))
        data = data or work / "data"
        password = root_password or secrets.token_hex(8)
        blitz, ssl, tcp = _free_port(), _free_port(), _free_port()
        out = stack.enter_context(log.open("ab")) if log else sys.stderr
        environment = {**os.environ, "OMERO_ROOT_PASSWORD": password, "OMERO_DATA_DIR": str(data)}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(PACKAGE_FOLDER), os.environ.get("PYTHONPATH", "")])
        )
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "omero_stand_in",
                f"--BlitzAdapter.Endpoints=tcp -h 127.0.0.1 -p {blitz}",
                f"--omero.router.insecure=OMERO.Glacier2/router:tcp -p {tcp} -h @omero.host@",
            ],
            env=environment,
            stderr=out,
        )
        stack.callback(_end, server)
        config = work / "router.cfg"
        config.write_text(_ROUTER.format(ssl=ssl, tcp=tcp, blitz=blitz, cert=_certificate(work)))
        _wait(blitz, server, "the server")
        router = subprocess.Popen(["glacier2router", f"--Ice.Config={config}"], stderr=out)
        stack.callback(_end, router)
        _wait(ssl, router, "the router")
        yield Running("127.0.0.1", ssl, tcp, password, data, server)


def main() -> int:
    """Run a command against a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--log", type=Path, help="the server's log, instead of this terminal")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = [word for word in options.command if word != "--"]
    with running(options.data, log=options.log) as server:
        if command:
            return subprocess.run(command, env={**os.environ, **server.environment()}).returncode
        for key, value in server.environment().items():
            print(f"export {key}={value}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
