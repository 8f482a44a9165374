"""What an MCP server answered to a call -> text and pictures for the policy.

CallToolResult.content -> text blocks, resources, links -> one text, cut
                       -> image blocks                  -> RGB pictures, shrunk
"""

import base64
import binascii
import json

from mcp.types import CallToolResult, EmbeddedResource, ImageContent, ResourceLink, TextContent, TextResourceContents
from PIL import Image

from verl_axpo.errors import InfraFailure
from verl_axpo.images import ImageRefused, open_image
from verl_axpo.tools.mcp.config import McpConfig


def shown(result: CallToolResult, config: McpConfig) -> tuple[str, list[Image.Image]]:
    """Text and pictures of a result. What cannot be shown is named in the text.

    Raises:
        InfraFailure: a picture that cannot be read.
    """
    pieces, pictures = list[str](), list[Image.Image]()
    for block in result.content:
        if isinstance(block, ImageContent) and len(pictures) < config.max_images:
            pictures.append(_picture(block, config))
        else:
            pieces.append(_text(block))
    if not result.content and result.structured_content is not None:
        pieces.append(json.dumps(result.structured_content, ensure_ascii=False))
    return _cut("\n".join(pieces), config.max_chars), pictures


def _text(block: object) -> str:
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, ResourceLink):
        return " ".join(filter(None, [block.title or block.name, str(block.uri), block.description]))
    if isinstance(block, EmbeddedResource) and isinstance(block.resource, TextResourceContents):
        return block.resource.text
    what = getattr(block, "mime_type", None) or getattr(getattr(block, "resource", None), "mime_type", None)
    return f"[{what or 'something'}, not shown]"


def _picture(block: ImageContent, config: McpConfig) -> Image.Image:
    try:
        picture = open_image(base64.b64decode(block.data, validate=True))
    except (binascii.Error, ImageRefused) as error:
        raise InfraFailure(f"mcp: {config.server} returned a picture that cannot be read: {error}") from error
    scale = min(1.0, (config.image_pixels / (picture.width * picture.height)) ** 0.5)
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}\n[{len(text) - limit} more characters]"
