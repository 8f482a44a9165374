"""The distance of copies and of different pictures in hash bits, and the time of the search for near pictures.

    python benchmarks/near_images.py --pictures 150 --hashes 200000

drawn pictures -> copies (smaller, encoded again, cropped) -> distances of copies, distances of different pictures
random hashes  -> near_pairs() against those of the benchmarks -> seconds

docs/data.md has the figures. The pictures are drawn; photographs may give other distances.
"""

import argparse
import io
import random
import time
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from examples.tiny_world.fixtures import picture
from verl_axpo.data.dedup import MOST_BITS, near_pairs
from verl_axpo.data.fingerprint import distance, perceptual_hash

SIZE_PX = 400


def boxes(seed: int) -> Image.Image:
    """Coloured boxes and discs."""
    return picture(f"near/{seed}").resize((SIZE_PX, SIZE_PX))


def lines(seed: int) -> Image.Image:
    """A quadrilateral with lettered corners on white: what geometry problems look like."""
    rng, image = random.Random(seed), Image.new("RGB", (SIZE_PX, SIZE_PX), "white")
    draw = ImageDraw.Draw(image)
    corners = [(rng.randrange(20, SIZE_PX - 20), rng.randrange(20, SIZE_PX - 20)) for _ in range(4)]
    draw.line([*corners, corners[0]], fill="black", width=2)
    for corner, letter in zip(corners, "ABCD", strict=True):
        draw.text(corner, letter, fill="black")
    return image


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The picture encoded again."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def half(image: Image.Image) -> Image.Image:
    """The picture at half its size."""
    return image.resize((image.width // 2, image.height // 2))


def cropped(image: Image.Image) -> Image.Image:
    """The picture without 1 % of its width and height."""
    return image.crop((image.width // 100, image.height // 100, image.width, image.height))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 50": lambda image: jpeg(image, 50),
    "JPEG quality 20": lambda image: jpeg(image, 20),
    "half size": half,
    "half size, JPEG quality 60": lambda image: jpeg(half(image), 60),
    "1 % cropped": cropped,
}


def distances(kind: Callable[[int], Image.Image], count: int) -> None:
    """Print the largest and the median distance of each change, and the smallest between different pictures."""
    pictures = [kind(seed) for seed in range(count)]
    hashes = [perceptual_hash(picture) for picture in pictures]
    for name, change in CHANGES.items():
        found = [
            distance(before, perceptual_hash(change(picture))) for picture, before in zip(pictures, hashes, strict=True)
        ]
        print(f"{kind.__name__}, {name}: largest {max(found)}, median {np.median(found):g} bits", flush=True)
    others = [distance(a, b) for index, a in enumerate(hashes) for b in hashes[:index]]
    print(f"{kind.__name__}, different pictures: smallest {min(others)}, median {np.median(others):g} bits", flush=True)


def speed(count: int, others: int) -> None:
    """Print the seconds of the search for `count` random hashes among `others`."""
    rng = np.random.default_rng(0)
    ours, theirs = ([rng.bytes(32).hex() for _ in range(number)] for number in (count, others))
    began = time.perf_counter()
    pairs = len(list(near_pairs(ours, theirs, MOST_BITS)))
    print(f"{count:,} hashes against {others:,}: {pairs} pairs in {time.perf_counter() - began:.1f} s", flush=True)


def main() -> None:
    """Parse the command line and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=150, help="of each kind, default 150")
    parser.add_argument("--hashes", type=int, default=200_000, help="default 200000")
    parser.add_argument("--against", type=int, default=4_500, help="default 4500: the pictures of nine benchmarks")
    arguments = parser.parse_args()
    for kind in (boxes, lines):
        distances(kind, arguments.pictures)
    speed(arguments.hashes, arguments.against)


if __name__ == "__main__":
    main()
