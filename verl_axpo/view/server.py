"""The page on this machine alone: GET / is the page, GET /data/ADDRESS what it asks for.

Only this machine may ask, and only by this machine's names: a web page elsewhere cannot read a run through a name that
it points here (DNS rebinding).
"""

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from verl_axpo.view.page import POLICY, page
from verl_axpo.view.source import Source, answer

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")


class ViewServer(ThreadingHTTPServer):
    """Serves a source until it is shut down; `port` 0 takes a free one."""

    daemon_threads = True

    def __init__(self, source: Source, port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.source = source
        self.asking = threading.Lock()  # a source reads files into its own fields

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if _name(self.headers.get("Host", "")) not in NAMES:
            return self._send(HTTPStatus.FORBIDDEN, "text/plain", b"ask by the name 127.0.0.1 or localhost")
        path = urlsplit(self.path).path
        if path == "/":
            return self._send(HTTPStatus.OK, "text/html; charset=utf-8", page().encode())
        try:
            with self.server.asking:
                media, content = answer(self.server.source, path.removeprefix("/data/"))
        except (ValueError, OSError) as error:
            return self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", str(error).encode())
        self._send(HTTPStatus.OK, media, content)

    def _send(self, status: HTTPStatus, media: str, content: bytes) -> None:
        headers = {
            "Content-Type": media,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": POLICY if media.startswith("text/html") else "default-src 'none'",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal belongs to the user."""


def _name(host: str) -> str | None:
    """Without the port; None for what is no name."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
