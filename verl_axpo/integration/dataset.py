"""verl's RL dataset, whose pictures and texts are what the tools and the evaluation take them for.

    row -> rows that cannot be asked left out, counted -> text with its markers inert, pictures as files
        -> the agent loop: `opened` -> verl's sizes -> the model

verl's own dataset turns no photograph, shows transparent drawings as all black, and stops at a question that has
`<video>` in its text. `complete` sets this class where the config names none.
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import datasets
import pyarrow.compute as pc
import torch
from PIL import Image
from verl.utils.dataset.rl_dataset import RLHFDataset

from verl_axpo.images import open_image

logger = logging.getLogger(__name__)

Message = dict[str, Any]

MEDIA = ("image", "video", "audio")  # `<image>` in a row's text stands for the next of its images
ROWS_AT_ONCE = 1000  # read while texts and numbers of media are compared
TOLD_ROWS = 3  # quoted in the log
_SPECIAL = re.compile(r"<(?=\|)")  # tokens of chat templates: <|im_end|>, <|image_pad|>


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within, torch opens no threads: those of this process are gone in the filter's forked workers, which would wait
    for them for ever."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class AxpoDataset(RLHFDataset):
    """Rows as verl's `RLHFDataset` takes them. Those whose `<image>` and images differ in number are left out."""

    def maybe_filter_out_long_prompts(self, dataframe: datasets.Dataset = None) -> datasets.Dataset:
        """verl's, after what cannot be asked is left out; verl's dataset would stop in the middle of an epoch.

        Raises:
            ValueError: not a single row can be asked.
        """
        misfits = self._misfits(dataframe)
        if misfits:
            told = "\n".join(f"  row {row}: {reason}" for row, reason in list(misfits.items())[:TOLD_ROWS])
            what = f"{self.data_files}: {len(misfits)} of {len(dataframe)} rows cannot be asked:\n{told}"
            if len(misfits) == len(dataframe):
                raise ValueError(what)
            logger.warning("%s\nthey are left out", what)
            dataframe = dataframe.select([row for row in range(len(dataframe)) if row not in misfits])
        with _one_thread():
            return super().maybe_filter_out_long_prompts(dataframe)

    def _misfits(self, dataframe: datasets.Dataset) -> dict[int, str]:
        """Rows that have media of a kind, but not as many as markers for them: reason by row."""
        columns = {kind: key for kind, key in self._columns().items() if key in dataframe.column_names}
        compared = dataframe.select_columns([self.prompt_key, *columns.values()]).with_format("arrow")
        misfits: dict[int, str] = {}
        for batch, table in enumerate(compared.iter(ROWS_AT_ONCE)):
            # Lengths alone: a column of embedded pictures is never turned into Python objects
            counts = {kind: pc.list_value_length(table[key]).to_pylist() for kind, key in columns.items()}
            for at, messages in enumerate(table[self.prompt_key].to_pylist()):
                reason = misfit(messages, {kind: count[at] or 0 for kind, count in counts.items()})
                if reason:
                    misfits[batch * ROWS_AT_ONCE + at] = reason
        return misfits

    def _columns(self) -> dict[str, str]:
        return dict(zip(MEDIA, (self.image_key, self.video_key, self.audio_key), strict=True))

    def _build_messages(self, example: dict[str, Any], key: str) -> list[Message]:
        """verl's, with inert texts; an embedded picture stays the file that it is, which travels in fewer bytes."""
        disarm(example[key], [kind for kind, column in self._columns().items() if not example.get(column)])
        images = example.get(self.image_key) or []
        example[self.image_key] = [open_image(image) if isinstance(image, Image.Image) else image for image in images]
        messages: list[Message] = super()._build_messages(example, key)
        for part in (part for message in messages for part in _image_parts(message)):
            if part.get("bytes"):
                del part["image"]
        return messages

    @classmethod
    def _process_multi_modal_info(cls, messages: list[Message], *args: Any, **kwargs: Any) -> Any:
        return super()._process_multi_modal_info(opened(messages), *args, **kwargs)


def misfit(messages: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> str | None:
    """Why a row's media do not fit its markers; None if they do. A kind that the row has none of is text."""
    texts = [message["content"] for message in messages if isinstance(message["content"], str)]
    if len(texts) < len(messages):
        return None  # content in parts holds its media itself
    for kind, count in counts.items():
        markers = sum(text.count(f"<{kind}>") for text in texts)
        if count and markers != count:
            return f"got {markers} <{kind}> in its text for {count} {kind}(s), expected one each"
    return None


def disarm(messages: Sequence[Message], absent: Collection[str]) -> None:
    """Put a space after the `<` of what is text but would be read as a special token, or as one of the `absent` media.

    A question about chat templates or HTML may have either. Tags of the answer format (`<think>`, `<tool_call>`) stay:
    prompts explain them.
    """
    markers = re.compile(f"<(?=(?:{'|'.join(absent)})>)") if absent else _SPECIAL

    def inert(text: str) -> str:
        return _SPECIAL.sub("< ", markers.sub("< ", text))

    for message in messages:
        if isinstance(message["content"], str):
            message["content"] = inert(message["content"])
            continue
        for part in message["content"]:
            if isinstance(part.get("text"), str):
                part["text"] = inert(part["text"])


def opened(messages: Sequence[Message]) -> list[Message]:
    """The messages with every picture opened. The given ones stay as they are: a zoom opens its original again.

    An address in the web stays too: verl downloads it.

    Raises:
        ImageRefused: see `verl_axpo.images.open_image`.
    """
    return [
        {**message, "content": [_opened(part) for part in message["content"]]}
        if isinstance(message["content"], list)
        else message
        for message in messages
    ]


def _opened(part: Any) -> Any:
    if not _is_image(part):
        return part
    source = part.get("bytes") or part.get("image") or part.get("image_url")
    if isinstance(source, str) and source.startswith(("http:", "https:")):
        return part
    settings = {key: value for key, value in part.items() if key not in ("bytes", "image_url", "path")}
    return {**settings, "type": "image", "image": open_image(source)}


def _image_parts(message: Message) -> list[Message]:
    return [part for part in message["content"] if _is_image(part)] if isinstance(message["content"], list) else []


def _is_image(part: Any) -> bool:
    return isinstance(part, dict) and (part.get("type") == "image" or bool(part.get("image") or part.get("image_url")))
