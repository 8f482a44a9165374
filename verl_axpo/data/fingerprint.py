"""What makes two images or two questions the same to a reader.

picture  -> perceptual_hash() -> 256 bits that survive another size, another encoder and a little noise
question -> normalised()      -> text without case, spacing and punctuation that carries no meaning
         -> stem()            -> what stands before the list of options and its instructions
"""

import hashlib
import re
import unicodedata

import numpy as np
import numpy.typing as npt
from PIL import Image

from verl_axpo.images import open_image

SIDE_PX = 64  # the picture is shrunk to this square before its transform
LOW = 16  # frequencies kept per axis; 16 x 16 bits tell line drawings apart that share 64 bits
HASH_BITS = LOW * LOW
FLAT_LEVELS = 8  # grey levels of 255: with less contrast the bits would be rounding noise

Bits = npt.NDArray[np.bool_]


def _cosines() -> npt.NDArray[np.float64]:
    """The first `LOW` rows of the DCT-II of `SIDE_PX` points, unscaled: only signs against a median are used."""
    frequency, point = np.arange(LOW)[:, None], np.arange(SIDE_PX)[None, :]
    return np.cos(np.pi / SIDE_PX * (point + 0.5) * frequency)


_COSINES = _cosines()


def perceptual_hash(image: Image.Image) -> str:
    """256 bits as 64 hex digits: the signs of the lowest DCT frequencies against their median.

    Two versions of one picture differ in few bits, two pictures in about half. A picture without contrast has no such
    bits: its hash is the SHA-256 of its pixels, near to nothing but the same picture.

    Source: the pHash family (DCT of the shrunken grey picture); our sizes are above.
    """
    shown = open_image(image)
    small = shown.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS, reducing_gap=3.0)
    levels = np.asarray(small, dtype=np.float64)
    if levels.max() - levels.min() < FLAT_LEVELS:
        return hashlib.sha256(f"{shown.size}".encode() + shown.tobytes()).hexdigest()
    frequencies = (_COSINES @ levels @ _COSINES.T).ravel()[1:]  # without the mean brightness
    bits: Bits = np.concatenate(([False], frequencies > np.median(frequencies)))
    return np.packbits(bits).tobytes().hex()


def distance(first: str, second: str) -> int:
    """In how many of the 256 bits two hashes differ."""
    return (int(first, 16) ^ int(second, 16)).bit_count()


_PLACEHOLDERS = re.compile(r"<image\d*>")
# A point or comma inside a number carries meaning; signs of arithmetic and brackets always do.
_SILENT = re.compile(r"(?<!\d)[.,]|[.,](?!\d)|[;:!?'\"`$]|\s+")


# An option A, later an option B, however they are marked; "Choices:" before them belongs to the list
_OPTIONS = re.compile(r"\s(?:(?i:choices|options)\s*:\s*)?\(?A\s?[.:)]\s.*?\s\(?B\s?[.:)]\s", re.DOTALL)


def stem(question: str) -> str:
    """The question without its options and all that follows them: sources list and instruct in their own ways."""
    options = _OPTIONS.search(question + "\n")
    return question[: options.start()] if options else question


def normalised(question: str) -> str:
    """The question's words: compatibility forms, case, image placeholders, spacing and silent punctuation removed."""
    text = unicodedata.normalize("NFKC", _PLACEHOLDERS.sub(" ", question)).casefold()
    return " ".join(_SILENT.sub(" ", text).split())
