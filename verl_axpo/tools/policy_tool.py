"""The base of our verl tools: a bad call is answered with what is wrong, a failing service is raised.

verl's loop -> execute() -> the tool's own call() -> response
                  |_ CallError: a message for the policy     |_ InfraFailure: the rollout is excluded, not scored
"""

import errno
from collections.abc import Mapping
from typing import Any, ClassVar

from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from verl_axpo.errors import CallError, InfraFailure
from verl_axpo.prompts import ToolPrompt

EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EIO))
Answer = tuple[ToolResponse, str | None]  # for the policy; the error's text if the call failed by the policy's doing


class PolicyTool(BaseTool):
    """A verl tool with a `prompt` and a `call`; what verl wants in addition is here.

    Args:
        config: of its YAML entry.
        tool_schema: verl's, where the YAML entry has one.
    """

    prompt: ClassVar[ToolPrompt | None] = None  # what the policy is told of the tool; None: its entry has the schema
    strict_arguments = True  # under our agent loop the schema is checked before the tool sees a call

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        prompt = self.prompt_of(config)
        self.advice = prompt.advice if prompt else None
        if prompt and tool_schema is None:
            tool_schema = OpenAIFunctionToolSchema.model_validate(prompt.schema)
        if tool_schema is None:
            raise ValueError(f"{type(self).__name__}: its entry in the tool config has no tool_schema; add one")
        super().__init__(config, tool_schema)

    @classmethod
    def prompt_of(cls, config: Mapping[str, Any]) -> ToolPrompt | None:
        """What the policy is told of the tool with this config; nothing is started for it."""
        return cls.prompt

    async def call(self, instance_id: str, arguments: Mapping[str, Any], agent_data: Any) -> Answer:
        """Carry out one call.

        Args:
            instance_id: from `create`, which a tool with a state per trajectory overrides, as it does `release`.
            arguments: the object that the policy wrote, of whatever fields and types.
            agent_data: verl's record of the trajectory (None outside a loop): `image_data`, `messages`.

        Raises:
            CallError: the policy has to write another call; never raise anything else for what it wrote.
            InfraFailure: a service or a disk failed.
        """
        raise NotImplementedError

    async def execute(
        self, instance_id: str, parameters: dict[str, Any], **kwargs: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """`call` as verl's `ToolAgentLoop._call_tool` wants it.

        Returns:
            the response or, for a bad call, a text for the policy; reward 0; `{"ok": bool, "error": str | None}`.

        Raises:
            InfraFailure: see `call`.
        """
        try:
            if not isinstance(parameters, Mapping):
                raise CallError(f"arguments must be a JSON object, got {type(parameters).__name__}.")
            response, error = await self.call(instance_id, parameters, kwargs.get("agent_data"))
        except CallError as refusal:
            error = f"Error: {refusal}"
            response = ToolResponse(text=error)
        except OSError as failure:
            if failure.errno not in EXHAUSTED:
                raise
            raise InfraFailure(f"{self.name}: {failure}") from failure
        return response, 0.0, {"ok": error is None, "error": error}
