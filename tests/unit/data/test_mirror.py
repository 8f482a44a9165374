"""The mirror as a command, and its answers to requests for files that it does not have."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from examples.tiny_world.mirror import LARGE_BYTES, Repository, app, serving

COMMAND = [sys.executable, "-m", "examples.tiny_world.mirror"]
SET = "some/set"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, content in {"README.md": b"# a set\n", "data/a.csv": b"x\n1\n", "data/more/b.csv": b"x\n2\n"}.items():
        (tmp_path / "hub" / SET / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hub" / SET / path).write_bytes(content)
    (tmp_path / "secret").write_text("outside")
    return tmp_path / "hub"


def test_what_a_command_reads_lands_in_the_mirrors_cache_whatever_a_cluster_has_set(root: Path, tmp_path: Path) -> None:
    elsewhere = {
        **dict.fromkeys(("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"), str(tmp_path / "users")),
        **dict.fromkeys(("HF_DATASETS_CACHE", "XDG_CACHE_HOME"), str(tmp_path / "users")),
        **dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1"),
        **dict.fromkeys(("http_proxy", "HTTP_PROXY"), "http://127.0.0.1:9"),  # nobody is there
    }
    code = (
        "from datasets import load_dataset; from huggingface_hub import snapshot_download\n"
        f"print(len(load_dataset('{SET}', data_files='data/*.csv', split='train')))\n"
        f"print(snapshot_download('{SET}', repo_type='dataset'))"
    )
    command = [*COMMAND, str(root), "--", sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, **elsewhere}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, snapshot = done.stdout.split()
    assert rows == "1"
    assert Path(snapshot).is_relative_to(root.with_name("hub.cache"))
    assert not (tmp_path / "users").exists()


@pytest.mark.parametrize("status", [0, 7])
def test_the_command_s_status_is_the_mirrors(root: Path, status: int) -> None:
    command = [*COMMAND, str(root), "--", sys.executable, "-c", f"raise SystemExit({status})"]
    assert subprocess.run(command, capture_output=True).returncode == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_then_the_mirror(root: Path, tmp_path: Path, number: int) -> None:
    """SIGINT as Ctrl-C sends it, to the group; SIGTERM to the mirror alone."""
    said = tmp_path / "said"
    code = (
        "import pathlib, signal, sys, time\n"
        "def end(number, frame): pathlib.Path(sys.argv[1]).write_text(str(number)); sys.exit(3)\n"
        "signal.signal(signal.SIGINT, end); signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    command = [*COMMAND, str(root), "--", sys.executable, "-c", code, str(said)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)  # the mirror takes its own signals once the command runs
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait(60) == 3
    assert said.read_text() == str(int(number))


@pytest.mark.parametrize("words", [["nowhere", "--", "true"], [".", "--"], ["."]])
def test_a_wrong_command_line_says_what_is_expected(words: list[str]) -> None:
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected a folder and a command after `--`" in done.stderr


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/datasets/no/such", "RepoNotFound"),
        ("/api/datasets/%2e%2e/hub", "RepoNotFound"),
        (f"/api/datasets/{SET}/revision/v9", "RevisionNotFound"),
        (f"/api/datasets/{SET}/tree/v9", "RevisionNotFound"),
        (f"/datasets/{SET}/resolve/v9/README.md", "RevisionNotFound"),
        (f"/datasets/{SET}/resolve/main/none.csv", "EntryNotFound"),
        (f"/datasets/{SET}/resolve/main/%2e%2e/%2e%2e/%2e%2e/secret", "EntryNotFound"),
        (f"/large/{SET}/%2e%2e/%2e%2e/%2e%2e/secret", "EntryNotFound"),
    ],
)
def test_what_is_not_there_has_the_hubs_code(root: Path, path: str, code: str) -> None:
    with serving(app(root)) as url, httpx.Client() as client:
        answer = client.send(client.build_request("GET", httpx.URL(url).copy_with(raw_path=path.encode())))
    assert (answer.status_code, answer.headers.get("X-Error-Code")) == (404, code)


def test_a_tree_is_that_of_the_folder_asked_for(root: Path) -> None:
    with serving(app(root)) as url, httpx.Client(base_url=f"{url}/api/datasets/{SET}/tree/main") as client:

        def paths(folder: str, **query: str) -> list[str]:
            return [entry["path"] for entry in client.get(folder, params=query).json()]

        assert paths("") == ["data", "README.md"]
        assert paths("/data") == ["data/more", "data/a.csv"]
        assert paths("/data", recursive="true") == ["data/more", "data/a.csv", "data/more/b.csv"]
        assert client.post(
            f"{url}/api/datasets/{SET}/paths-info/main", json={"paths": ["data", "none", "data/a.csv"]}
        ).json() == [
            {"type": "directory", "path": "data", "size": 0, "oid": client.get("").json()[0]["oid"]},
            # `printf 'x\n1\n' | git hash-object --stdin`
            {"type": "file", "path": "data/a.csv", "size": 4, "oid": "5cb1a1ef92c35187232d20bbd698dfd5e1593d46"},
        ]


def test_the_commit_follows_what_the_folder_holds(root: Path) -> None:
    first = Repository.of(SET, root / SET).commit
    assert Repository.of(SET, root / SET).commit == first
    assert Repository.of("other/name", root / SET).commit != first
    (root / SET / "data/a.csv").write_bytes(b"x\n3\n")
    assert Repository.of(SET, root / SET).commit != first


def test_a_large_file_is_elsewhere_and_comes_in_pieces(root: Path) -> None:
    content = os.urandom(1 << 10) * (LARGE_BYTES >> 10) + b"!"
    (root / SET / "large.bin").write_bytes(content)
    with serving(app(root)) as url, httpx.Client() as client:
        first = client.get(f"{url}/datasets/{SET}/resolve/main/large.bin")
        assert (first.status_code, first.headers["X-Linked-Size"]) == (302, str(len(content)))
        piece = client.get(url + first.headers["Location"], headers={"Range": f"bytes={len(content) - 3}-"})
    assert (piece.status_code, piece.content) == (206, content[-3:])
