"""Pictures on disk, each stored once under the hash of its content, next to the records that name it.

    picture         -> store_image()   -> "images/<hash of its pixels>.png"
    encoded picture -> store_encoded() -> "images/<hash of its bytes>.<suffix>"

The path is relative to the folder, so that the folder can be moved and a record of it stays true. Any number of
processes may store the same picture at once. A killed or failed writer leaves no part of a file under its name.
"""

import hashlib
from pathlib import Path

from PIL import Image

from verl_axpo.files import write_atomically
from verl_axpo.images import open_image, png

FOLDER = "images"
HASH_CHARACTERS = 32  # 128 bits of SHA-256: no collision among any number of images a run can make
_SUFFIXES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp", b"GIF8": "gif"}


def store_image(folder: str | Path, image: Image.Image) -> str:
    """Store an image as PNG, named by its pixels; callable from any process.

    Encoding takes milliseconds to tenths of a second: from a coroutine call it through `asyncio.to_thread`.

    Returns:
        Its path relative to `folder`.

    Raises:
        ImageRefused: see `verl_axpo.images.open_image`.
        OSError: the disk is full; names the file.
    """
    picture = open_image(image)
    digest = hashlib.sha256(f"{picture.mode} {picture.size} ".encode() + picture.tobytes()).hexdigest()
    relative = f"{FOLDER}/{digest[:HASH_CHARACTERS]}.png"
    if not (Path(folder) / relative).exists():
        store_file(Path(folder) / relative, png(picture))
    return relative


def store_encoded(folder: str | Path, data: bytes) -> str:
    """Store the bytes of a picture's file as they are; the path relative to `folder`. Raises OSError like the disk."""
    relative = encoded_path(data)
    store_file(Path(folder) / relative, data)
    return relative


def encoded_path(data: bytes) -> str:
    """Where `store_encoded` puts these bytes."""
    suffix = next((suffix for magic, suffix in _SUFFIXES.items() if data.startswith(magic)), "img")
    return f"{FOLDER}/{hashlib.sha256(data).hexdigest()[:HASH_CHARACTERS]}.{suffix}"


def store_file(path: Path, data: bytes) -> None:
    """Write `data` to a path that its hash is part of; a file of this length that is there has the same content."""
    if not path.exists() or path.stat().st_size != len(data):
        write_atomically(path, data)
