"""The disk faults that other tests use happen at the write that they name."""

from pathlib import Path

from tests.unit.disk_faults import disk_full, killed_at_each_write


def _append_twice(folder: Path) -> None:
    with (folder / "log").open("ab") as log:
        log.write(b"first\n")
        log.flush()
        log.write(b"second\n")
    (folder / "log").rename(folder / "done")


def test_a_kill_leaves_what_was_written_before_it_and_half_of_what_was_being_written(tmp_path: Path) -> None:
    before, scratch = tmp_path / "before", tmp_path / "scratch"
    before.mkdir()
    left = [(folder / "log").read_bytes() for _, folder in killed_at_each_write(_append_twice, before, scratch)]
    assert left == [b"", b"fir", b"first\n", b"first\nsec", b"first\nsecond\n", b"first\nsecond\n"]


def test_a_full_disk_takes_a_part_of_a_write_and_then_raises(tmp_path: Path) -> None:
    error = disk_full(_append_twice, tmp_path, free_bytes=8)
    assert error is not None
    assert "No space left on device" in error
    assert (tmp_path / "log").read_bytes() == b"first\nse"


def test_what_fits_is_written(tmp_path: Path) -> None:
    assert disk_full(_append_twice, tmp_path, free_bytes=100) is None
    assert (tmp_path / "done").read_bytes() == b"first\nsecond\n"
