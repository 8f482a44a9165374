"""`image_search`: pictures whose captions match a query. The worked example of docs/add_a_tool.md; no recipe uses it.

*.jsonl of {"text": caption, "url": path of the picture, "title": optional} -> LocalIndex
query -> hits -> pictures, shrunk -> ToolResponse(text=captions and sources, image=[...])
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo.errors import InfraFailure
from verl_axpo.images import ImageRefused, open_image
from verl_axpo.tools.configs import HOST_KEYS
from verl_axpo.tools.search.arguments import SearchArgumentError, parse_arguments
from verl_axpo.tools.search.config import default_cache_dir
from verl_axpo.tools.search.local_index import LocalIndex
from verl_axpo.tools.search.service import STORAGE_ERRORS
from verl_axpo.tools.search.trim import render
from verl_axpo.tools.search.types import Hit

NAME = "image_search"
MAX_PIXELS = 512 * 512  # area of a returned picture; zooming in is another tool's work
MAX_IMAGES = 3  # per call
MAX_TOKENS = 256  # of the captions
MAX_CONCURRENCY = 4  # searches that one process makes at once: each decodes pictures
KEYS = ("documents", "cache_dir", *HOST_KEYS)
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


class ImageSearch(BaseTool):
    """verl tool. Config keys: `documents` (folder of captions and pictures), `cache_dir` (of the index, optional).

    Raises:
        ValueError: an unknown key, or no captions there.
    """

    strict_arguments = True  # see `TrajectoryTool`

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        super().__init__(config, tool_schema or OpenAIFunctionToolSchema.model_validate(SCHEMA))
        if unknown := sorted(set(config) - set(KEYS)):
            raise ValueError(f"{NAME}: unknown keys {unknown} in the tool's config; choose from {list(KEYS)}")
        documents = config.get("documents")
        if not documents or not Path(documents).is_dir():
            raise ValueError(f"{NAME}: documents: got {documents!r}, expected a folder that exists")
        self.folder = Path(documents).resolve()
        self._threads = ThreadPoolExecutor(MAX_CONCURRENCY, thread_name_prefix=NAME)
        self.index = LocalIndex(self.folder, Path(config.get("cache_dir") or default_cache_dir()))

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], **kwargs: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Carry out one call.

        Returns:
            the pictures, best first, with their captions as text; for a bad call a text for the policy.

        Raises:
            InfraFailure: the index or a picture cannot be read.
        """
        try:
            query, max_results = parse_arguments(parameters)
        except SearchArgumentError as error:
            text = f"Error: {error}"
            return ToolResponse(text=text), 0.0, {"ok": False, "error": text}
        try:
            job = partial(self._find, query, min(max_results, MAX_IMAGES))
            hits, pictures = await asyncio.get_running_loop().run_in_executor(self._threads, job)
        except STORAGE_ERRORS as error:
            raise InfraFailure(f"{NAME}: {self.folder} cannot be read: {error!r}") from error
        return ToolResponse(text=render(hits, MAX_TOKENS), image=pictures), 0.0, {"ok": True, "error": None}

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
