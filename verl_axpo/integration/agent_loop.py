"""A trajectory: verl's tool loop, watched, limited, seeded, and able to start from a prefix.

    prompt (+ prefix) -> TurnClient -> assistant turn -> ToolCallParser -> TrajectoryTool -> ... -> Trajectory

verl's `ToolAgentLoop` does the turns. Ours adds what AXPO needs and verl lacks: calls are found in token ids and
outside thinking, a tool lives as long as its trajectory, every end has a status, and the first request may start from
the token ids of another trajectory's prefix, images as they were, with nothing decoded and encoded again.
"""

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Sequence
from contextvars import Context, copy_context
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, register
from verl.experimental.agent_loop.tool_agent_loop import AgentData, AgentState, ToolAgentLoop
from verl.experimental.agent_loop.tool_parser import FunctionCall
from verl.tools.base_tool import BaseTool
from verl.tools.schemas import ToolResponse
from verl.utils.rollout_trace import rollout_trace_op

from verl_axpo.core.types import Status
from verl_axpo.integration.call_parser import PARSER_NAME, BadCall, ThinkAwareToolParser
from verl_axpo.integration.dataset import opened
from verl_axpo.integration.shared import SharedWork, loop_context
from verl_axpo.integration.speculation import TalliedClient
from verl_axpo.integration.trajectory import Trajectory
from verl_axpo.integration.trajectory_tool import TrajectoryTool
from verl_axpo.integration.turn_client import TurnClient
from verl_axpo.tools.chat_format import format_of
from verl_axpo.tools.syntax.base import THINKING
from verl_axpo.tools.text import inert
from verl_axpo.trace.records import ToolCall

LOOP_NAME = "axpo_tool_agent"
# What `ToolAgentLoop._call_tool` answers in a tool's stead; tests/contract/test_verl_integration.py pins the words
HOST_REFUSALS = ("Unknown function", "Invalid JSON in arguments", "Error executing tool")


def request_seed(run_seed: int | None, step: int, uid: str, session: int, turn: int) -> int | None:
    """The seed of one sampling request: a function of what is asked, not of when (invariant 8). None: not seeded."""
    if run_seed is None:
        return None
    key = f"{run_seed}/{step}/{uid}/{session}/{turn}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big")


@register(LOOP_NAME)
class AxpoToolAgentLoop(ToolAgentLoop):
    """verl's `ToolAgentLoop`, whose output is a `Trajectory`; an instance runs a single trajectory."""

    tools: dict[str, Any]
    server_manager: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.tool_parser, ThinkAwareToolParser):
            raise ValueError(
                f"{LOOP_NAME}: got actor_rollout_ref.rollout.multi_turn.format={self.tool_parser_name}, expected "
                f"{PARSER_NAME}, which tells a call from a tag inside <think>; set it to {PARSER_NAME}"
            )
        renderer, parser = self.processor or self.tokenizer, self.tool_parser
        parser.use(format_of(renderer, self.apply_chat_template_kwargs, parser.named))
        self.tools = {
            name: TrajectoryTool(tool) if isinstance(tool, BaseTool) else tool for name, tool in self.tools.items()
        }
        self.calls: list[ToolCall] = []
        self.prompt_images = 0
        self.removed_tokens = 0  # from the end of the last turn, by the merge of the tools' responses
        self.spans: Context | None = None
        self.shared = SharedWork()

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> Trajectory:
        """A trajectory from `kwargs["raw_prompt"]`, or from a prefix of its response if the worker gave one."""
        started, context = time.time(), loop_context()
        self.shared = context.shared if context else self.shared
        server = self.server_manager
        self.server_manager = client = TurnClient(
            TalliedClient(server, context.tally) if context and context.tally else server,
            response_length=self.response_length,
            # verl draws a validation question's uid anew each time; its row in the dataset is what stays the same
            seed=lambda turn: self._seed(turn, kwargs, question="uid" if context else "index"),
            prefix=context.prefix if context else None,
        )
        told = kwargs if context is None or context.source is None else {**kwargs, "source_session": context.source}
        try:
            output = await super().run(sampling_params, **told)  # verl's loop reads none of it, its trace all
        finally:
            await asyncio.gather(*(tool.close() for tool in self.tools.values() if isinstance(tool, TrajectoryTool)))
        return self._trajectory(output, client, kwargs, started)

    def _seed(self, turn: int, kwargs: dict[str, Any], question: str) -> int | None:
        run_seed = (self.config.algorithm.get("axpo") or {}).get("seed")
        step, session = int(kwargs.get("global_steps", -1)), int(kwargs.get("session_id", 0))
        return request_seed(run_seed, step, str(kwargs.get(question, kwargs.get("uid"))), session, turn)

    # ------------------------------ what the host's states leave out ------------------------------

    async def process_multi_modal_info(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """verl's, once per question, on pictures that we opened, whatever dataset class the user has; the lists are
        copied, for the loop appends the images of tools to them."""

        async def process() -> dict[str, Any]:
            shown = await asyncio.to_thread(opened, messages)
            media: dict[str, Any] = await super(AxpoToolAgentLoop, self).process_multi_modal_info(shown)
            return media

        media = await self.shared.result("media", process)
        return {kind: list(items) for kind, items in media.items()}

    async def ct_build_initial_tokens(self, messages: list[dict[str, Any]], **kwargs: Any) -> list[int]:
        """verl's, once per question; with videos every time, for verl wants the features that come with the tokens."""

        announced = self.tool_parser.format.with_tools(messages, kwargs.get("tools") or ())

        async def build() -> list[int]:
            tokens: list[int] = await super(AxpoToolAgentLoop, self).ct_build_initial_tokens(announced, **kwargs)
            return tokens

        return list(await build() if kwargs.get("videos") else await self.shared.result("prompt", build))

    async def ct_merge_context_msg(self, *args: Any, **kwargs: Any) -> Any:
        """verl's, which may take away the token that ended the turn (GLM's, which begins the tool's response, too)."""
        merged = await super().ct_merge_context_msg(*args, **kwargs)
        self.removed_tokens = merged[0].removed_prefix_token_count
        return merged

    async def _handle_pending_state(self, agent_data: AgentData, sampling_params: dict[str, Any]) -> AgentState:
        self.prompt_images = len(agent_data.image_data or ())
        self.spans = copy_context()  # inside verl's span of this trajectory
        return await super()._handle_pending_state(agent_data, sampling_params)

    async def _handle_processing_tools_state(self, agent_data: AgentData) -> AgentState:
        state = await super()._handle_processing_tools_state(agent_data)
        if state is AgentState.GENERATING:  # otherwise verl drops what it merged, and the turn keeps its last token
            self.server_manager.turn_lengths[-1] -= self.removed_tokens
        return AgentState.TERMINATED if any(call.infra for call in self.calls) else state

    # verl traces the tool's own `execute`, which each tool has its own of; here is every call, the undecodable too
    @rollout_trace_op
    async def _call_tool(
        self, tool_call: FunctionCall, tools_kwargs: dict[str, Any], agent_data: AgentData
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        started = time.monotonic()
        if isinstance(tool_call, BadCall):
            response, reward, metrics = ToolResponse(text=tool_call.problem), 0.0, {"ok": False}
        else:
            response, reward, metrics = await super()._call_tool(tool_call, tools_kwargs, agent_data)
        response = disarmed(response)
        if response.image and not getattr(self.processor, "image_processor", None):
            response = unseen(response)
        self.calls.append(call_record(tool_call, response, metrics, time.monotonic() - started))
        return response, reward, metrics

    # ------------------------------ what the loop saw ------------------------------

    def _trajectory(
        self, output: AgentLoopOutput, client: TurnClient, sample: dict[str, Any], started: float
    ) -> Trajectory:
        span = self._first_call(output, client)
        seen: dict[str, Any] = {
            "sample": sample,
            "request_id": client.request_id,
            "status": self._status(output, client),
            "prefix_len": span[0] if span else None,
            "tool_call_span": span,
            "prefix_images": self.prompt_images,
            "confidence": _mean_probability(output.response_logprobs, span),
            "tool_calls": tuple(self.calls),
            "given": client.given,
            "prompt_tokens": client.prompt_tokens,
            "cached_tokens": client.cached_tokens,
            "turn_lengths": tuple(client.turn_lengths),
            "weight_versions": client.weight_versions,
            "starts_in_think": self.tool_parser.format.opened.strip() == THINKING[0],
            "spans": self.spans,
            "started": started,
            "finished": time.time(),
        }
        return Trajectory.of(output, seen)

    def _first_call(self, output: AgentLoopOutput, client: TurnClient) -> tuple[int, int] | None:
        """`[start, end)` of the first call after its opening tag.

        It is in the first turn, for a turn without a call is the last. An opening tag with nothing after it, cut off
        by the length limit, calls nothing.
        """
        spans = self.tool_parser.calls.spans(output.response_ids[: client.turn_lengths[0]])
        called = bool(spans) and spans[0].end > spans[0].open + 1
        return (spans[0].open + 1, spans[0].end) if called else None

    def _status(self, output: AgentLoopOutput, client: TurnClient) -> Status:
        if any(call.infra for call in self.calls):
            return Status.INFRA_FAILURE
        last_turn = output.response_ids[-client.turn_lengths[-1] :]
        unanswered = bool(self.tool_parser.calls.spans(last_turn))
        return Status.TRUNCATED if client.stopped_by_length or unanswered else Status.OK


def disarmed(response: ToolResponse) -> ToolResponse:
    """The response whose text can add no image token and end no turn, whatever a page or a program wrote there."""
    return response.model_copy(update={"text": inert(response.text)}) if response.text else response


def unseen(response: ToolResponse) -> ToolResponse:
    """The response for a model of text alone, for which verl's loop would give up the whole rollout."""
    words = f"[{len(response.image)} picture(s), which you cannot see]"
    return ToolResponse(text="\n".join(filter(None, [response.text, words])))


def call_record(call: FunctionCall, response: ToolResponse, metrics: dict[str, Any], seconds: float) -> ToolCall:
    """One call as the trace keeps it; `metrics` are the tool's own (`ok`, `infra`, `error`), `seconds` wall time."""
    text = response.text or ""
    ok = bool(metrics.get("ok", not text.startswith(HOST_REFUSALS)))
    arguments = json.loads(call.arguments)
    return ToolCall(
        name=call.name,
        arguments=arguments,
        ok=ok,
        infra=bool(metrics.get("infra", False)),
        seconds=seconds,
        error=None if ok else str(metrics.get("error") or text),
    )


def _mean_probability(logprobs: Sequence[float] | None, span: tuple[int, int] | None) -> float | None:
    """The paper's confidence: mean probability of the tool call's tokens, as the rollout engine sampled them."""
    if logprobs is None or span is None:
        return None
    return math.fsum(math.exp(logprob) for logprob in logprobs[slice(*span)]) / (span[1] - span[0])
