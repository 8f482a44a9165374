"""Tools for the tests: one whose service is down, one that counts."""

from typing import Any

from verl_axpo.errors import InfraFailure
from verl_axpo.tools.image_zoom_in import ImageZoomIn


class BrokenZoom(ImageZoomIn):
    async def execute(self, instance_id: str, parameters: dict[str, Any], **kwargs: Any) -> Any:
        raise InfraFailure


class CountingZoom(ImageZoomIn):
    """Says how often this instance was asked: state that lives as long as its trajectory."""

    asked: dict[str, int] = {}  # noqa: RUF012 # by instance, looked at by the test

    async def execute(self, instance_id: str, parameters: dict[str, Any], **kwargs: Any) -> Any:
        self.asked[instance_id] = self.asked.get(instance_id, 0) + 1
        return await super().execute(instance_id, parameters, **kwargs)
