"""Lines of JSON with torn ends and broken middles, files that are whole or not there, pictures that are stored once."""

import errno
from pathlib import Path

import orjson
import pytest
from PIL import Image

from tests.unit.disk_faults import disk_full, killed_at_each_write
from verl_axpo.files import append_lines, inside, mend_end, naming, read_lines, write_atomically
from verl_axpo.image_store import encoded_path, store_encoded, store_image
from verl_axpo.images import png


def values(path: Path, damaged: list[str] | None = None) -> list[object]:
    return [line.value for line in read_lines(path, orjson.loads, damaged)]


def test_a_line_says_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert append_lines(path, [b'{"a":1}', '"\u2028"'.encode()]) == 0
    assert append_lines(path, [b"3"], flush=True) == 14
    first, second, third = read_lines(path, orjson.loads)
    assert (first.number, first.offset, first.data, first.value) == (1, 0, b'{"a":1}', {"a": 1})
    assert second.value == "\u2028"  # a line end to `str.splitlines`, and none here
    assert (third.number, third.offset, third.value) == (3, 14, 3)


def test_a_torn_last_line_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'1\n\n2\n{"a":')
    assert values(path) == [1, 2]
    with pytest.raises(ValueError, match=r"log\.jsonl line 4: ends in the middle, the file is cut short"):
        list(read_lines(path, orjson.loads, at_once=True))
    mend_end(path)
    assert path.read_bytes() == b"1\n\n2\n"
    path.write_bytes(b"1\n2")  # lacks only its line end
    mend_end(path)
    assert values(path) == [1, 2]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"1\n{broken\n3\n")
    with pytest.raises(ValueError, match=r"log\.jsonl line 2: "):
        values(path)
    damaged: list[str] = []
    assert values(path, damaged) == [1, 3]
    assert len(damaged) == 1
    assert damaged[0].startswith("log.jsonl line 2 is damaged and left out: ")


def test_no_file_and_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        values(tmp_path / "none.jsonl")
    mend_end(tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()
    (tmp_path / "empty.jsonl").touch()
    assert values(tmp_path / "empty.jsonl") == []


# ------------------------------ whole files ------------------------------


def rewrite(folder: Path) -> None:
    write_atomically(folder / "a/state.json", b"new" * 9, flush=True)


def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    before = tmp_path / "before"
    (before / "a").mkdir(parents=True)
    (before / "a/state.json").write_bytes(b"old")
    for place, folder in killed_at_each_write(rewrite, before, tmp_path / "scratch"):
        assert (folder / "a/state.json").read_bytes() in (b"old", b"new" * 9), place


def test_a_full_disk_is_reported_once_with_the_name_of_the_file(tmp_path: Path) -> None:
    told = disk_full(rewrite, tmp_path, 10)
    assert told is not None
    last = told.strip().splitlines()[-1]
    assert "state.json" in last
    assert last.count("free some space") == 1
    assert not list(tmp_path.rglob("*.*"))
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="free some space") as raised, naming(Path("outer")), naming(Path("inner")):
        raise full
    assert raised.value.filename == "inner"
    assert str(raised.value).count("free some space") == 1


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "C:\\a", "", ".", "a\0b"])
def test_no_name_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="expected one inside"):
        inside(tmp_path, name)


# ------------------------------ pictures ------------------------------


def test_a_picture_is_stored_once_by_its_pixels(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 4), "red")
    name = store_image(tmp_path, red)
    assert name == store_image(str(tmp_path), red.copy()) == store_image(tmp_path, red.convert("RGBA"))
    assert name != store_image(tmp_path, Image.new("RGB", (4, 8), "red"))
    assert sorted(path.parent.name for path in tmp_path.rglob("*.png")) == ["images", "images"]
    assert Image.open(tmp_path / name).getpixel((0, 0)) == (255, 0, 0)


def test_a_file_is_stored_as_it_is_and_mended_when_it_is_short(tmp_path: Path) -> None:
    data = png(Image.new("RGB", (8, 4), "red"))
    name = store_encoded(tmp_path, data)
    assert name == encoded_path(data)
    assert name.endswith(".png")
    (tmp_path / name).write_bytes(data[:9])
    assert store_encoded(tmp_path, data) == name
    assert (tmp_path / name).read_bytes() == data
