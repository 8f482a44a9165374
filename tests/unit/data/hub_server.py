"""A hub on a local port: repository info, file tree, resolve with ETag and a redirect to a "CDN" that knows Range.

`cut_after` makes the CDN close the connection after that many bytes of a body, `cuts` times.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LFS_FROM_BYTES = 1000  # larger files have a SHA-256 and lie on the CDN, as on the real hub
COMMIT = "c0ffee" + "0" * 34


def git_sha1(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """The files of one dataset, what was asked for, and the faults to be made."""

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        self.repo = repo
        self.files = files
        self.asked: list[tuple[str, str | None]] = []  # (path on the CDN, Range header)
        self.cut_after = 0
        self.cuts = 0
        self.lie = False  # serve other bytes than the tree announces
        self.url = ""

    def tree(self) -> list[dict[str, object]]:
        entries: list[dict[str, object]] = []
        for path, content in self.files.items():
            entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": git_sha1(content)}
            if len(content) > LFS_FROM_BYTES:
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
            entries.append(entry)
        return entries


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            api, files = f"/api/datasets/{hub.repo}", f"/datasets/{hub.repo}/resolve/{COMMIT}/"
            if path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
                self._json({"id": hub.repo, "sha": COMMIT, "siblings": [], "tags": []})
            elif path == f"{api}/tree/{COMMIT}":
                self._json(hub.tree())
            elif path.startswith(files) and path[len(files) :] in hub.files:
                self._resolve(path[len(files) :])
            elif path.startswith("/cdn/") and path[5:] in hub.files:
                self._send(path[5:])
            else:
                code = "RevisionNotFound" if path.startswith(f"{api}/revision/") else "RepoNotFound"
                self._json({"error": "not found"}, status=404, headers={"X-Error-Code": code})

        def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Type": "application/json", "Content-Length": str(len(body))}.items():
                self.send_header(name, text)
            for name, text in (headers or {}).items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def _resolve(self, name: str) -> None:
            if len(hub.files[name]) <= LFS_FROM_BYTES:
                self._send(name)
                return
            self.send_response(302)
            self.send_header("Location", f"/cdn/{name}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Size", str(len(hub.files[name])))
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(hub.files[name]).hexdigest()}"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, name: str) -> None:
            content, wanted = hub.files[name], self.headers.get("Range")
            hub.asked.append((name, wanted))
            start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
            body = bytes(len(content) - start) if hub.lie else content[start:]
            self.send_response(206 if wanted else 200)
            self.send_header("ETag", f'"{git_sha1(content)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if hub.cuts and len(body) > hub.cut_after:
                hub.cuts -= 1
                self.wfile.write(body[: hub.cut_after])
                self.wfile.flush()
                self.close_connection = True
                return
            self.wfile.write(body)

    return Handler


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub on a free local port while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
