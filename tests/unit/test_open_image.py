"""One function opens every picture: the picture that a person would see, for any file; and which files it refuses."""

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from verl_axpo.images import MAX_PIXELS, ImageRefused, open_image, plain_file

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)
ORIENTATION = 0x112  # EXIF's tag
# EXIF 2.32, tag Orientation: where the stored picture's first pixel is seen in one of 32 x 16, or 16 x 32, pixels
CORNERS = {1: (0, 0), 2: (31, 0), 3: (31, 15), 4: (0, 15), 5: (0, 0), 6: (15, 0), 7: (15, 31), 8: (0, 31)}


def corner() -> Image.Image:
    """White, 32 x 16, red in the upper left."""
    image = Image.new("RGB", (32, 16), "white")
    image.paste("red", (0, 0, 8, 8))
    return image


def lines(mode: str) -> Image.Image:
    """A black line across on nothing; what is transparent is black underneath, as drawing programs have it."""
    image = Image.new("RGBA", (32, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 4, 32, 8))
    return image.convert(mode)


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(image: Image.Image, orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return file(image, kind, exif=exif)


def raw_png(bits: int, colour: int, samples: list[int], transparent: bytes | None = None) -> bytes:
    """Four rows of these samples, in the PNG specification's words: what Pillow itself cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = int("".join(f"{sample:0{bits}b}" for sample in samples), 2).to_bytes(len(samples) * bits // 8, "big")
    width = len(samples) // (3 if colour == 2 else 1)
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 4, bits, colour, 0, 0, 0))
    body += chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(4 * (b"\0" + row))) + chunk(b"IEND", b"")


def grey_16(*levels: int) -> Image.Image:
    return Image.fromarray(np.tile(np.repeat(np.array(levels, np.uint16), 8), (16, 1)))


def is_red(pixel: tuple[int, ...]) -> bool:
    return pixel[0] > 200 and pixel[1] < 60


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("orientation", "seen"), CORNERS.items())
def test_a_photograph_is_turned_as_its_exif_says(orientation: int, seen: tuple[int, int], kind: str) -> None:
    image = open_image(turned(corner(), orientation, kind))
    assert image.size == ((32, 16) if orientation < 5 else (16, 32))
    assert is_red(image.getpixel(seen))
    others = {(x, y) for x in (0, image.width - 1) for y in (0, image.height - 1)} - {seen}
    assert not any(is_red(image.getpixel(place)) for place in others)
    assert open_image(image) is image  # not turned a second time


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGBA", "I;16"])
def test_every_mode_is_turned(mode: str) -> None:
    stored = grey_16(0, 65535, 65535, 65535) if mode == "I;16" else corner().convert(mode)
    image = open_image(turned(stored, 6, "JPEG" if mode == "CMYK" else "PNG"))
    assert (image.mode, image.size) == ("RGB", (16, 32))
    assert image.getpixel((15, 0)) != WHITE
    assert image.getpixel((0, 31)) == WHITE


def test_a_damaged_exif_block_turns_nothing() -> None:
    assert open_image(file(corner(), "JPEG", exif=b"Exif\0\0II*\0garbage")).size == (32, 16)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_black_lines_on_nothing_are_black_on_white(mode: str) -> None:
    data = file(lines(mode) if mode != "P" else lines("RGBA").quantize(4, Image.Quantize.FASTOCTREE))
    image = open_image(data)
    assert (image.getpixel((3, 6)), image.getpixel((3, 12))) == (BLACK, WHITE)
    assert open_image(Image.open(io.BytesIO(data))).tobytes() == image.tobytes()


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_other_formats_transparency_is_white_too(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert open_image(file(lines("RGBA"), kind, **options)).getpixel((3, 12)) == WHITE


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_level_counts_in_the_files_own_bits(bits: int) -> None:
    top = 2**bits - 1
    # the level 1 (in 1 bit: 0) is transparent, the other is the darkest or lightest that there is
    clear, other = (0, 1) if bits == 1 else (1, 0)
    image = open_image(raw_png(bits, 0, [clear] * 4 + [other] * 2 + [top] * 2, struct.pack(">H", clear)))
    assert image.getpixel((0, 0)) == WHITE
    assert image.getpixel((4, 0)) == (WHITE if bits == 1 else BLACK)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_colour_counts_in_the_files_own_bits(bits: int) -> None:
    scale = 1 if bits == 8 else 257
    colours = [level * scale for level in (10, 20, 30) * 2 + RED * 2]
    transparent = struct.pack(">HHH", *(level * scale for level in (10, 20, 30)))
    image = open_image(raw_png(bits, 2, colours, transparent))
    assert (image.getpixel((0, 0)), image.getpixel((3, 0))) == (WHITE, RED)


def test_16_bit_levels_keep_their_order_and_their_white() -> None:
    image = open_image(file(grey_16(0, 1000, 20_000, 40_000, 65_535)))
    seen = [image.getpixel((8 * place, 0))[0] for place in range(5)]
    assert seen == [0, 1000 >> 8, 20_000 >> 8, 40_000 >> 8, 255]  # the high byte
    assert open_image(grey_16(0, 1000, 20_000, 40_000, 65_535)).tobytes() == image.tobytes()


def test_a_palette_and_print_colours_are_what_they_stand_for() -> None:
    assert open_image(file(corner().quantize(2))).getpixel((0, 0)) == RED
    assert is_red(open_image(file(corner().convert("CMYK"), "JPEG")).getpixel((1, 1)))
    assert open_image(file(corner().convert("1"))).getpixel((31, 0)) == WHITE


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_picture(kind: str) -> None:
    others = [Image.new("RGB", (32, 16), "blue")]
    data = file(corner(), kind, save_all=True, append_images=others)
    image = open_image(data)
    assert is_red(image.getpixel((2, 2)))
    assert getattr(Image.open(io.BytesIO(plain_file(data).data)), "n_frames", 1) == 1


@pytest.mark.parametrize(("mode", "level"), [("F", 0.5), ("F", 300.0), ("I", -1), ("I", 256), ("I", 65_535)])
def test_levels_without_a_known_white_are_refused(mode: str, level: float) -> None:
    with pytest.raises(ImageRefused, match=f"mode {mode} with levels from {level:g} to .* scale them"):
        open_image(Image.new(mode, (8, 8), level))


def test_wide_integers_that_hold_8_bit_are_taken_as_such() -> None:
    assert open_image(Image.new("I", (8, 8), 200)).getpixel((0, 0)) == (200, 200, 200)


def test_every_kind_of_source_is_opened_alike(tmp_path: Path) -> None:
    data = turned(corner(), 6, "JPEG")
    path = tmp_path / "photograph.jpg"
    path.write_bytes(data)
    url = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    cells: list[Any] = [data, bytearray(data), path, str(path), f"file://{path}", url, Image.open(path)]
    cells += [{"bytes": data, "path": "elsewhere.jpg"}, {"bytes": None, "path": str(path)}, {"image": path}]
    cells += [{"type": "image_url", "image_url": {"url": url}}, {"image": Image.open(path)}]
    seen = {open_image(cell).tobytes() for cell in cells}
    assert len(seen) == 1


def test_what_is_opened_stays_as_it_was() -> None:
    plain, clear = corner(), lines("RGBA")
    before = clear.copy()
    assert open_image(plain) is plain
    assert open_image(clear) is not clear
    assert clear == before


def bomb(side: int) -> bytes:
    data = raw_png(8, 0, [0] * 8)
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("source", "told"),
    [
        (b"", "got 0 bytes that cannot be decoded"),
        (b"<html>404</html>", "got 16 bytes that cannot be decoded"),
        (file(corner())[:-30], "bytes that cannot be decoded"),
        (file(corner(), "JPEG")[:200], "got 200 bytes that cannot be decoded"),
        (bomb(12_000), f"got 12000 x 12000 pixels, expected at most {MAX_PIXELS:,} in all"),
        (bomb(60_000), "cannot be decoded"),
        (file(corner(), "EPS"), r"got format EPS, expected one of \['BMP'.*convert it to PNG"),
        ("/nowhere/a.png", "'/nowhere/a.png' that cannot be decoded .*No such file"),
        ("https://example.org/a.png", "got the address 'https://example.org/a.png', expected a file; download it"),
        ("data:image/png;base64,???", "got a data URL .* cannot be decoded"),
        ("data:image/png,abc", "not base64"),
        ({}, r"got a cell with \[\], expected bytes, image or path in it"),
        ({"bytes": b"", "path": None}, r"got a cell with \['bytes', 'path'\]"),
        (3, "got int, expected a path, a file's bytes or a Pillow image"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(source: Any, told: str) -> None:
    with pytest.raises(ImageRefused, match=told):
        open_image(source)


def test_a_message_never_holds_a_whole_data_url() -> None:
    with pytest.raises(ImageRefused) as refused:
        open_image("data:image/png;base64," + "A" * 100_000)
    assert len(str(refused.value)) < 300


PLAIN = {
    "a photograph": file(corner(), "JPEG"),
    "grey": file(corner().convert("L"), "JPEG"),
    "a drawing": file(corner()),
    "a palette": file(corner().quantize(2)),
    "WebP": file(corner(), "WEBP"),
}
ODD = {
    "turned": turned(corner(), 6, "JPEG"),
    "turned grey": turned(corner().convert("L"), 3, "JPEG"),
    "transparent": file(lines("RGBA")),
    "transparent grey": file(lines("LA")),
    "a transparent level": raw_png(2, 0, [1, 1, 0, 3], struct.pack(">H", 1)),
    "16 bit": file(grey_16(0, 300, 40_000)),
    "for print": file(corner().convert("CMYK"), "JPEG"),
    "GIF": file(corner(), "GIF"),
    "BMP": file(corner(), "BMP"),
}


@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN.keys())
def test_a_plain_file_is_sent_and_stored_as_it_is(data: bytes) -> None:
    plain = plain_file(data)
    assert plain.data == data
    assert Image.open(io.BytesIO(data)).get_format_mimetype() == plain.mime


@pytest.mark.parametrize("data", [*PLAIN.values(), *ODD.values()], ids=[*PLAIN.keys(), *ODD.keys()])
def test_the_simplest_decoder_shows_a_plain_file_like_ours(data: bytes) -> None:
    decoded = Image.open(io.BytesIO(plain_file(data).data)).convert("RGB")
    assert decoded.tobytes() == open_image(data).tobytes() == plain_file(data).image.tobytes()


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_what_decoders_show_in_different_ways_becomes_a_png(data: bytes) -> None:
    plain = plain_file(data)
    assert (plain.suffix, plain.mime) == ("png", "image/png")
    assert plain_file(plain.data).data == plain.data
