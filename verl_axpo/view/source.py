"""What the page may ask for. Addresses are those of the server, and the keys of the data in a self-contained file.

run                               the chapters with their figures
chapter/KEY                       a chapter's questions, a short row each
question/KEY/UID                  a question with its trajectories
tokens/KEY/UID/ID                 a trajectory's tokens
image/PATH                        a picture
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote

import orjson

from verl_axpo.files import inside

IMAGES = {  # by how they begin; never SVG
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
Json = dict[str, Any]


class Source(Protocol):
    """A folder that can be looked at. A chapter is a step of a training, or a benchmark of an evaluation."""

    folder: Path

    def run(self) -> Json:
        """Title, kind, and each chapter's key and figures."""
        ...

    def chapter(self, key: str) -> Json:
        """The chapter's questions; ValueError for a key that is not there."""
        ...

    def question(self, key: str, uid: str) -> Json:
        """The question's trajectories; ValueError for one that is not there."""
        ...

    def tokens(self, key: str, uid: str, name: str) -> Json:
        """The tokens of a trajectory; ValueError where there are none."""
        ...


def answer(source: Source, address: str) -> tuple[str, bytes]:
    """What is at an address: (media type, content).

    Raises:
        ValueError: nothing is there.
        OSError: a file that cannot be read.
    """
    what, *names = [unquote(name) for name in address.split("/")]
    match what, names:
        case "run", []:
            found = source.run()
        case "chapter", [key]:
            found = source.chapter(key)
        case "question", [key, uid]:
            found = source.question(key, uid)
        case "tokens", [key, uid, name]:
            found = source.tokens(key, uid, name)
        case "image", [_, *_]:
            return image(source.folder, "/".join(names))
        case _:
            raise ValueError(f"view: got {address!r}, expected run, chapter/KEY, question/KEY/UID or image/PATH")
    return "application/json", _json(found)


def _json(value: Json) -> bytes:
    """What orjson refuses, a policy may have written: half a surrogate pair, an integer of more than 64 bits."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:
        return json.dumps(value, default=str).encode()


def image(folder: Path, name: str) -> tuple[str, bytes]:
    """A picture of the folder; ValueError for anything else."""
    path = inside(folder, name)
    content = path.read_bytes() if path.is_file() else b""
    media = next((media for media, begin in IMAGES.items() if begin.match(content)), None)
    if media is None:
        raise ValueError(f"view: {name} is no PNG, JPEG or WebP file in {folder}")
    return media, content


def addresses(source: Source, keys: list[str], *, tokens: bool = False) -> Iterator[str]:
    """Everything that a reader of these chapters may ask for, tokens if they are wanted; pictures once, last."""
    yield "run"
    images: dict[str, None] = {}
    for key in keys:
        yield _address("chapter", key)
        for row in source.chapter(key)["questions"]:
            yield _address("question", key, row["uid"])
            question = source.question(key, row["uid"])
            for shown in (question, *question["trajectories"]):
                images |= dict.fromkeys(shown["images"])
            if tokens:
                yield from (_address("tokens", key, row["uid"], each["id"]) for each in question["trajectories"])
    yield from (f"image/{quote(name)}" for name in images)


def _address(*names: str) -> str:
    return "/".join(quote(name, safe="") for name in names)
