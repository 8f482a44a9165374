"""The world's tools: names -> tools.yaml (verl's `rollout.multi_turn.tool_config_path`) and the corpus they need."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from examples.tiny_world.families import perception, search
from verl_axpo.files import write_atomically


def write_tools(out: Path, names: Sequence[str]) -> Path:
    """Write `tools.yaml` with the named tools, in this order; `tavily-search` reads the corpus next to it."""
    corpus, path = (out / "corpus").resolve(), out / "tools.yaml"
    if search.TOOL in names:
        corpus.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(document) + "\n" for document in search.corpus())
        write_atomically(corpus / "market.jsonl", "".join(lines).encode())
    known = _tools(corpus)
    write_atomically(path, OmegaConf.to_yaml(OmegaConf.create({"tools": [known[name] for name in names]})).encode())
    return path


def _tools(corpus: Path) -> dict[str, Mapping[str, Any]]:
    one_cell = perception.CELL_PX**2  # pixels: a cell at full resolution; a larger box is shrunk and stays grey
    zoom = {"coord_mode": "relative_1000", "min_pixels": one_cell, "max_pixels": one_cell}
    index = {"documents": str(corpus), "cache_dir": str(corpus.with_name("index")), "max_tokens": search.MAX_TOKENS}
    return {
        "python": _tool("verl_axpo.tools.python.Python", {}),
        "image_zoom_in": _tool("verl_axpo.tools.image_zoom_in.ImageZoomIn", zoom),
        "tavily-search": _tool("verl_axpo.tools.search.tool.TavilySearch", index),
    }


def _tool(class_name: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"class_name": class_name, "config": {"type": "native", **config}}
