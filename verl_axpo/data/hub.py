"""Datasets from a hub, a mirror of it, or anything that speaks its protocol.

repo, revision -> commit -> tree (sizes, hashes) -> GET with Range onto the piece that is there -> hash -> rename

`huggingface_hub` downloads to a file of a new name each time, so that a killed download of many gigabytes starts over.
Here the piece is named by the hash it will have: the next call, in whatever process, goes on where the last one ended.
"""

import fnmatch
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, not in __all__
from huggingface_hub.utils.sha import git_hash

from verl_axpo.errors import InfraFailure
from verl_axpo.files import inside, sha256_of

PIECES = ".pieces"  # folder of unfinished downloads
NEVER = ("*.pkl", "*.pickle", "*.pt", "*.pth", "*.py")  # opening one may run its author's code
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # SHA-1 or SHA-256: it names a file here
SPARE_BYTES = 1 << 30  # left free on the disk besides what is downloaded

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What lies on disk now: the commit it is of, the files, and the bytes that this call brought."""

    commit: str
    files: tuple[str, ...]
    bytes_brought: int


def fetch(
    repo: str,
    patterns: Sequence[str],
    out: Path,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    tell: Tell = lambda line: None,
) -> Fetched:
    """Bring the files of a dataset that match `patterns` into `out`, each verified against the hub's hash.

    Args:
        repo: such as `TIGER-Lab/ViRL39K`.
        patterns: glob patterns of paths; pickles and code are never fetched.
        out: a folder; files that are there and have the right hash stay.
        revision: branch, tag or commit; the default branch without one.
        endpoint: a mirror's URL; `HF_ENDPOINT` or the hub itself without one.
        tell: gets a line per file.

    Raises:
        ValueError: no such dataset or revision, nothing that matches, no access, too little space on the disk, or a
            listing with paths or hashes that lead out of `out`, before the first byte.
        InfraFailure: the hub cannot be reached or a transfer broke off; call again to go on.
    """
    api = HfApi(endpoint=endpoint)
    try:
        commit = api.dataset_info(repo, revision=revision).sha or ""
        listed = api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset")
        tree = [entry for entry in listed if isinstance(entry, RepoFile)]
        wanted = _matching(repo, tree, patterns)
        _check_listing(repo, wanted, out)
        missing = [entry for entry in wanted if not _is_there(out / entry.path, entry)]
        _check_space(out, sum(entry.size for entry in missing))
        for entry in missing:
            tell(f"{entry.path}: {entry.size:,} bytes")
            url = hf_hub_url(repo, entry.path, repo_type="dataset", revision=commit, endpoint=api.endpoint)
            _bring(url, entry, out)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ValueError(f"{repo} at {revision or 'its default branch'}: {_first_line(error)}") from error
    except OfflineModeIsEnabled as error:
        raise ValueError(f"{repo}: {_first_line(error)}; unset HF_HUB_OFFLINE to fetch") from error
    except (httpx.HTTPError, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # the disk's fault, with its own message
        raise InfraFailure(
            f"{repo} from {api.endpoint}: {_first_line(error)}; what came so far stays in {out}, "
            "the same command goes on from there (HF_ENDPOINT names a mirror, HF_TOKEN opens gated sets)"
        ) from error
    brought = sum(entry.size for entry in missing)
    return Fetched(commit=commit, files=tuple(entry.path for entry in wanted), bytes_brought=brought)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _matching(repo: str, tree: Sequence[RepoFile], patterns: Sequence[str]) -> list[RepoFile]:
    safe = [entry for entry in tree if not any(fnmatch.fnmatch(entry.path.lower(), pattern) for pattern in NEVER)]
    found = [entry for entry in safe if any(fnmatch.fnmatch(entry.path, pattern) for pattern in patterns)]
    named = {entry.path for entry in safe}
    missing = [pattern for pattern in patterns if "*" not in pattern and pattern not in named]
    if missing or not found:
        raise ValueError(
            f"{repo}: got files {[entry.path for entry in tree][:20]}, expected {' and '.join(missing or patterns)}; "
            "the dataset's layout has changed; name an older commit with --revision"
        )
    return found


def _check_listing(repo: str, wanted: Sequence[RepoFile], out: Path) -> None:
    for entry in wanted:
        try:
            inside(out, entry.path)
        except ValueError as error:
            raise ValueError(f"{repo}: the hub lists an unsafe file: {error}") from None
        if not HASH.fullmatch(_expected(entry)) or PIECES in Path(entry.path).parts:
            raise ValueError(
                f"{repo}: the hub lists {entry.path!r} with hash {_expected(entry)!r}, expected a SHA-1 or SHA-256 and "
                f"no path in {PIECES}; fetch from another endpoint"
            )


def _check_space(out: Path, needed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if needed and free < needed + SPARE_BYTES:
        raise ValueError(
            f"{out}: {free / 1e9:.1f} GB are free, and the download needs {(needed + SPARE_BYTES) / 1e9:.1f} GB; "
            "free some space or choose another folder"
        )


def _expected(entry: RepoFile) -> str:
    """The hash that the hub vouches for: SHA-256 of a large file, git's SHA-1 of a small one."""
    return entry.lfs.sha256 if entry.lfs else entry.blob_id


def _is_there(path: Path, entry: RepoFile) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and _hash(path, entry) == _expected(entry)


def _hash(path: Path, entry: RepoFile) -> str:
    return sha256_of(path) if entry.lfs else git_hash(path.read_bytes())


def _bring(url: str, entry: RepoFile, out: Path) -> None:
    """Download one file onto its piece, verify, rename.

    Raises:
        InfraFailure: the bytes are not those that the hub announced; the piece is dropped.
    """
    target, piece = out / entry.path, out / PIECES / _expected(entry)
    piece.parent.mkdir(parents=True, exist_ok=True)
    with piece.open("ab") as file:
        if file.tell() > entry.size:
            file.truncate(0)
        http_get(
            url,
            file,
            resume_size=file.tell(),
            headers=build_hf_headers(),
            expected_size=entry.size,
            displayed_filename=entry.path,
        )
    if _hash(piece, entry) != _expected(entry):
        piece.unlink()
        raise InfraFailure(
            f"{entry.path}: got {entry.size:,} bytes with another hash than the hub's {_expected(entry)[:12]}...; "
            "the piece is dropped, fetch again (or from another endpoint)"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    piece.replace(target)
