"""The one place where pictures are opened: training, tools, evaluation, fingerprints and traces see the same pixels.

    path, file's bytes, row's cell, Pillow image -> open_image() -> RGB, 8 bit, upright, on white; or ImageRefused
    file's bytes -> plain_file() -> a file that every decoder shows like that: the same one, or a PNG

Cameras store a photograph as the sensor saw it and note how to turn it (EXIF); drawings are black on transparent; scans
have 16 bit. Decoders differ in what they make of it, so that a box on what the model sees would cut out something else.
Colour profiles are ignored, as vision processors ignore them. Of an animation the first picture counts.
"""

import base64
import binascii
import io
import os
import struct
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from verl_axpo.tools.sandbox.inside.pixels import to_rgb

VERSION = 2  # raise when results change: stored hashes and sizes of pictures were made by these rules

# Multi-picture JPEGs (MPO) come from phones; their first picture is what every decoder shows
FORMATS = ("BMP", "GIF", "JPEG", "MPO", "PNG", "WEBP")
MAX_PIXELS = 100_000_000  # width x height: an 8K photograph has 33 million, a few kilobytes can declare billions
SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}  # formats that every server and model API takes
NAMED_CHARS = 80  # of a path or an address in a message: a data URL may have millions
UPRIGHT = 1  # EXIF's orientation that needs no turning

Source = str | os.PathLike[str] | bytes | Mapping[str, Any] | Image.Image

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_LOADING = threading.Lock()  # rollouts of one question share its image, and Pillow's lazy loading is not thread-safe
# Bits of a PNG's samples where Pillow scales them to 8, by its name for their layout
_SAMPLE_BITS = {"1": 1, "L;2": 2, "L;4": 4, "RGB;16B": 16}


class ImageRefused(ValueError):
    """A picture that cannot be shown; the text says what was found and what is allowed."""


class PlainFile(NamedTuple):
    """An encoded picture without surprises, the ending of its name, and what `open_image` makes of it."""

    data: bytes
    suffix: str
    image: Image.Image

    @property
    def mime(self) -> str:
        """Its type in a data URL."""
        return "image/jpeg" if self.suffix == "jpg" else f"image/{self.suffix}"


def open_image(source: Source, *, enough: int | None = None) -> Image.Image:
    """The picture as the model, the tools and the reports see it. Never changes `source`.

    Args:
        source: a path or `file://` URL, a data URL, the bytes of a file, a row's cell (`{"bytes": ...}`, `{"image":
            ...}`, `{"path": ...}`) or a Pillow image. What is opened already comes back as it is, not copied.
        enough: pixels a side; a JPEG that has several times as many is decoded at a fraction of its size.

    Raises:
        ImageRefused: no picture, damaged, of a format or a mode that has no sure meaning, or too large to decode.
    """
    return _shown(_decoded(source, enough), source)


def size_of(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels by the file's header, before it is turned; raises like `open_image`."""
    width, height = _opened(data, data).size
    return width, height


def plain_file(data: bytes) -> PlainFile:
    """The file whose pixels every decoder takes for those of `open_image`; raises like it.

    Returns:
        `data` itself where it is plain: a JPEG, PNG or WebP, upright and opaque, of 8 bit, and no animation.
    """
    image = _decoded(data)
    shown = _shown(image, data)
    suffix = SUFFIXES.get(str(image.format))
    still = image.format == "MPO" or getattr(image, "n_frames", 1) == 1
    opaque = image.mode in ("1", "L", "P", "RGB") and not image.has_transparency_data
    if suffix and still and opaque and _orientation(image) == UPRIGHT:
        return PlainFile(data, suffix, shown)
    return PlainFile(png(shown), "png", shown)


def png(image: Image.Image) -> bytes:
    """A PNG's bytes. Compressed little: several times as fast as the default for a file a bit larger."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF block says; the image itself where that says nothing."""
    return image if _orientation(image) == UPRIGHT else ImageOps.exif_transpose(image)


def load(image: Image.Image) -> None:
    """Decode a Pillow image that several threads may share."""
    with _LOADING:
        image.load()


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, UPRIGHT))
    except Exception:  # a damaged EXIF block raises nearly anything, and tells no orientation
        return UPRIGHT


def _shown(image: Image.Image, source: Source) -> Image.Image:
    try:
        rgb: Image.Image = to_rgb(upright(image))
    except _BROKEN as error:
        raise ImageRefused(f"image: {_named(source)} cannot be shown ({error})") from None
    if rgb is not image:
        rgb.info = {}  # neither turned nor laid on white a second time
    return rgb


def _decoded(source: Source, enough: int | None = None) -> Image.Image:
    content = _content(source)
    image = content if isinstance(content, Image.Image) else _opened(content, source)
    try:
        if image is content:
            _check_pixels(image)
            load(image)
            return image
        if enough is not None:
            image.draft("RGB", (enough, enough))
        _scale_transparent_level(image)
        image.load()
    except ImageRefused:
        raise
    except _BROKEN as error:
        raise ImageRefused(f"image: got {_named(source)} that cannot be decoded ({error})") from None
    return image


def _opened(content: bytes | str, source: Source) -> Image.Image:
    """The image of a file, its header read and checked."""
    try:
        image = Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)
    except UnidentifiedImageError:
        raise ImageRefused(f"image: got {_named(source)} that cannot be decoded (no picture that is known)") from None
    except _BROKEN as error:
        raise ImageRefused(f"image: got {_named(source)} that cannot be decoded ({error})") from None
    try:
        if image.format not in FORMATS:
            raise ImageRefused(f"image: got format {image.format}, expected one of {list(FORMATS)}; convert it to PNG")
        _check_pixels(image)
    except ImageRefused:
        image.close()
        raise
    return image


def _check_pixels(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageRefused(f"image: got {width} x {height} pixels, expected at most {MAX_PIXELS:,} in all")
    if not width * height:
        raise ImageRefused(f"image: got {width} x {height} pixels, expected some")


def _scale_transparent_level(image: Image.Image) -> None:
    """A PNG names one level as transparent. Pillow scales the samples to 8 bit, but not this level."""
    level = image.info.get("transparency")
    layout = image.tile[0].args if image.format == "PNG" and image.tile else None  # type: ignore[attr-defined]
    bits = _SAMPLE_BITS.get(layout) if isinstance(layout, str) else None
    if bits is None or level is None:
        return

    def scaled(sample: int) -> int:
        return sample >> 8 if bits == 16 else sample * 255 // (2**bits - 1)

    image.info["transparency"] = tuple(map(scaled, level)) if isinstance(level, tuple) else scaled(level)


def _content(source: Source) -> Image.Image | bytes | str:
    """What there is to open: an image, a file's bytes, or a path.

    Raises:
        ImageRefused: neither; nothing is downloaded.
    """
    if isinstance(source, Mapping):
        return _content(_of_cell(source))
    if isinstance(source, os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str) and source.startswith("data:"):
        return _of_data_url(source)
    if isinstance(source, str) and source.startswith(("http:", "https:")):
        raise ImageRefused(f"image: got the address {_named(source)}, expected a file; download it first")
    if isinstance(source, str):
        return source.removeprefix("file://")
    if not isinstance(source, bytes | Image.Image):
        raise ImageRefused(f"image: got {type(source).__name__}, expected a path, a file's bytes or a Pillow image")
    return source


def _of_cell(cell: Mapping[str, Any]) -> Any:
    """By the names that `datasets`, verl and chat messages give it; bytes first, a path next to them is only a name."""
    for name in ("bytes", "image", "image_url", "url", "path"):
        if cell.get(name):
            return cell[name]
    raise ImageRefused(f"image: got a cell with {sorted(cell)}, expected bytes, image or path in it")


def _of_data_url(url: str) -> bytes:
    head, _, text = url.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError("not base64")
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageRefused(f"image: got a data URL {_named(url)} that cannot be decoded ({error})") from None


def _named(source: Source) -> str:
    if isinstance(source, Image.Image):
        return f"an image of mode {source.mode}, {source.width} x {source.height}"
    if isinstance(source, Mapping):
        return _named(_of_cell(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return f"{len(source):,} bytes"
    text = str(source)
    return repr(text if len(text) <= NAMED_CHARS else text[:NAMED_CHARS] + "...")
