"""No path of a row, an archive or an index leads out of its folder, and each costs its own row alone."""

import json
import zipfile
from pathlib import Path

import pytest

from examples.tiny_world.fixtures import encoded, picture
from verl_axpo.data.images import ImageStore
from verl_axpo.data.reading import PictureFolder

LINK = 0o120777 << 16  # a symbolic link's Unix mode, where zip keeps it


@pytest.mark.parametrize("name", ["../s.png", "/etc/passwd", "a/../../s.png", "out/s.png", "x" * 5000, "link.png", ""])
def test_a_rows_picture_lies_in_its_folder_or_the_row_is_bad(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "s.png").write_bytes(encoded(picture("a")))
    (root / "out").symlink_to(tmp_path)
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = LINK
        archive.writestr(link, "../s.png")
        archive.writestr("../s.png", encoded(picture("a")))
    with pytest.raises(ValueError, match="image: "):
        PictureFolder(root, (".",), 1 << 20).read(name)


def test_an_index_names_only_files_of_the_store(tmp_path: Path) -> None:
    record = ImageStore(tmp_path / "store").add(encoded(picture("a")))
    index = tmp_path / "store/index.jsonl"
    line = json.loads(index.read_text())
    index.write_text(json.dumps({**line, "file": "../../s.png"}) + "\n" + json.dumps({**line, "file": 3}) + "\n")
    assert record.sha256 not in ImageStore(tmp_path / "store").records


def test_the_links_of_hugging_faces_cache_are_followed_into_its_own_files_only(tmp_path: Path) -> None:
    repository = tmp_path / "hub/datasets--a--b"
    root = repository / "snapshots/0123"
    for folder in (root, repository / "blobs", tmp_path / "hub/datasets--c--d/blobs"):
        folder.mkdir(parents=True)
    (repository / "blobs/ab12").write_bytes(encoded(picture("a")))
    (tmp_path / "hub/datasets--c--d/blobs/ab12").write_bytes(encoded(picture("b")))
    (root / "mine.png").symlink_to("../../blobs/ab12")
    (root / "theirs.png").symlink_to("../../../datasets--c--d/blobs/ab12")
    pictures = PictureFolder(root, ("",), 1 << 20)
    assert pictures.read("mine.png") == encoded(picture("a"))
    with pytest.raises(ValueError, match="leads out"):
        pictures.read("theirs.png")
    with pytest.raises(ValueError, match="expected one inside"):
        pictures.read("../../blobs/ab12")
