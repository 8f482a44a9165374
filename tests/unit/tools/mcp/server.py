"""An MCP server for the tests: `python server.py` talks over stdio, `python server.py PORT` over streamable HTTP."""

import os
import sys
import time
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import AudioContent, EmbeddedResource, ImageContent, ResourceLink, TextContent, TextResourceContents
from pydantic import BaseModel, Field

server = MCPServer("tests")
remembered: list[str] = []
PIXEL = (  # a PNG of 2 x 1 pixels: red, blue
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR4nGP4z8DAwPAfAAcAAf9+CLHQAAAAAElFTkSuQmCC"
)


class Place(BaseModel):
    """A point."""

    x: float
    y: float


@server.tool()
def remember(word: str) -> str:
    """Remember a word; say all of them, and in which process."""
    remembered.append(word)
    return " ".join([*remembered, str(os.getpid())])


@server.tool()
def draw(
    place: Place,
    how: Literal["thick", "thin"],
    label: Annotated[str | None, Field(description="What to write.")] = None,
    sizes: list[int] | None = None,
    times: Annotated[int, Field(ge=1, le=3)] = 1,
) -> str:
    """Draw
    something."""
    return f"{place.x} {place.y} {how} {label} {sizes} {times}"


@server.tool()
def fail(why: str) -> str:
    """Fail."""
    raise ToolError(why)


@server.tool()
def die() -> str:
    """End the server."""
    print("I had enough", file=sys.stderr, flush=True)
    os._exit(1)


@server.tool()
def hang(seconds: float) -> str:
    """Do not answer."""
    time.sleep(seconds)
    return "at last"


@server.tool()
def huge(characters: int) -> str:
    """Say a lot."""
    return "x" * characters


@server.tool(structured_output=False)
def show(kind: str) -> list[Any]:
    """Show something."""
    picture = ImageContent(data=PIXEL, mime_type="image/png")
    resource = TextResourceContents(uri="file:///a.txt", text="the text")
    shown: dict[str, list[Any]] = {
        "picture": [TextContent(text="Look:"), picture],
        "pictures": [picture] * 3,
        "broken": [ImageContent(data="bm8gcGljdHVyZQ==", mime_type="image/png")],
        "sound": [AudioContent(data="AAAA", mime_type="audio/wav")],
        "resource": [EmbeddedResource(resource=resource)],
        "link": [ResourceLink(name="a", uri="file:///a.txt", description="A file.")],
        "nothing": [],
    }
    return shown[kind]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
