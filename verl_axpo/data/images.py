"""Images: checked when they come in, stored once, found by their content's hash.

encoded bytes -> check() -> ImageStore.add() -> images/ab/abcdef....png + one line of images/index.jsonl
SHA-256       -> ImageStore.read() -> the same bytes
"""

import hashlib
import io
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from PIL import Image

from verl_axpo.data.files import replacing
from verl_axpo.data.fingerprint import perceptual_hash
from verl_axpo.trace.writer import append_lines

# Multi-picture JPEGs (MPO) come from phones; their first picture is what every decoder shows
FORMATS = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp"}
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class ImageRefused(ValueError):
    """An image that training could not use; the text says what was found and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """What an image may be, before it is decoded where possible.

    max_bytes: of the encoded file. max_pixels: width x height, from the header (an 8K photograph has 33 million; a few
    kilobytes can declare billions). min_side: pixels. max_aspect: Qwen's image processor raises above 200.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000
    min_side: int = 4
    max_aspect: float = 200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One stored image: `sha256` of the encoded file, where it lies under the store, its size, its perceptual hash."""

    sha256: str
    file: str
    width: int
    height: int
    phash: str


def check(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decode an image completely.

    Raises:
        ImageRefused: not an image, of a format outside `FORMATS`, truncated, or beyond the limits.
    """
    if len(data) > limits.max_bytes:
        raise ImageRefused(f"image: got {len(data):,} bytes, expected at most {limits.max_bytes:,}")
    try:
        image = Image.open(io.BytesIO(data))
        _check_header(image, limits)
        image.load()
    except ImageRefused:
        raise
    except _BROKEN as error:
        raise ImageRefused(f"image: got {len(data):,} bytes that cannot be decoded ({error})") from None
    return image


def _check_header(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if image.format not in FORMATS:
        raise ImageRefused(f"image: got format {image.format}, expected one of {sorted(FORMATS)}")
    if width * height > limits.max_pixels:
        raise ImageRefused(f"image: got {width} x {height} pixels, expected at most {limits.max_pixels:,} in all")
    if min(width, height) < limits.min_side:
        raise ImageRefused(f"image: got {width} x {height} pixels, expected sides of at least {limits.min_side}")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise ImageRefused(
            f"image: got {width} x {height} pixels, expected sides at most 1:{limits.max_aspect:g} apart"
        )


class ImageStore:
    """A folder of images, each stored once under the SHA-256 of its encoded bytes, unchanged.

    The index has one line per image. A killed writer tears at most its last line, which is then ignored: the image is
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
        content = self.index.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            record = ImageRecord(**orjson.loads(line))
            self.records[record.sha256] = record
        if len(whole) < len(content):
            with replacing(self.index) as unfinished:  # the next line must not be glued to the torn one
                unfinished.write_bytes(whole)

    def add(self, data: bytes) -> ImageRecord:
        """Check and store one image; an image that is there already costs only its hash.

        Raises:
            ImageRefused: see `check`.
            OSError: the disk is full; what was stored before stays.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        known = self.records.get(sha256)
        if known is not None and (self.folder / known.file).exists():
            return known
        image = check(data, self.limits)
        file = f"{sha256[:2]}/{sha256}.{FORMATS[str(image.format)]}"
        with replacing(self.folder / file, flush=False) as unfinished:  # `read` compares its hash
            unfinished.write_bytes(data)
        width, height = image.size
        record = ImageRecord(sha256=sha256, file=file, width=width, height=height, phash=perceptual_hash(image))
        append_lines(self.index, [orjson.dumps(asdict(record))])
        self.records[sha256] = record
        return record

    def path(self, sha256: str) -> Path:
        """Where an image lies.

        Raises:
            ValueError: it is not in the store.
        """
        if sha256 not in self.records:
            raise ValueError(
                f"image {sha256}: not in {self.folder} ({len(self.records)} images); ingest its source first"
            )
        return self.folder / self.records[sha256].file

    def read(self, sha256: str) -> bytes:
        """The encoded bytes of an image; raises like `path`, and when the file is gone or no longer what it was."""
        path = self.path(sha256)
        if not path.exists():
            raise ValueError(f"{path}: missing although {self.index} lists it; ingest its source again")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"{path}: its content is not what its name says; delete it and ingest again")
        return data
