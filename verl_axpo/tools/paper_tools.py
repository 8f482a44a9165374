"""What the policy is told of the paper's three tools (section 2): schema and advice, in words of our own.

The classes of the tools have them as `prompt`; the tiny world writes its rows with them. Nothing of verl is imported.
"""

from collections.abc import Iterable, Mapping, Sequence

from verl_axpo.prompts import Schema, ToolPrompt


def _schema(name: str, description: str, parameters: Mapping[str, tuple[str, str]], required: Sequence[str]) -> Schema:
    """An OpenAI function schema; parameters are (type, description) by name.

    The key order is the one pydantic dumps (verl.tools.schemas), which is the order the rollout renders.
    """
    properties = {key: {"type": kind, "description": text} for key, (kind, text) in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def image_zoom_in(unit: str = "thousandths of width and height") -> ToolPrompt:
    """Of `image_zoom_in`; `unit` is what its boxes are counted in, which depends on the model family."""
    schema = _schema(
        "image_zoom_in",
        "Crop a box out of an image and return it magnified.",
        {
            "bbox_2d": ("array", f"The box as [x1, y1, x2, y2], in {unit}."),
            "label": ("string", "What the box shows."),
            "img_idx": ("integer", "Which image of the conversation to crop, counted from 0 (the default)."),
        },
        ["bbox_2d", "label"],
    )
    advice = "image_zoom_in: when a detail is too small to read at the size you see the image in."
    return ToolPrompt(schema=schema, advice=advice)


PYTHON = ToolPrompt(
    schema=_schema(
        "python",
        "Run Python code like a notebook cell: variables stay for later calls; printed text, the last expression's "
        "value and shown figures come back. numpy, scipy, sympy, matplotlib and PIL are installed; the conversation's "
        "images are in `_pil_images` (PIL) and `_images` (paths). No network, no processes.",
        {
            "code": ("string", "The code to run."),
            "timeout": ("number", "Seconds the code may take (default 12)."),
        },
        ["code"],
    ),
    advice="python: when a result has to be computed, counted, measured or drawn rather than estimated.",
)
IMAGE_ZOOM_IN = image_zoom_in()
TAVILY_SEARCH = ToolPrompt(
    schema=_schema(
        "tavily-search",
        "Search the web and return passages with their sources.",
        {
            "query": ("string", "What to search for, in a few words."),
            "max_results": ("integer", "How many results to return, 1 to 20 (5 is the default)."),
        },
        ["query"],
    ),
    advice="tavily-search: when the answer is a fact that you are not sure of.",
)
PAPER_TOOLS = {prompt.name: prompt for prompt in (PYTHON, IMAGE_ZOOM_IN, TAVILY_SEARCH)}


def paper_tools(names: Iterable[str]) -> list[ToolPrompt]:
    """Of the paper's tools with these names, in their order."""
    return [PAPER_TOOLS[name] for name in names]
