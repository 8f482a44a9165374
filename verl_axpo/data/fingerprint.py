"""What makes two images or two questions the same to a reader.

picture  -> perceptual_hash() -> 256 bits that survive another size, another encoder and a little noise
question -> normalised()      -> text without case, spacing and silent punctuation; mathematical signs stay
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
# Compatibility forms would turn 5² into 52, 10₂ into 102 and 1½ into 11/2
_RAISED = re.compile("[\u00b2\u00b3\u00b9\u2070-\u207f]+")
_LOWERED = re.compile("(?<=\\d)[\u2080-\u208e]+")
_FRACTION = re.compile("[\u00bc-\u00be\u2150-\u215e]")
# One sign for marks that differ in print alone: primes and apostrophes, minus signs, the stroke of a fraction
_ALIKE = str.maketrans({"\u2019": "'", "\u2032": "'", "\u2033": "''", "\u2212": "-", "\u2044": "/"})
# A point, comma or colon inside a number carries meaning (1.5, .5, 1,000, 3:4); `!`, `'` and `"` do after a number, a
# bracket, a lone letter or each other (5!, n!, f'(x), A', 5"); signs of arithmetic and brackets always do.
_SILENT = re.compile(r"(?<!\d)[,:]|(?<=\w)(?<!\d)\.|[.,:](?!\d)|(?<![\d)\]}!'])(?<!\b[^\W\d_])[!'\"]|[;?`$]|\s+")


# An option A, later an option B, however they are marked; "Choices:" before them belongs to the list
_OPTIONS = re.compile(r"\s(?:(?i:choices|options)\s*:\s*)?\(?A\s?[.:)]\s.*?\s\(?B\s?[.:)]\s", re.DOTALL)


def stem(question: str) -> str:
    """The question without its options and all that follows them: sources list and instruct in their own ways."""
    options = _OPTIONS.search(question + "\n")
    return question[: options.start()] if options else question


def normalised(question: str) -> str:
    """The question's words: compatibility forms, case, image placeholders, spacing and silent punctuation removed."""
    text = _PLACEHOLDERS.sub(" ", question)
    for pattern, sign in ((_RAISED, "^"), (_LOWERED, "_"), (_FRACTION, " ")):
        text = pattern.sub(rf"{sign}\g<0>", text)
    text = unicodedata.normalize("NFKC", text.translate(_ALIKE)).translate(_ALIKE).casefold()
    return " ".join(_SILENT.sub(" ", text).split())
