"""`image_search`: pictures whose captions match a query. The worked example of docs/add_a_tool.md; no recipe uses it.

    *.jsonl of {"text": caption, "url": path of the picture, "title": optional} -> LocalIndex
    query -> hits -> pictures, shrunk -> ToolResponse(text=captions and sources, image=[...])

Use: PYTHONPATH=examples, and one entry in the file of `rollout.multi_turn.tool_config_path`:
    - {class_name: image_search.ImageSearch, config: {type: native, documents: /data/pictures}}
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from pydantic import field_validator
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo.errors import InfraFailure
from verl_axpo.images import ImageRefused, open_image
from verl_axpo.prompts import ToolPrompt
from verl_axpo.tools.configs import ToolConfig
from verl_axpo.tools.policy_tool import Answer, PolicyTool
from verl_axpo.tools.search.config import default_cache_dir
from verl_axpo.tools.search.hits import Hit, render
from verl_axpo.tools.search.local_index import LocalIndex
from verl_axpo.tools.search.service import STORAGE_ERRORS
from verl_axpo.tools.search.tool import parse_arguments

NAME = "image_search"
MAX_PIXELS = 512 * 512  # area of a returned picture; zooming in is another tool's work
MAX_IMAGES = 3  # per call
MAX_TOKENS = 256  # of the captions
MAX_CONCURRENCY = 4  # searches that one process makes at once: each decodes pictures
SCHEMA = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": f"Search for pictures by what they show; returns at most {MAX_IMAGES} with their sources.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What the picture shows, in a few words."},
                "max_results": {"type": "integer", "description": "How many pictures to return."},
            },
            "required": ["query"],
        },
    },
}
ADVICE = f"{NAME}: when you have to see what something looks like."  # a line of the system prompt


class ImageSearchConfig(ToolConfig):
    """Keys of the tool's config: the folder of captions and pictures, and where the index is kept."""

    tool: ClassVar[str] = NAME
    documents: str
    cache_dir: str | None = None

    @field_validator("documents")
    @classmethod
    def _check_documents(cls, documents: str) -> str:
        if not Path(documents).is_dir():
            raise ValueError("expected a folder that exists")
        return documents


class ImageSearch(PolicyTool):
    """verl tool. Config keys: see `ImageSearchConfig`.

    Raises:
        ValueError: an unknown key, or no captions there.
    """

    prompt = ToolPrompt(schema=SCHEMA, advice=ADVICE)

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        super().__init__(config, tool_schema)
        settings = ImageSearchConfig.parse(config)
        self.folder = Path(settings.documents).resolve()
        self._threads = ThreadPoolExecutor(MAX_CONCURRENCY, thread_name_prefix=NAME)
        self.index = LocalIndex(self.folder, Path(settings.cache_dir or default_cache_dir()))

    async def call(self, instance_id: str, arguments: Mapping[str, Any], agent_data: Any) -> Answer:
        """The pictures, best first, with their captions as text; an `InfraFailure` if they cannot be read."""
        query, max_results = parse_arguments(arguments)
        try:
            job = partial(self._find, query, min(max_results, MAX_IMAGES))
            hits, pictures = await asyncio.get_running_loop().run_in_executor(self._threads, job)
        except STORAGE_ERRORS as error:
            raise InfraFailure(f"{NAME}: {self.folder} cannot be read: {error!r}") from error
        return ToolResponse(text=render(hits, MAX_TOKENS), image=pictures), None

    def _find(self, query: str, number: int) -> tuple[Sequence[Hit], list[Image.Image]]:
        hits = self.index.search(query, number)
        return hits, [self._picture(hit.url) for hit in hits]

    def _picture(self, name: str) -> Image.Image:
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder):
            raise InfraFailure(f"{NAME}: {name!r} in the captions leads out of {self.folder}")
        try:
            picture = open_image(path)
        except ImageRefused as error:
            raise InfraFailure(f"{NAME}: a picture cannot be read: {error}") from error
        scale = min(1.0, (MAX_PIXELS / (picture.width * picture.height)) ** 0.5)
        return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
