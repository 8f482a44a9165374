"""Images on their way in: what is refused, and that each is stored once."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.tiny_world.fixtures import encoded, picture
from verl_axpo.data.fingerprint import HASH_BITS, distance, normalised, perceptual_hash, stem
from verl_axpo.data.images import ImageLimits, ImageRefused, ImageStore, check

LIMITS = ImageLimits()


def bomb(width: int, height: int) -> bytes:
    """A PNG of 60 bytes whose header declares width x height grey pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "got 0 bytes that cannot be decoded"),
        (b"<html>404</html>", "got 16 bytes that cannot be decoded"),
        (encoded(picture("a"))[:500], "got 500 bytes that cannot be decoded"),
        (bomb(12_000, 12_000), "got 12000 x 12000 pixels, expected at most 100,000,000 in all"),
        (bomb(60_000, 60_000), "cannot be decoded"),  # Pillow itself stops at 179 million pixels
        (encoded(Image.new("L", (300, 3))), "got 300 x 3 pixels, expected sides of at least 4"),
        (encoded(Image.new("L", (805, 4))), "got 805 x 4 pixels, expected sides at most 1:200 apart"),
        (encoded(Image.new("L", (8, 8)), "TIFF"), r"got format TIFF, expected one of \['BMP'"),
    ],
)
def test_a_useless_image_is_refused_with_what_is_wrong(data: bytes, told: str) -> None:
    with pytest.raises(ImageRefused, match=told):
        check(data, LIMITS)


def test_a_large_file_is_refused_before_it_is_opened() -> None:
    with pytest.raises(ImageRefused, match="got 11 bytes, expected at most 10"):
        check(b"x" * 11, ImageLimits(max_bytes=10))


def test_the_same_image_is_stored_once_and_comes_back_unchanged(tmp_path: Path) -> None:
    data, store = encoded(picture("a"), "JPEG"), ImageStore(tmp_path)
    first = store.add(data)
    assert store.add(data) == first
    assert (first.width, first.height, first.file[-4:]) == (160, 160, ".jpg")
    again = ImageStore(tmp_path)
    assert again.records == {first.sha256: first}
    assert again.read(first.sha256) == data
    assert len((tmp_path / "index.jsonl").read_bytes().splitlines()) == 1
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 2


def test_only_the_image_of_a_torn_index_line_is_lost(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    kept, torn = store.add(encoded(picture("a"))), store.add(encoded(picture("b")))
    os.truncate(store.index, store.index.stat().st_size - 10)
    again = ImageStore(tmp_path)
    assert set(again.records) == {kept.sha256}
    again.add(encoded(picture("b")))
    assert set(ImageStore(tmp_path).records) == {kept.sha256, torn.sha256}


def test_an_image_that_is_lost_or_damaged_is_named(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    record = store.add(encoded(picture("a")))
    with pytest.raises(ValueError, match="image 00ff: not in"):
        store.read("00ff")
    store.path(record.sha256).write_bytes(b"other")
    with pytest.raises(ValueError, match="its content is not what its name says"):
        store.read(record.sha256)
    store.path(record.sha256).unlink()
    with pytest.raises(ValueError, match="missing although"):
        store.read(record.sha256)
    store.add(encoded(picture("a")))
    assert store.read(record.sha256) == encoded(picture("a"))


def reencoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def test_a_picture_keeps_its_hash_when_shrunk_and_encoded_again_and_others_are_far() -> None:
    pictures = [picture(f"hash/{index}").resize((640, 640)) for index in range(20)]
    hashes = [perceptual_hash(picture) for picture in pictures]
    changed = [perceptual_hash(reencoded(picture.resize((320, 320)), 60)) for picture in pictures]
    assert max(map(distance, hashes, changed)) <= 12  # DedupConfig.most_bits
    others = [distance(a, b) for index, a in enumerate(hashes) for b in hashes[:index]]
    assert min(others) > HASH_BITS // 4  # half of the bits on average


def test_a_transparent_drawing_is_the_same_as_on_white() -> None:
    drawn = picture("a").convert("RGBA")
    drawn.putdata([(0, 0, 0, 0) if pixel[:3] == (255, 255, 255) else pixel for pixel in drawn.getdata()])
    assert perceptual_hash(drawn) == perceptual_hash(picture("a"))


def drawn_on_nothing(place: int) -> Image.Image:
    """A black bar on transparent black."""
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (place, 8, place + 12, 50))
    return image


def scanned(seed: int) -> Image.Image:
    """Grey levels of 16 bit, all above 255."""
    levels = np.random.default_rng(seed).integers(256, 65_536, (8, 8), dtype=np.uint16)
    return Image.fromarray(np.kron(levels, np.ones((8, 8), np.uint16)))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_different_transparent_drawings_have_different_hashes(mode: str, tmp_path: Path) -> None:
    drawings = [drawn_on_nothing(place).convert(mode) for place in (4, 24, 44)]
    store = ImageStore(tmp_path)
    hashes = [store.add(encoded(drawing)).phash for drawing in drawings]
    assert min(distance(a, b) for index, a in enumerate(hashes) for b in hashes[:index]) > HASH_BITS // 4
    assert hashes == [perceptual_hash(drawing) for drawing in drawings]


def test_different_16_bit_pictures_have_different_hashes(tmp_path: Path) -> None:
    pictures = [scanned(seed) for seed in range(6)]
    store = ImageStore(tmp_path)
    hashes = [store.add(encoded(picture)).phash for picture in pictures]
    assert min(distance(a, b) for index, a in enumerate(hashes) for b in hashes[:index]) > HASH_BITS // 4
    eight_bit = [Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)) for picture in pictures]
    assert hashes == [perceptual_hash(picture) for picture in eight_bit]


def test_a_turned_photograph_has_the_hash_of_what_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    buffer = io.BytesIO()
    picture("a").resize((320, 160)).save(buffer, "JPEG", exif=exif, quality=95)
    record = ImageStore(tmp_path).add(buffer.getvalue())
    seen = picture("a").resize((320, 160)).transpose(Image.Transpose.ROTATE_270)
    assert (record.width, record.height) == (160, 320)
    assert distance(record.phash, perceptual_hash(seen)) <= 12  # DedupConfig.most_bits
    with Image.open(ImageStore(tmp_path).path(record.sha256)) as stored:  # by a decoder that knows of no EXIF
        assert stored.size == (160, 320)


def test_flat_pictures_of_one_brightness_and_two_colours_differ() -> None:
    red, green = Image.new("RGB", (50, 50), (100, 0, 0)), Image.new("RGB", (50, 50), (0, 51, 0))
    assert red.convert("L").tobytes() == green.convert("L").tobytes()
    assert perceptual_hash(red) != perceptual_hash(green)


def test_flat_pictures_are_equal_only_to_themselves() -> None:
    white, grey = Image.new("RGB", (50, 50), "white"), Image.new("RGB", (50, 50), (250, 250, 250))
    assert perceptual_hash(white) == perceptual_hash(white.copy())
    assert distance(perceptual_hash(white), perceptual_hash(grey)) > HASH_BITS // 4


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which?\n(A) red\n(B) green\nAnswer with the letter.", "Which?"),
        ("Which? A. red B. green", "Which?"),
        ("Which? Choices: (A) red (B) green", "Which?"),
        ("Which?\nOptions:\nA: 3\nB: 4", "Which?"),
        ("Is angle A: 30 degrees?", "Is angle A: 30 degrees?"),  # no B
        ("Find (a) the area, (b) the height.", "Find (a) the area, (b) the height."),  # parts, not options
    ],
)
def test_a_question_ends_where_its_options_begin(question: str, expected: str) -> None:
    assert stem(question) == expected


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("<image>\nWhat is  the AREA?", "what is the area", True),
        ("<image1>Is it \uff12 x\u00b2?", "is it 2 x^2", True),
        ("Find $x$, if x+1=2.", "find x if x+1=2", True),
        ("x+1", "x-1", False),
        ("1.5", "15", False),
        ("1,000", "1000", False),
        ("What is 5!?", "What is 5?", False),
        ("Find n! now", "Find n now", False),
        ("Find (n+1)!", "Find (n+1)", False),
        ("3!!", "3!", False),
        ("What is .5 + 1?", "What is 5 + 1?", False),
        ("At 3:45", "At 3 45", False),
        ("Is it x\u00b2?", "Is it x2?", False),
        ("Is it 101\u2082?", "Is it 1012?", False),
        ("Is it 1\u00bd?", "Is it 11/2?", False),
        ("f'(x)", "f(x)", False),
        ("f\u2032(x)", "f'(x)", True),
        ("5\u22123", "5-3", True),
        ("Look at it!", "look at it", True),
        ('The "word": what?', "the word what", True),
    ],
)
def test_which_questions_are_the_same(first: str, second: str, same: bool) -> None:
    assert (normalised(first) == normalised(second)) is same
