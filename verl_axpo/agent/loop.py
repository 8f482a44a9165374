"""One trajectory: question -> assistant turn -> tool calls -> tool responses -> ... -> final answer or a limit.

    Conversation.messages -> ChatClient -> text -> calls -> Toolbox -> Conversation.add -> ChatClient -> ...

The rules of ending are those of `verl_axpo.integration.agent_loop`: no call is carried out on the last turn that the
limits allow, and calls left unanswered or a turn cut by its length make the trajectory `truncated`. So does a server
that refuses a later request as too long: training ends where the response is full, too. Calls are carried out by verl's
own `ToolAgentLoop._call_tool`, so that an unknown or failing tool is answered in the words of training.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import uuid4

from PIL import Image
from verl.experimental.agent_loop.tool_agent_loop import AgentData, ToolAgentLoop
from verl.tools.base_tool import BaseTool
from verl.tools.schemas import ToolResponse

from verl_axpo.agent.client import ChatClient, Completion
from verl_axpo.agent.conversation import CONVERSATIONS, Answered, Dialect, TextConversation
from verl_axpo.core.types import Status
from verl_axpo.errors import ContextFull, InfraFailure
from verl_axpo.eval.sampling import Limits, Sampling
from verl_axpo.eval.types import AgentRun, Response, Turn, used_tokens
from verl_axpo.images import ImageRefused, open_image
from verl_axpo.integration.agent_loop import call_record, disarmed
from verl_axpo.integration.call_parser import BadCall, function_call
from verl_axpo.integration.trajectory_tool import TrajectoryTool
from verl_axpo.tools.described import prompt_of
from verl_axpo.tools.syntax import ParsedCall
from verl_axpo.trace.records import ToolCall

Seed = Callable[[int], int | None]  # turn -> the request's seed
DECODED_IMAGES = 16  # kept for the other rollouts of their questions


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """What all trajectories of a run share. Without tools there is a single turn, and nothing to call.

    Attributes:
        client: of the model's server.
        keep: stores a tool's picture and returns its path, for the record of the trajectory.
        tools: verl tools, as `tools.described.load_tools` gives them.
        dialect: "text" parses the server's raw text by training's rules, "server" leaves calls to the server.
        context: tokens of the server's longest context, where it is known.
        chat_template_kwargs: for the server's chat template, as verl's `data.apply_chat_template_kwargs`.
    """

    client: ChatClient
    keep: Callable[[Image.Image], str]
    tools: Sequence[BaseTool] = ()
    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    dialect: Dialect = "text"
    context: int | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    async def run(self, question: str, images: Sequence[bytes] = (), seed: Seed = lambda turn: None) -> AgentRun:
        """One trajectory. A failing service ends it as `infra_failure`, with the turns that it had, and a request that
        the turns made too long for the server as `truncated`.

        Args:
            question: the user turn; `<image>` stands for the next of `images`.
            images: encoded files.
            seed: turn -> seed of its request, None to let the server draw freely.

        Raises:
            ServerRefused: the server does not know the key or the model.
            ValueError: the question has another number of images.
            OSError: `keep` cannot store a picture.
        """
        started, run, failure = time.time(), _Run(self, seed), None
        try:
            await run.to_the_end(question, images)
        except InfraFailure as raised:
            failure = raised
        return AgentRun(
            status=run.status(failure),
            turns=tuple(run.turns),
            error=str(failure) if failure is not None else run.tool_failure(),
            token_exact=run.token_exact,
            started=started,
            finished=time.time(),
        )


class _Run:
    """The state of one trajectory while it runs."""

    def __init__(self, agent: Agent, seed: Seed) -> None:
        self.agent, self.limits, self.seed = agent, agent.limits, seed
        self.turns: list[Turn] = []
        self.token_exact: bool | None = None
        self._seen: list[int] | None = None  # the tokens that the next prompt has to begin with

    async def to_the_end(self, question: str, images: Sequence[bytes]) -> None:
        agent, tools = self.agent, [prompt_of(tool) for tool in self.agent.tools]
        # In a thread, for a large picture takes a while to encode
        begin = CONVERSATIONS[agent.dialect]
        conversation = await asyncio.to_thread(begin, question, images, tools, agent.chat_template_kwargs)
        toolbox = Toolbox(agent.tools, images, self.limits)
        try:
            while await self._turn(conversation, toolbox):
                pass
        finally:
            await toolbox.close()

    async def _turn(self, conversation: TextConversation, toolbox: "Toolbox") -> bool:
        """One assistant turn and its calls; whether another turn follows."""
        completion = await self._complete(conversation)
        if not conversation.announces(completion):
            completion = await self._complete(conversation)
        self._compare_tokens(completion)
        text, calls = conversation.read(completion)
        self.turns.append(_turn(completion, text=text, unanswered=len(calls)))
        if not calls or self._at_a_limit():
            return False
        done = await asyncio.gather(*(toolbox.call(call) for call in calls[: self.limits.parallel_calls]))
        answers, records = [answer for answer, _ in done], tuple(record for _, record in done)
        responses = await asyncio.to_thread(self._kept, answers)
        self.turns[-1] = _turn(completion, text=text, calls=records, responses=responses)
        if self.tool_failure():
            return False
        toolbox.images.extend(picture for _, pictures in answers for picture in pictures)
        await asyncio.to_thread(conversation.add, completion, text, answers)
        return True

    async def _complete(self, conversation: TextConversation) -> Completion:
        return await self.agent.client.complete(
            conversation.messages,
            max_tokens=self._max_tokens(conversation),
            sampling=self.agent.sampling,
            seed=self.seed(len(self.turns)),
            options=conversation.options(),
        )

    def _kept(self, answers: Sequence[Answered]) -> tuple[Response, ...]:
        return tuple(Response(text=text, images=tuple(map(self.agent.keep, pictures))) for text, pictures in answers)

    def _max_tokens(self, conversation: TextConversation) -> int | None:
        """What the response has left. Where that might not fit into the server's context, the server would refuse the
        request: then the answer may fill the context, and what is beyond the limit is seen afterwards."""
        left = self.limits.response_tokens - used_tokens(self.turns)
        before = self.turns[-1].prompt_tokens + self.turns[-1].completion_tokens if self.turns else 0
        longest = before + conversation.unseen + left
        return left if self.agent.context is None or longest <= self.agent.context else None

    def status(self, failure: InfraFailure | None) -> Status:
        """As `AxpoToolAgentLoop._status`; `failure` is what ended the turns, None where the policy did."""
        full = isinstance(failure, ContextFull) and bool(self.turns)  # the question alone is not the policy's doing
        if (failure is not None and not full) or self.tool_failure():
            return Status.INFRA_FAILURE
        last, over_limit = self.turns[-1], used_tokens(self.turns) > self.limits.response_tokens
        return Status.TRUNCATED if full or over_limit or _is_cut(last) or last.unanswered else Status.OK

    def tool_failure(self) -> str | None:
        """The reason of the first call whose service failed."""
        return next((call.error for turn in self.turns for call in turn.calls if call.infra), None)

    def _at_a_limit(self) -> bool:
        full = used_tokens(self.turns) >= self.limits.response_tokens or _is_cut(self.turns[-1])
        return full or len(self.turns) >= self.limits.max_turns

    def _compare_tokens(self, completion: Completion) -> None:
        if completion.prompt_ids is None or completion.token_ids is None:
            return
        if self._seen is not None:
            same = list(completion.prompt_ids[: len(self._seen)]) == self._seen
            self.token_exact = same and self.token_exact is not False
        self._seen = [*completion.prompt_ids, *completion.token_ids]


def _turn(completion: Completion, **of_turn: Any) -> Turn:
    names = ("prompt_tokens", "completion_tokens", "finish_reason", "seconds")
    return Turn(**of_turn, **{name: getattr(completion, name) for name in names})


def _is_cut(turn: Turn) -> bool:
    return turn.finish_reason == "length"


class Toolbox:
    """The tools of one trajectory, which live until `close`, and the conversation's images that they see.

    Args:
        tools: shared by all trajectories.
        images: the question's, encoded. They are decoded when the first tool is called: an image may take 100 MB, and
            many trajectories call no tool. The caller appends to `images` what tools returned.
    """

    # verl's method, unbound: it reads the three attributes below and nothing else (tests/contract)
    _carry_out = ToolAgentLoop._call_tool

    def __init__(self, tools: Sequence[BaseTool], images: Sequence[bytes], limits: Limits) -> None:
        self.tools = {tool.name: TrajectoryTool(tool) for tool in tools}
        self.max_tool_response_length = limits.tool_response_chars
        self.tool_response_truncate_side = limits.truncate_side
        self.images: list[Image.Image] = []
        self._undecoded, self._decoding = list(images), asyncio.Lock()
        nothing = dict.fromkeys(("video_data", "audio_data", "mm_processor_kwargs"))
        self._agent_data = AgentData(
            messages=[], image_data=self.images, metrics={}, request_id=uuid4().hex, tools_kwargs={}, **nothing
        )

    async def call(self, parsed: ParsedCall) -> tuple[Answered, ToolCall]:
        """Carry out one call; whatever goes wrong is in the record, and what the policy may know in the answer.

        Raises:
            InfraFailure: an image of the question cannot be read.
        """
        async with self._decoding:
            waiting, self._undecoded = self._undecoded, []
            self.images.extend([await asyncio.to_thread(decode, image) for image in waiting])
        started, wanted = time.monotonic(), function_call(parsed)
        if isinstance(wanted, BadCall):
            response, metrics = ToolResponse(text=wanted.problem), {"ok": False}
        else:
            response, _, metrics = await self._carry_out(wanted, {}, self._agent_data)
        response = disarmed(response)
        record = call_record(wanted, response, metrics, time.monotonic() - started)
        return (response.text or "", response.image or ()), record

    async def close(self) -> None:
        """Release every tool that was used."""
        await asyncio.gather(*(tool.close() for tool in self.tools.values()))


@lru_cache(maxsize=DECODED_IMAGES)
def decode(data: bytes) -> Image.Image:
    """The picture as tools see it: RGB, at its own size; shared by the rollouts of a question, so not to be changed.

    Raises:
        InfraFailure: the file is damaged.
    """
    try:
        return open_image(data)
    except ImageRefused as error:
        raise InfraFailure(f"an image of the question cannot be read: {error}") from error
