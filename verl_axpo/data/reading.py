"""The rows and pictures of a source's folder, as they lie there.

folder -> tables() -> columns checked once per file -> rows() -> (where it stands, row as a dict)
path or bytes of a row -> PictureFolder.read() -> encoded image
"""

import json
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import AliasChoices, BaseModel

from verl_axpo.data import parquet
from verl_axpo.data.sources import Source
from verl_axpo.files import inside


def tables(root: Path, source: Source) -> list[Path]:
    """The files with the source's rows, sorted.

    Raises:
        ValueError: none; says where they were looked for.
    """
    found = sorted(path for pattern in source.tables for path in root.glob(pattern))
    if not found:
        raise ValueError(
            f"{source.name}: {root} has no {' or '.join(source.tables)}, the files of {source.repo}; "
            f"fetch it (`verl-axpo data fetch {source.name}`) or give its folder with --root"
        )
    return found


def names_of(model: type[BaseModel]) -> dict[str, tuple[tuple[str, ...], bool]]:
    """For each field of a row model: the column names it accepts, and whether it must be there."""
    accepted = {}
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else (alias or name,)
        accepted[name] = tuple(map(str, choices)), field.is_required()
    return accepted


def wanted_columns(path: Path, source: Source) -> list[str]:
    """The columns of a parquet file that the row model reads.

    Raises:
        ValueError: a required column is missing; lists what is there and what was expected.
    """
    present, wanted = parquet.columns_of(path), []
    for choices, required in names_of(source.row).values():
        here = [name for name in choices if name in present]
        if required and not here:
            expected = [" or ".join(names) for names, must in names_of(source.row).values() if must]
            raise ValueError(
                f"{path}: got columns {present}, expected {expected}; {' or '.join(choices)!r} is missing: "
                f"not the {source.name} file that its documentation describes"
            )
        wanted += here[:1]
    return wanted


def rows(root: Path, source: Source) -> Iterator[tuple[str, Any]]:
    """Every row with its place (`file row number`, from 0), a dictionary in a sound file.

    Raises:
        ValueError: a file that is cut off, no JSON list, or without a required column.
    """
    for path in tables(root, source):
        name = path.relative_to(root)
        is_json = path.suffix == ".json"
        for number, row in enumerate(
            _json_rows(path) if is_json else parquet.iter_rows(path, wanted_columns(path, source))
        ):
            yield f"{name} row {number}", row


def _json_rows(path: Path) -> list[Any]:
    content = path.read_bytes()
    try:
        found = json.loads(content)  # takes half a surrogate pair, which then is one bad row and not a bad file
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: got {len(content):,} bytes that are not JSON ({error}); delete it and fetch it again"
        ) from None
    if not isinstance(found, list):
        raise ValueError(f"{path}: got a JSON {type(found).__name__}, expected a list of objects")
    return found


class PictureFolder:
    """Pictures next to the tables: plain files, or members of zip archives. Nothing is extracted.

    A path may not leave the folder: rows are data, and `../../.ssh/id_rsa` is a path too.
    """

    def __init__(self, root: Path, folders: tuple[str, ...], max_bytes: int) -> None:
        self.root = root
        self.folders = folders
        self.max_bytes = max_bytes  # of one picture, before it is unpacked
        cached = root.resolve().parent  # Hugging Face's cache: REPO/snapshots/COMMIT/file is a link into REPO/blobs
        self._blobs = [cached.with_name("blobs")] if cached.name == "snapshots" else []
        self._archives: dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]] | None = None

    def read(self, name: str) -> bytes:
        """The encoded bytes of the picture called `name` in its row.

        Raises:
            ValueError: an unsafe path, no such picture, too large, or damaged in its archive.
        """
        try:
            places = [inside(self.root, str(PurePosixPath(folder, name)), *self._blobs) for folder in self.folders]
        except ValueError as error:
            raise ValueError(f"image: {error}") from None
        try:
            for path in places:
                if path.is_file():
                    return self._plain(path)
        except OSError as error:  # a name that is too long, a folder that may not be read
            raise ValueError(f"image: {name!r} cannot be read ({error})") from None
        for folder in self.folders:
            member = str(PurePosixPath(folder, name))
            if member in self.archives():
                return self._packed(member)
        raise ValueError(f"image: got path {name!r}, which is neither in {self.root} nor in its zip archives")

    def archives(self) -> dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]]:
        """Every picture of every zip archive in the folder by its name; opened once."""
        if self._archives is None:
            self._archives = {}
            for path in sorted(self.root.rglob("*.zip")):
                self._archives.update(_members(path))
        return self._archives

    def _plain(self, path: Path) -> bytes:
        self._check_size(str(path), path.stat().st_size)
        return path.read_bytes()

    def _packed(self, member: str) -> bytes:
        archive, info = self.archives()[member]
        if stat.S_ISLNK(info.external_attr >> 16):  # the upper half is the Unix mode
            raise ValueError(f"image: {member!r} in {archive.filename} is a link, expected a picture")
        self._check_size(member, info.file_size)
        try:
            return archive.read(info)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:  # the last: encrypted
            raise ValueError(f"image: {member!r} in {archive.filename} is damaged ({error})") from None

    def _check_size(self, name: str, size: int) -> None:
        if size > self.max_bytes:
            raise ValueError(f"image: got {size:,} bytes in {name!r}, expected at most {self.max_bytes:,}")


def _members(path: Path) -> dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path}: got {path.stat().st_size:,} bytes that are not a whole zip archive ({error}); "
            "delete it and fetch it again"
        ) from None
    return {info.filename: (archive, info) for info in archive.infolist() if not info.is_dir()}
