"""One trajectory: question -> assistant turn -> tool calls -> tool responses -> ... -> final answer or a limit.

    Conversation.messages -> ChatServer -> text -> calls -> Toolbox -> Conversation.add -> ChatServer -> ...

The rules of ending are those of `verl_axpo.integration.agent_loop`: no call is carried out on the last turn that the
limits allow, and calls left unanswered or a turn cut by its length make the trajectory `truncated`. So does a server
that refuses a later request as too long: training ends where the response is full, too.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from verl.tools.base_tool import BaseTool

from verl_axpo.agent.conversation import CONVERSATIONS, Conversation, Dialect
from verl_axpo.agent.server import ChatServer, Completion
from verl_axpo.agent.toolbox import Toolbox, schema_of
from verl_axpo.agent.types import Limits, Response, Sampling, Trajectory, Turn, used_tokens
from verl_axpo.core.types import Status
from verl_axpo.errors import ContextFull, InfraFailure
from verl_axpo.trace.records import ToolCall

Seed = Callable[[int], int | None]  # turn -> the request's seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """What all trajectories of a run share. Without tools it is the non-agent mode: one turn, nothing to call.

    Attributes:
        server: the model.
        tools: verl tools, as `load_tools` gives them.
        dialect: "text" parses the server's raw text by training's rules, "server" leaves calls to the server.
        context: tokens of the server's longest context, where it is known.
    """

    server: ChatServer
    tools: Sequence[BaseTool] = ()
    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits = field(default_factory=Limits)
    dialect: Dialect = "text"
    context: int | None = None

    async def run(self, question: str, images: Sequence[bytes] = (), seed: Seed = lambda turn: None) -> Trajectory:
        """One trajectory; a failing service ends it as `infra_failure`, with the turns that it had, and a request that
        the turns made too long for the server as `truncated`.

        Args:
            question: the user turn; `<image>` stands for the next of `images`.
            images: encoded files.
            seed: turn -> seed of its request, None to let the server draw freely.

        Raises:
            ServerRefused: the server does not know the key or the model.
            ValueError: the question has another number of images.
        """
        started = time.time()
        run = _Run(self, seed)
        failure = None
        try:
            await run.to_the_end(question, images)
        except InfraFailure as raised:
            failure = raised
        return Trajectory(
            status=run.status(failure),
            turns=tuple(run.turns),
            error=str(failure) if failure is not None else run.tool_failure(),
            over_limit=run.over_limit,
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
        # In a thread, for a large picture takes a while to encode
        conversation = await asyncio.to_thread(_conversation, self.agent, question, images)
        toolbox = Toolbox(self.agent.tools, images, self.limits)
        try:
            while await self._turn(conversation, toolbox):
                pass
        finally:
            await toolbox.close()

    async def _turn(self, conversation: Conversation, toolbox: Toolbox) -> bool:
        """One assistant turn and its calls; whether another one follows."""
        completion = await self.agent.server.complete(
            conversation.messages,
            max_tokens=self._max_tokens(conversation),
            sampling=self.agent.sampling,
            seed=self.seed(len(self.turns)),
            options=conversation.options(),
        )
        self._compare_tokens(completion)
        text, calls = conversation.read(completion)
        self.turns.append(_turn(completion, text, unanswered=len(calls)))
        if not calls or self._at_a_limit():
            return False
        done = await asyncio.gather(*(toolbox.call(call) for call in calls[: self.limits.parallel_calls]))
        responses, records = [one for one, _ in done], [one for _, one in done]
        self.turns[-1] = _turn(completion, text, calls=records, responses=responses)
        if self.tool_failure():
            return False
        toolbox.add_images([image for response in responses for image in response.images])
        await asyncio.to_thread(conversation.add, completion, text, responses)
        return True

    def _max_tokens(self, conversation: Conversation) -> int | None:
        """What the response has left. Where that might not fit into the server's context it would refuse the request:
        then the answer may fill the context, and what is beyond the limit is seen afterwards."""
        left = self.limits.response_tokens - used_tokens(self.turns)
        before = self.turns[-1].prompt_tokens + self.turns[-1].completion_tokens if self.turns else 0
        longest = before + conversation.unseen + left
        return left if self.agent.context is None or longest <= self.agent.context else None

    @property
    def over_limit(self) -> bool:
        return used_tokens(self.turns) > self.limits.response_tokens

    def status(self, failure: InfraFailure | None) -> Status:
        """As `AxpoToolAgentLoop._status`; `failure` is what ended the turns, None where the policy did."""
        full = isinstance(failure, ContextFull) and bool(self.turns)  # the question alone is not the policy's doing
        if (failure is not None and not full) or self.tool_failure():
            return Status.INFRA_FAILURE
        last = self.turns[-1]
        cut = full or last.finish_reason == "length" or self.over_limit or last.unanswered
        return Status.TRUNCATED if cut else Status.OK

    def tool_failure(self) -> str | None:
        """The reason of the first call whose service failed."""
        return next((call.error for turn in self.turns for call in turn.calls if call.infra), None)

    def _at_a_limit(self) -> bool:
        full = used_tokens(self.turns) >= self.limits.response_tokens or self.turns[-1].finish_reason == "length"
        return full or len(self.turns) >= self.limits.max_turns

    def _compare_tokens(self, completion: Completion) -> None:
        if completion.prompt_ids is None or completion.token_ids is None:
            return
        if self._seen is not None:
            same = list(completion.prompt_ids[: len(self._seen)]) == self._seen
            self.token_exact = same and self.token_exact is not False
        self._seen = [*completion.prompt_ids, *completion.token_ids]


def _turn(
    completion: Completion,
    text: str,
    *,
    calls: Sequence[ToolCall] = (),
    responses: Sequence[Response] = (),
    unanswered: int = 0,
) -> Turn:
    return Turn(
        text=text,
        calls=tuple(calls),
        responses=tuple(responses),
        unanswered=unanswered,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        finish_reason=completion.finish_reason,
        seconds=completion.seconds,
    )


def _conversation(agent: Agent, question: str, images: Sequence[bytes]) -> Conversation:
    return CONVERSATIONS[agent.dialect](question, images, [schema_of(tool) for tool in agent.tools])
