"""A dataset hub on this machine over folders: for a cluster without a network, and for the tiny recipes and tests.

ROOT/<owner>/<dataset>/files... -> app() -> serving() -> HF_ENDPOINT of `verl-axpo data fetch`, `datasets`, ...

    python -m examples.tiny_world.mirror ROOT -- COMMAND...

runs COMMAND with ROOT as its hub and ROOT.cache as its cache.

It speaks what the clients of the hub need to read datasets: info, tree, paths-info, and files with Range, large ones
through a redirect. A dataset has one branch, `main`, whose commit is a hash of what the folder holds. Folders are read
once: what changes while the mirror runs is not seen.
"""

import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import uvicorn
from huggingface_hub.utils.sha import git_hash
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from verl_axpo.files import sha256_of

HOST = "127.0.0.1"
BRANCH = "main"
LARGE_BYTES = 10 << 20  # from here on the hub keeps a file by its SHA-256, on a server of its own
START_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file; `sha` is git's hash of a small file, SHA-256 of a large one."""

    local: Path
    size: int
    sha: str

    def described(self, path: str) -> dict[str, Any]:
        """As the hub's tree lists it."""
        lfs = {"lfs": {"oid": self.sha, "size": self.size, "pointerSize": 134}} if self.size > LARGE_BYTES else {}
        return {"type": "file", "path": path, "size": self.size, "oid": self.sha[:40], **lfs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A dataset's files by path, and the commit that they make up."""

    name: str
    files: Mapping[str, Entry]
    commit: str

    @classmethod
    def of(cls, name: str, folder: Path) -> "Repository":
        """Every file of a folder, hashed."""
        found = {item.relative_to(folder).as_posix(): _entry(item) for item in sorted(folder.rglob("*"))}
        files = {path: entry for path, entry in found.items() if entry is not None}
        listing = "\n".join(f"{path} {entry.sha}" for path, entry in files.items())
        return cls(name=name, files=files, commit=hashlib.sha1(f"{name}\n{listing}".encode()).hexdigest())

    def listed(self) -> dict[str, dict[str, Any]]:
        """Files and folders by path, as the hub's tree lists them."""
        folders = {str(parent) for path in self.files for parent in PurePosixPath(path).parents} - {"."}
        made = {path: {"type": "directory", "path": path, "size": 0, "oid": _oid(path)} for path in sorted(folders)}
        return {**made, **{path: entry.described(path) for path, entry in self.files.items()}}


def _entry(item: Path) -> Entry | None:
    if not item.is_file():
        return None
    size = item.stat().st_size
    return Entry(local=item, size=size, sha=sha256_of(item) if size > LARGE_BYTES else git_hash(item.read_bytes()))


def _oid(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def _missing(code: str) -> Response:
    """The hub's 404; its clients tell by the code what is missing."""
    return JSONResponse({"error": code}, status_code=404, headers={"X-Error-Code": code})


class Mirror:
    """The answers; `root` has a folder for each owner, in it one for each dataset."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, Repository] = {}

    def find(self, request: Request) -> Repository | Response:
        """The dataset that a request names, or why there is none."""
        owner, dataset = request.path_params["owner"], request.path_params["dataset"]
        name = f"{owner}/{dataset}"
        if name not in self._known:
            folder = self.root / owner / dataset
            if ".." in (owner, dataset) or not folder.is_dir():
                return _missing("RepoNotFound")
            self._known[name] = Repository.of(name, folder)
        found = self._known[name]
        known = request.path_params.get("revision", BRANCH) in (BRANCH, found.commit)
        return found if known else _missing("RevisionNotFound")

    def info(self, request: Request) -> Response:
        """`/api/datasets/NAME`: the commit, and the names of the files."""
        found = self.find(request)
        if isinstance(found, Response):
            return found
        siblings = [{"rfilename": path} for path in found.files]
        return JSONResponse({"id": found.name, "sha": found.commit, "siblings": siblings, "tags": []})

    def tree(self, request: Request) -> Response:
        """What a folder holds, `recursive` or not."""
        found = self.find(request)
        if isinstance(found, Response):
            return found
        top = PurePosixPath(request.path_params.get("path", ""))
        deep = request.query_params.get("recursive", "").lower() in ("true", "1")
        inside = (entry for entry in found.listed().values() if top in PurePosixPath(entry["path"]).parents)
        return JSONResponse([entry for entry in inside if deep or PurePosixPath(entry["path"]).parent == top])

    async def paths_info(self, request: Request) -> Response:
        """Those of the paths in the request's body that exist."""
        found = self.find(request)
        if isinstance(found, Response):
            return found
        is_json = request.headers.get("content-type", "").startswith("application/json")
        asked = (await request.json())["paths"] if is_json else (await request.form()).getlist("paths")
        listed = found.listed()
        return JSONResponse([listed[path] for path in asked if path in listed])

    def resolve(self, request: Request) -> Response:
        """A small file, or where the large one is."""
        found = self.find(request)
        if isinstance(found, Response):
            return found
        path = request.path_params["path"]
        entry = found.files.get(path)
        if entry is None:
            return _missing("EntryNotFound")
        headers = {"X-Repo-Commit": found.commit, "ETag": f'"{entry.sha}"'}
        if entry.size <= LARGE_BYTES:
            return FileResponse(entry.local, headers=headers)
        headers = {"X-Repo-Commit": found.commit, "X-Linked-ETag": f'"{entry.sha}"', "X-Linked-Size": str(entry.size)}
        return RedirectResponse(f"/large/{found.name}/{path}", status_code=302, headers=headers)

    def large(self, request: Request) -> Response:
        """A large file's bytes."""
        found = self.find(request)
        if isinstance(found, Response):
            return found
        entry = found.files.get(request.path_params["path"])
        return FileResponse(entry.local) if entry else _missing("EntryNotFound")


def app(root: Path) -> Starlette:
    """The mirror of `root` as an ASGI application."""
    mirror, name = Mirror(root), "{owner}/{dataset}"
    api = f"/api/datasets/{name}"
    return Starlette(
        routes=[
            Route(api, mirror.info),
            Route(f"{api}/revision/{{revision}}", mirror.info),
            Route(f"{api}/tree/{{revision}}", mirror.tree),
            Route(f"{api}/tree/{{revision}}/{{path:path}}", mirror.tree),
            Route(f"{api}/paths-info/{{revision}}", mirror.paths_info, methods=["POST"]),
            Route(f"/datasets/{name}/resolve/{{revision}}/{{path:path}}", mirror.resolve),
            Route(f"/large/{name}/{{path:path}}", mirror.large),
        ]
    )


@contextmanager
def serving(application: ASGIApp) -> Iterator[str]:
    """The application on a free port of this machine while the block runs; yields its URL.

    Raises:
        RuntimeError: it did not start.
    """
    server = uvicorn.Server(uvicorn.Config(application, host=HOST, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("mirror: no port of this machine could be opened")
            time.sleep(0.01)
        yield f"http://{HOST}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def environment(url: str, cache: Path) -> dict[str, str]:
    """This process's environment with the mirror at `url` as its hub.

    The cache is one of its own, whatever variables name another: the datasets here may bear the names of real ones.
    """
    elsewhere = re.compile(r"(HF|TRANSFORMERS|HUGGINGFACE)_.*(CACHE|OFFLINE)")
    kept = {name: value for name, value in os.environ.items() if not elsewhere.fullmatch(name)}
    direct = {name: ",".join(filter(None, (kept.get(name), HOST))) for name in ("no_proxy", "NO_PROXY")}
    return {**kept, **direct, "HF_ENDPOINT": url, "HF_HOME": str(cache)}


def main() -> int:
    """Run a command with the mirror as its hub; returns the command's exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not arguments.root.is_dir() or not command:
        parser.error(f"got ROOT={arguments.root} and {command}, expected a folder and a command after `--`")
    root = arguments.root.resolve()
    with serving(app(root)) as url:
        child = subprocess.Popen(command, env=environment(url, root.with_name(f"{root.name}.cache")))
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches the whole group: the command ends by itself
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        return child.wait()


if __name__ == "__main__":
    sys.exit(main())
