"""Images: checked when they come in, stored once, found by their content's hash.

encoded bytes -> check() -> ImageStore.add() -> images/ab/abcdef....png + one line of images/index.jsonl
SHA-256       -> ImageStore.read() -> the same bytes, or which command brings them back
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from PIL import Image

from verl_axpo.data.fingerprint import perceptual_hash
from verl_axpo.files import append_lines, read_lines, write_atomically
from verl_axpo.images import VERSION, ImageRefused, open_image, plain_file, size_of

# "<sha256> <file>" of a record: a workspace from elsewhere may name any file
_FILE = re.compile(r"(([0-9a-f]{2})[0-9a-f]{62}) \2/\1\.[a-z]+")
MAKER = "ingest SOURCE"  # where a caller does not know the image's source

__all__ = ["ImageLimits", "ImageRecord", "ImageRefused", "ImageStore", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """What an image may be, before it is decoded where possible.

    max_bytes: of the encoded file. min_side: pixels. max_aspect: Qwen's image processor raises above 200. `size_of`
    refuses more than `verl_axpo.images.MAX_PIXELS`.
    """

    max_bytes: int = 64 * 1024 * 1024
    min_side: int = 4
    max_aspect: float = 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One stored image: `sha256` of the stored file, where it lies under the store, the picture's size and perceptual
    hash, and the `verl_axpo.images.VERSION` of the rules that made them."""

    sha256: str
    file: str
    width: int
    height: int
    phash: str
    version: int = 1  # of lines that were written before there were versions


def check(data: bytes, limits: ImageLimits) -> Image.Image:
    """Open an image completely.

    Raises:
        ImageRefused: see `verl_axpo.images.open_image`, or beyond the limits.
    """
    _check_limits(data, limits)
    return open_image(data)


def _check_limits(data: bytes, limits: ImageLimits) -> None:
    if len(data) > limits.max_bytes:
        raise ImageRefused(f"image: got {len(data):,} bytes, expected at most {limits.max_bytes:,}")
    width, height = size = size_of(data)
    if min(size) < limits.min_side:
        raise ImageRefused(f"image: got {width} x {height} pixels, expected sides of at least {limits.min_side}")
    if max(size) > limits.max_aspect * min(size):
        raise ImageRefused(
            f"image: got {width} x {height} pixels, expected sides at most 1:{limits.max_aspect:g} apart"
        )


class ImageStore:
    """A folder of images, each stored once under the SHA-256 of its file.

    A file that decoders show in different ways (turned by its EXIF block, transparent, 16 bit) is stored as the PNG of
    what `open_image` shows: every trainer that reads the store sees the same picture.

    The index has one line per image. A line that is torn, or of an older version, counts for nothing: the image is
    checked again when it comes again.
    """

    def __init__(self, folder: Path, limits: ImageLimits | None = None) -> None:
        self.folder = folder
        self.limits = limits or ImageLimits()
        self.index = folder / "index.jsonl"
        self.records: dict[str, ImageRecord] = {}
        if self.index.exists():
            self._load()

    def _load(self) -> None:
        for line in read_lines(self.index, _record_in, damaged=[]):
            if line.value.version == VERSION:
                self.records[line.value.sha256] = line.value

    def add(self, data: bytes) -> ImageRecord:
        """Check and store one image; an image that is there already, undamaged, costs only its hash.

        Raises:
            ImageRefused: see `check`.
            OSError: the disk is full; what was stored before stays.
        """
        known = self._whole(hashlib.sha256(data).hexdigest())
        if known is not None:
            return known
        _check_limits(data, self.limits)
        plain = plain_file(data)
        sha256 = hashlib.sha256(plain.data).hexdigest()
        file = f"{sha256[:2]}/{sha256}.{plain.suffix}"
        write_atomically(self.folder / file, plain.data)  # not flushed: `read` compares its hash
        width, height = plain.image.size
        phash = perceptual_hash(plain.image)
        record = ImageRecord(sha256=sha256, file=file, width=width, height=height, phash=phash, version=VERSION)
        if self.records.get(sha256) != record:
            append_lines(self.index, [orjson.dumps(asdict(record))])
        self.records[sha256] = record
        return record

    def _whole(self, sha256: str) -> ImageRecord | None:
        """The record of an image whose file is what it was."""
        record = self.records.get(sha256)
        return record if record is not None and _content(self.folder / record.file, sha256) is not None else None

    def damaged(self, images: Iterable[str]) -> list[str]:
        """Those of `images` that are not in the store or whose files are not what they were; reads every file once."""
        return [sha256 for sha256 in dict.fromkeys(images) if self._whole(sha256) is None]

    def path(self, sha256: str, maker: str = MAKER) -> Path:
        """Where an image lies, damaged or not; raises like `read` if the store has no record of it."""
        if sha256 not in self.records:
            raise ValueError(f"image {sha256}: not in {self.folder} ({len(self.records)} images); {_again(maker)}")
        return self.folder / self.records[sha256].file

    def read(self, sha256: str, maker: str = MAKER) -> bytes:
        """The encoded bytes of an image.

        Args:
            sha256: of the stored file.
            maker: the command of `verl-axpo data` that stores it, for the message: `ingest virl39k`.

        Raises:
            ValueError: the image is not there, or not what it was; says what to run again.
        """
        path = self.path(sha256, maker)
        data = _content(path, sha256)
        if data is None:
            what = "its content is not what its name says" if path.exists() else f"missing although {self.index} has it"
            raise ValueError(f"{path}: {what}; {_again(maker)}")
        return data


def _again(maker: str) -> str:
    return f"run `verl-axpo data {maker}` again, which stores it anew"


def _record_in(line: bytes) -> ImageRecord:
    """The record of an index line; raises ValueError or TypeError for another one, and for a file elsewhere."""
    record = ImageRecord(**orjson.loads(line))
    if not _FILE.fullmatch(f"{record.sha256} {record.file}"):
        raise ValueError(f"{record.file!r} is not where the store puts an image")
    return record


def _content(path: Path, sha256: str) -> bytes | None:
    """The file's bytes if they have this hash."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sha256 else None
