"""Cached answers and paid calls through kills and full disks: whole or not at all, and never counted as zero."""

import json
import os
from pathlib import Path

import pytest

from tests.unit.disk_faults import disk_full, killed_at_each_write
from verl_axpo.json_files import JsonFiles
from verl_axpo.tools.search.quota import Quota

KEY, OTHER = "ab" + "0" * 62, "cd" + "0" * 62


def _quota(folder: Path) -> Quota:
    return Quota(folder, run="r", max_paid_calls=9, calls_per_minute=60, max_wait_s=5)


def _replace_and_add(folder: Path) -> None:
    files = JsonFiles(folder)
    files.put(KEY, "new")
    files.put(OTHER, "other")


def test_a_kill_leaves_each_answer_whole_or_as_it_was(tmp_path: Path) -> None:
    before = tmp_path / "before"
    JsonFiles(before).put(KEY, "old")
    for _, folder in killed_at_each_write(_replace_and_add, before, tmp_path / "scratch"):
        files = JsonFiles(folder)
        assert files.get(KEY) in ("old", "new")
        assert files.get(OTHER) in (None, "other")
        assert set(files) <= {KEY, OTHER}
        _replace_and_add(folder)
        assert (files.get(KEY), files.get(OTHER), len(files)) == ("new", "other", 2)


def test_a_full_disk_leaves_the_older_answer(tmp_path: Path) -> None:
    files = JsonFiles(tmp_path)
    files.put(KEY, "old")
    for free_bytes in range(len(json.dumps("new"))):
        error = disk_full(lambda folder: JsonFiles(folder).put(KEY, "new"), tmp_path, free_bytes)
        assert error is not None
        assert "No space left on device" in error
        assert files.get(KEY) == "old"
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{KEY}.json"]


def test_a_kill_loses_no_paid_call(tmp_path: Path) -> None:
    before = tmp_path / "before"
    _quota(before).spend()
    for _, folder in killed_at_each_write(lambda folder: _quota(folder).spend(), before, tmp_path / "scratch"):
        assert _quota(folder).paid_calls() in (1, 2)


def test_a_full_disk_loses_no_paid_call(tmp_path: Path) -> None:
    _quota(tmp_path).spend()
    for free_bytes in (0, 5):
        assert disk_full(lambda folder: _quota(folder).spend(), tmp_path, free_bytes) is not None
        assert _quota(tmp_path).paid_calls() == 1


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_a_miss(tmp_path: Path, kind: str) -> None:
    """A folder from somebody else may contain a pipe, and reading it would wait for ever."""
    files = JsonFiles(tmp_path)
    (tmp_path / "ab").mkdir()
    path = tmp_path / "ab" / f"{KEY}.json"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    assert files.get(KEY) is None
