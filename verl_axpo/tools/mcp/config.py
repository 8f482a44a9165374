"""The config of an MCP tool, checked: a tool's `config` -> McpConfig.parse() -> server, session, tool.

Tools of one server have one config; a trajectory has one session with it, whichever of them it calls.
"""

import re
from typing import Annotated, ClassVar

from pydantic import Field, field_validator, model_validator

from verl_axpo.tools.configs import ToolConfig

_Positive = Annotated[int, Field(ge=1)]
_Count = Annotated[int, Field(ge=0)]
_Seconds = Annotated[float, Field(gt=0)]


class McpConfig(ToolConfig):
    """Keys of the tool's config.

    Attributes:
        command: starts the server, which then talks over stdin and stdout: `[program, argument, ...]`.
        env: environment variables for `command`; the server gets PATH, HOME and these.
        url: of a server that runs already (streamable HTTP), instead of `command`.
        headers: of every request to `url`.
        name: of the tool on the server, where the schema in the config calls it otherwise.
        shared: all trajectories of a process have one session, for a server that remembers nothing; else each has its
            own, and with `command` its own server process.
        max_sessions: sessions that one process has at once; further trajectories wait.
        timeout_s: of a call.
        start_timeout_s: until a session is open.
        queue_timeout_s: how long a call waits for one of `max_sessions`.
        max_chars: of a call's text; more is left out.
        max_images, image_pixels: pictures that come back from one call, and their area; larger ones are shrunk.
        infra_errors: regular expressions. A server reports a bad call and a failed service alike, as an error's text:
            a text that one of them matches is an infrastructure failure, any other is the policy's to read.
    """

    tool: ClassVar[str] = "mcp"
    command: list[str] | None = None
    env: dict[str, str] = Field(default_factory=dict)
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    name: str | None = None
    shared: bool = False
    max_sessions: _Positive = 64
    timeout_s: _Seconds = 60.0
    start_timeout_s: _Seconds = 60.0
    queue_timeout_s: _Seconds = 300.0
    max_chars: _Positive = 32_768
    max_images: _Count = 4
    image_pixels: _Positive = 1024 * 1024
    infra_errors: list[str] = Field(default_factory=list)

    @field_validator("infra_errors")
    @classmethod
    def _check_patterns(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns

    @model_validator(mode="after")
    def _check_server(self) -> "McpConfig":
        if bool(self.command) == bool(self.url):
            raise ValueError("expected either command: [program, argument, ...] or url")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url: got {self.url!r}, expected http:// or https://")
        return self

    @property
    def server(self) -> str:
        """Names the server in messages."""
        return self.url or " ".join(self.command or ())

    @property
    def server_key(self) -> str:
        """Tools with the same key have their sessions in common."""
        return self.model_dump_json(exclude={"name"})

    @property
    def longest_call_s(self) -> float:
        """Seconds that a call may rightly take, waiting included."""
        return self.queue_timeout_s + self.start_timeout_s + self.timeout_s
