"""One request to an OpenAI-compatible server: messages -> ChatClient.complete -> Completion.

Overload, timeouts, dropped connections and 5xx are retried with growing pauses before they count as an `InfraFailure`.
A wrong key or an unknown model is the user's to fix and stops the run (`ServerRefused`).
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import openai

from verl_axpo.errors import ContextFull, InfraFailure, ServerRefused
from verl_axpo.eval.sampling import Sampling

Message = dict[str, Any]

RETRIES = 6  # pauses of 0.5, 1, 2, 4, 8, 8 s: enough for a hiccup; a server that restarts is left to the next run
TIMEOUT_S = 3600.0  # of one request: 32,768 tokens next to a hundred other requests take many minutes
MOST_ERROR_CHARACTERS = 500  # of a server's own words
# How a 400 says that a request is too long, or has too many pictures: vLLM, SGLang, OpenAI, Anthropic, Gemini
TOO_LONG = re.compile(
    r"context[ _](length|window|limit|size)|maximum model length|(prompt|input) is too long|too many tokens"
    r"|maximum number of tokens|too many images|at most \d+ image|maximum of \d+ images",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer, as the server gave it; what only vLLM returns is None elsewhere.

    Attributes:
        message: the assistant message with every field that the server put there.
        prompt_text: the rendered prompt.
        prompt_ids, token_ids: of the prompt with its images, and of what was generated, end-of-turn token included.
    """

    message: Mapping[str, Any]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    prompt_text: str | None
    prompt_ids: Sequence[int] | None
    token_ids: Sequence[int] | None
    seconds: float


class ChatClient:
    """A model on an OpenAI-compatible server; one client serves all trajectories of a run.

    Args:
        base_url: up to and including `/v1`.
        model: the name under which the server has it.
        api_key: any text for a local server, which asks for none.
        retries, timeout_s: per request.
    """

    def __init__(
        self, base_url: str, model: str, *, api_key: str = "none", retries: int = RETRIES, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.base_url, self.model = base_url, model
        self._client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=retries, timeout=timeout_s)

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int | None,
        sampling: Sampling,
        seed: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Completion:
        """One assistant turn.

        Args:
            messages: in the API's format.
            max_tokens: of the answer; None: up to the end of the server's context.
            seed: of this request.
            options: further fields of the request (`tools`, `tool_choice`, a server's own).

        Raises:
            InfraFailure: no answer even after retries, or an unreadable answer; `ContextFull` where the request is too
                long for the server's window, or has too many pictures.
            ServerRefused: the server does not know the key or the model.
        """
        fields = {**asdict(sampling), "seed": seed, "max_completion_tokens": max_tokens, **(options or {})}
        started = time.monotonic()
        try:
            # In `extra_body`: the client then sends what we say, standard or not, and needs no type for it
            reply = await self._client.chat.completions.create(
                model=self.model,
                messages=list(messages),  # type: ignore[arg-type] # the client's unions of TypedDicts
                extra_body={name: value for name, value in fields.items() if value is not None},
            )
        except openai.OpenAIError as error:
            raise self._explained(error) from error
        except ValueError as error:  # a body that is cut, or no JSON, with a status of 200
            raise InfraFailure(f"{self.base_url}: an answer that cannot be read: {error}") from error
        return self._completion(reply, time.monotonic() - started)

    async def context_length(self) -> int | None:
        """The longest context of the model in tokens, where the server says it (vLLM does); None elsewhere.

        Raises:
            InfraFailure: nobody answers.
            ServerRefused: the server does not have the model.
        """
        try:
            cards = {card.id: card async for card in self._client.models.list()}
        except openai.NotFoundError:
            return None  # a gateway without a list of its models
        except openai.OpenAIError as error:
            raise self._explained(error) from error
        except ValueError as error:
            raise InfraFailure(f"{self.base_url}: a list of models that cannot be read: {error}") from error
        if self.model not in cards:
            raise ServerRefused(
                f"model: got {self.model!r}, but {self.base_url} serves {sorted(cards)}; name one of these"
            )
        length = getattr(cards[self.model], "max_model_len", None)
        return int(length) if length is not None else None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _completion(self, reply: Any, seconds: float) -> Completion:
        choices, usage = getattr(reply, "choices", None), getattr(reply, "usage", None)
        if not choices or usage is None or choices[0].message is None:
            raise InfraFailure(f"{self.base_url}: an answer without message or usage: {str(reply)[:80]!r}")
        return Completion(
            message=choices[0].message.to_dict(),
            finish_reason=choices[0].finish_reason or "stop",
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            prompt_text=getattr(reply, "prompt_text", None),
            prompt_ids=getattr(reply, "prompt_token_ids", None),
            token_ids=getattr(choices[0], "token_ids", None),
            seconds=seconds,
        )

    def _explained(self, error: openai.OpenAIError) -> Exception:
        words = " ".join(str(error).split())[:MOST_ERROR_CHARACTERS]
        if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
            return ServerRefused(f"{self.base_url} refuses the key: {words}; name the variable with it by --key-env")
        if isinstance(error, openai.NotFoundError):
            return ServerRefused(f"{self.base_url} has no model {self.model!r}: {words}; check --model and --base-url")
        cause = f": {error.__cause__}" if str(error.__cause__ or "") else ""  # what "Connection error." leaves out
        too_long = isinstance(error, openai.BadRequestError) and TOO_LONG.search(str(error))
        kind = ContextFull if too_long else InfraFailure
        return kind(f"{self.base_url}: {type(error).__name__}: {words}{cause}")
