"""A dataset hub on this machine: the part of the Hugging Face API that loading needs, over folders."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BRANCH, COMMIT = "main", hashlib.sha1(b"fixtures").hexdigest()
_API = re.compile(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?")
_FILE = re.compile(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


def _entry(folder: Path, item: Path) -> dict[str, Any]:
    kind, size = ("directory", 0) if item.is_dir() else ("file", item.stat().st_size)
    path = item.relative_to(folder).as_posix()
    return {"type": kind, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": size, "path": path}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repositories: dict[str, Path]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, body: Any) -> None:
        self._send(json.dumps(body).encode(), Content_Type="application/json")

    def _api(self, repository: str, folder: Path, verb: str | None, path: str) -> None:
        if verb == "paths-info":
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text)["paths"]
            self._json([_entry(folder, folder / name) for name in asked if (folder / name).exists()])
        elif verb == "tree":
            self._json([_entry(folder, item) for item in sorted((folder / path).rglob("*"))])
        else:
            files = [item.relative_to(folder).as_posix() for item in sorted(folder.rglob("*")) if item.is_file()]
            self._json({"id": repository, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]})

    def _answer(self) -> None:
        url = unquote(urlsplit(self.path).path)
        api, file = _API.fullmatch(url), _FILE.fullmatch(url)
        found = api or file
        folder = self.repositories.get(found[1]) if found else None
        revision = (api[3] or BRANCH) if api else (file[2] if file else BRANCH)
        if revision not in (BRANCH, COMMIT):
            self._send(b"", 404, X_Error_Code="RevisionNotFound")
        elif api and folder:
            self._api(api[1], folder, api[2], api[4] or "")
        elif file and folder and (folder / file[3]).is_file():
            body = (folder / file[3]).read_bytes()
            self._send(body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=COMMIT)
        else:
            self._send(b"", 404, X_Error_Code="EntryNotFound" if folder else "RepoNotFound")

    do_GET = do_HEAD = do_POST = _answer


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[str]:
    """Serve folders as dataset repositories by name; yields the endpoint."""
    handler = type("Handler", (_Handler,), {"repositories": repositories})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
