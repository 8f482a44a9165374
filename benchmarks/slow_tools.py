"""The tiny world's tools with the latency of real services. It is log-normal and depends only on the call.

    call -> sleep(latency(call)) -> the tool itself

A call that is made again takes as long again, so that runs compare.
"""

import asyncio
import json
import math
import random
from typing import Any

from verl_axpo.tools.image_zoom_in import ImageZoomIn
from verl_axpo.tools.python import Python
from verl_axpo.tools.search.tool import TavilySearch

MEDIAN_S, SIGMA = 1.0, 1.0  # one call in a hundred takes 10 s; the tiny model's rollouts take 2 to 4 s without tools


def latency(name: str, arguments: Any) -> float:
    """Seconds."""
    key = f"{name}/{json.dumps(arguments, sort_keys=True, default=str)}"
    return random.Random(key).lognormvariate(math.log(MEDIAN_S), SIGMA)


class Slow:
    """Mixed into a tool, before it."""

    name: str

    async def execute(self, instance_id: str, parameters: dict[str, Any], **kwargs: Any) -> Any:
        """The tool's own call, after the latency."""
        await asyncio.sleep(latency(self.name, parameters))
        return await super().execute(instance_id, parameters, **kwargs)  # type: ignore[misc]


class SlowImageZoomIn(Slow, ImageZoomIn):
    """`image_zoom_in`."""


class SlowPython(Slow, Python):
    """`python`."""


class SlowTavilySearch(Slow, TavilySearch):
    """`tavily-search`."""
