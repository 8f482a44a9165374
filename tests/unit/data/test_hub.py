"""Downloads from a hub that speaks the real protocol: which files, how they are verified, and broken transfers."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.hf_api import RepoFile

from examples.tiny_world.mirror import Repository, app, serving
from tests.unit.data.faulty import Faulty
from tests.unit.disk_faults import disk_full, killed_at_each_write
from verl_axpo.data import hub as hub_module
from verl_axpo.data.hub import PIECES, fetch
from verl_axpo.errors import InfraFailure

REPO = "some/set"
MIB = 1 << 20
LARGE = bytes(range(256)) * 4096 * 24  # 24 MiB: "large", so on the CDN with a SHA-256
WRITTEN = constants.DOWNLOAD_CHUNK_SIZE  # the client writes whole chunks: of 15 MiB received, 10 are kept
FILES = {"README.md": b"# a set\n", "data/rows.parquet": LARGE, "cache.pkl": b"never"}


class Hub(Faulty):
    """A mirror of one dataset, at `url`."""

    root: Path
    url: str


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("hub")
    for name, content in FILES.items():
        path = root / REPO / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    made = Hub(app(root))
    made.root = root
    with serving(made) as made.url:
        yield made


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_files_arrive_through_the_redirect_and_pickles_never_do(hub: Hub, tmp_path: Path) -> None:
    told: list[str] = []
    got = fetch(REPO, ["*"], tmp_path, endpoint=hub.url, tell=told.append)
    assert got.commit == Repository.of(REPO, hub.root / REPO).commit
    assert got.bytes_brought == len(LARGE) + len(FILES["README.md"])
    assert (tmp_path / "data/rows.parquet").read_bytes() == LARGE
    assert names(tmp_path) == {"README.md", "data/rows.parquet"}
    assert told == ["README.md: 8 bytes", "data/rows.parquet: 25,165,824 bytes"]


def test_what_is_there_is_verified_and_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    fetch(REPO, ["*"], tmp_path, endpoint=hub.url)
    asked = len(hub.asked)
    assert fetch(REPO, ["*"], tmp_path, endpoint=hub.url).bytes_brought == 0
    assert len(hub.asked) == asked
    (tmp_path / "data/rows.parquet").write_bytes(bytes(len(LARGE)))  # as long, but damaged
    assert fetch(REPO, ["*"], tmp_path, endpoint=hub.url).bytes_brought == len(LARGE)
    assert (tmp_path / "data/rows.parquet").read_bytes() == LARGE


def test_a_dropped_connection_continues_where_it_ended(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts = 15 * MIB, 1
    fetch(REPO, ["data/*.parquet"], tmp_path, endpoint=hub.url)
    assert hub.asked == [("data/rows.parquet", None), ("data/rows.parquet", f"bytes={WRITTEN}-")]
    assert (tmp_path / "data/rows.parquet").read_bytes() == LARGE


def test_a_killed_download_continues_in_the_next_process(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.cuts = 15 * MIB, 1
    code = (
        "import sys, pathlib; from verl_axpo.data.hub import fetch; "
        "fetch(sys.argv[1], ['data/*'], pathlib.Path(sys.argv[2]), endpoint=sys.argv[3])"
    )
    first = subprocess.Popen([sys.executable, "-c", code, REPO, str(tmp_path), hub.url], stderr=subprocess.PIPE)
    assert first.stderr is not None
    while b"resume download" not in first.stderr.readline():  # it has lost the connection and waits a second
        assert first.poll() is None
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    first.stderr.close()
    (piece,) = (tmp_path / PIECES).iterdir()
    assert piece.stat().st_size == WRITTEN
    assert names(tmp_path) == {f"{PIECES}/{piece.name}"}
    hub.asked.clear()
    fetch(REPO, ["data/*"], tmp_path, endpoint=hub.url)
    assert hub.asked == [("data/rows.parquet", f"bytes={WRITTEN}-")]
    assert (tmp_path / "data/rows.parquet").read_bytes() == LARGE


def test_other_bytes_than_announced_are_not_taken(hub: Hub, tmp_path: Path) -> None:
    hub.lie = True
    with pytest.raises(InfraFailure, match=r"data/rows.parquet: got 25,165,824 bytes with another hash"):
        fetch(REPO, ["data/*"], tmp_path, endpoint=hub.url)
    assert names(tmp_path) == set()
    hub.lie = False
    fetch(REPO, ["data/*"], tmp_path, endpoint=hub.url)
    assert (tmp_path / "data/rows.parquet").read_bytes() == LARGE


@pytest.mark.parametrize(
    ("repo", "patterns", "revision", "told"),
    [
        ("no/such", ["*"], None, "no/such at its default branch"),
        (REPO, ["*"], "v9", "some/set at v9"),
        (REPO, ["images.zip"], None, "expected images.zip; the dataset's layout has changed"),
        (REPO, ["*.pkl"], None, r"expected \*.pkl"),
    ],
)
def test_what_does_not_exist_is_named(
    hub: Hub, tmp_path: Path, repo: str, patterns: list[str], revision: str | None, told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        fetch(repo, patterns, tmp_path, revision=revision, endpoint=hub.url)


def test_a_hub_that_is_gone_says_how_to_go_on(tmp_path: Path) -> None:
    with serving(app(tmp_path)) as gone:
        pass
    with pytest.raises(InfraFailure, match="the same command goes on from there"):
        fetch(REPO, ["*"], tmp_path, endpoint=gone)


def test_a_disk_without_room_is_refused_before_the_first_byte(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "SPARE_BYTES", 10**18)  # more than any disk has left
    with pytest.raises(ValueError, match=r"GB are free, and the download needs 1000000000.0 GB; free some space"):
        fetch(REPO, ["*"], tmp_path, endpoint=hub.url)
    assert hub.asked == []


def test_the_mirror_of_the_environment_is_used(hub: Hub, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from verl_axpo.data.hub import fetch; "
        "fetch(sys.argv[1], ['*'], pathlib.Path(sys.argv[2]))"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.url}
    subprocess.run([sys.executable, "-c", code, REPO, str(tmp_path)], env=environment, check=True)
    assert names(tmp_path) == {"README.md", "data/rows.parquet"}
    assert hub.url != constants.ENDPOINT  # not by accident of this process


SHA = "a" * 40


@pytest.mark.parametrize(
    ("path", "oid"),
    [
        ("../x.json", SHA),
        ("/tmp/x.json", SHA),
        ("a/../../x.json", SHA),
        ("..\\x.json", SHA),
        ("C:\\x.json", SHA),
        ("link/x.json", SHA),
        (".pieces/x.json", SHA),
        ("x.json", "../../" + SHA),
        ("x.json", ""),
    ],
)
def test_a_listing_that_leads_out_of_the_folder_is_refused_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, oid: str
) -> None:
    def tree(*_: Any, **__: Any) -> list[RepoFile]:
        return [RepoFile(path=path, size=1, oid=oid)]

    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(sha=SHA))
    monkeypatch.setattr(HfApi, "list_repo_tree", tree)
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"the hub lists"):
        fetch(REPO, ["*"], out, endpoint="http://127.0.0.1:9")
    assert names(tmp_path) == set()


def test_a_download_killed_at_any_write_or_on_a_full_disk_continues(hub: Hub, tmp_path: Path) -> None:
    def bring(folder: Path) -> None:
        fetch(REPO, ["*"], folder, endpoint=hub.url)

    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    for told, folder in killed_at_each_write(bring, empty, tmp_path / "scratch"):
        bring(folder)
        assert (folder / "data/rows.parquet").read_bytes() == LARGE, told
        assert names(folder) == {"README.md", "data/rows.parquet"}, told
    full.mkdir()
    assert "No space left" in (disk_full(bring, full, 15 * MIB) or "")
    bring(full)
    assert names(full) == {"README.md", "data/rows.parquet"}
