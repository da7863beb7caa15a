"""A web server and a mail server for tests, which can be made to fail, crash, answer slowly or answer wrongly."""

from __future__ import annotations

import http.client
import select
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Hook(ThreadingHTTPServer):
    """A web server with one scripted behaviour per request; it accepts all later requests."""

    daemon_threads = True

    def __init__(self) -> None:
        self.script: list[str] = []
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.during: Callable[[], None] = lambda: None
        self.at_once: Counter[str] = Counter()
        self.worst = 0
        self.requests = 0
        super().__init__(("127.0.0.1", 0), _HookHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?key=1"


class _HookHandler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        hook = self.server
        hook.requests += 1
        key = self.headers["X-Biomeroworker-Delivery"]
        hook.at_once[key] += 1
        hook.worst = max(hook.worst, hook.at_once[key])
        try:
            self._answer(hook, hook.script.pop(0) if hook.script else "200")
        finally:
            hook.at_once[key] -= 1

    def _answer(self, hook: Hook, behaviour: str) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        hook.during()
        if behaviour == "die":
            self.connection.close()
        elif behaviour == "drip":
            try:
                for _ in range(100):
                    self.wfile.write(b"H")
                    time.sleep(0.1)
            except OSError:
                pass
        elif behaviour == "garbage":
            self.wfile.write(b"\x00\xff not http\r\n\r\n")
        elif behaviour == "bad headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n: no name\r\nno colon\r\n\r\n")
        else:
            if behaviour == "200":
                hook.taken.append((dict(self.headers), body))
            self.send_response(int(behaviour))
            self.send_header("Location", "/elsewhere")
            self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


class Post(socketserver.ThreadingTCPServer):
    """A mail server: the part of RFC 5321 that is needed to accept or refuse an e-mail."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.refusals: dict[str, list[str]] = {}  # by verb, a reply per time
        self.letters: list[tuple[str, list[str], bytes]] = []
        self.logins: list[str] = []
        self.drips: list[bytes] = []  # sent slowly before the greeting
        self.context = context
        super().__init__(("127.0.0.1", 0), _PostHandler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _PostHandler(socketserver.StreamRequestHandler):
    server: Post

    def handle(self) -> None:
        post, sender, recipients = self.server, "", []
        for part in post.drips:
            self.wfile.write(part)
            time.sleep(0.1)
        self._reply("220 post ESMTP")
        while line := self.rfile.readline().decode().strip():
            verb = line.split()[0].upper()
            if refused := post.refusals.get(verb):
                reply = refused.pop(0)
                if reply == "die":
                    return
                self._reply(reply)
            elif verb == "EHLO":
                offers = ["STARTTLS"] if post.context and not isinstance(self.connection, ssl.SSLSocket) else []
                self._reply("\r\n".join(["250-post", *(f"250-{offer}" for offer in offers), "250 AUTH PLAIN"]))
            elif verb == "STARTTLS" and post.context:
                self._reply("220 go")
                try:
                    self.connection = post.context.wrap_socket(self.connection, server_side=True)
                except ssl.SSLError:
                    return
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
            elif verb == "AUTH":
                post.logins.append(line)
                self._reply("235 welcome")
            elif verb == "MAIL":
                sender = line
                self._reply("250 ok")
            elif verb == "RCPT":
                recipients.append(line)
                self._reply("250 ok")
            elif verb == "DATA":
                self._reply("354 go on")
                content = b""
                while (part := self.rfile.readline()) != b".\r\n":
                    content += part
                post.letters.append((sender, recipients, content))
                if post.refusals.get("TAKEN"):
                    post.refusals["TAKEN"].pop()
                    return  # it has the e-mail, and crashes before it answers
                self._reply("250 taken")
            elif verb == "QUIT":
                self._reply("221 bye")
                return
            else:
                self._reply("250 ok")

    def _reply(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


class Proxy(ThreadingHTTPServer):
    """An HTTP proxy that records its requests, with one scripted behaviour per request."""

    daemon_threads = True

    def __init__(self) -> None:
        self.script: list[str] = []
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), _ProxyHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _ProxyHandler(BaseHTTPRequestHandler):
    server: Proxy

    def do_CONNECT(self) -> None:
        self.server.requests.append(f"CONNECT {self.path}")
        host, _, port = self.path.rpartition(":")
        match self.server.script.pop(0) if self.server.script else "":
            case "407":
                self.send_error(407)
            case "drip":
                with suppress(OSError):
                    for _ in range(100):
                        self.wfile.write(b"H")
                        time.sleep(0.1)
            case _:
                with socket.create_connection((host, int(port)), timeout=10) as target:
                    self.send_response(200)
                    self.end_headers()
                    self._relay(target)

    def _relay(self, target: socket.socket) -> None:
        ends = {self.connection: target, target: self.connection}
        while True:
            for one in select.select(list(ends), [], [], 10)[0]:
                data = one.recv(65536)
                if not data:
                    return
                ends[one].sendall(data)

    def do_POST(self) -> None:
        self.server.requests.append(f"POST {self.path}")
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        target = http.client.HTTPConnection(address.netloc, timeout=10)
        target.request("POST", f"{address.path}?{address.query}", body, dict(self.headers))
        self.send_response(target.getresponse().status)
        self.end_headers()
        target.close()

    def log_message(self, *args: Any) -> None:
        pass


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for ``localhost`` that no authority has signed, and a server's context with it."""
    file, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", file],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return file, context


def over_tls(server: Any, context: ssl.SSLContext) -> Any:
    """The same server with TLS from the first byte."""
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
