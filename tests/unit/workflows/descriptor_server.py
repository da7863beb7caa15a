"""A web server for descriptors."""

from __future__ import annotations

import http.server
import time


class Site(http.server.ThreadingHTTPServer):
    """A web server with the answers of a test: text by path; ``silence`` delays them by seconds."""

    pages: dict[str, str]
    requested: list[str]
    silence = 0.0

    def handle_error(self, *_: object) -> None:
        """Ignore clients that stopped waiting: one test is about them."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.requested.append(self.path)
        time.sleep(self.server.silence)
        body = self.server.pages.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, *_: object) -> None:
        pass


def address(site: Site, path: str = "/lab/w") -> str:
    return f"http://127.0.0.1:{site.server_port}{path}"
