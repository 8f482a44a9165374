"""An LLM that compares an answer with the reference, over any OpenAI-compatible server.

    judge() -> asked by someone else just now? -> cache? -> server, retried -> Verdict -> cache
                                                               |_ InfraFailure, never "wrong"

Used by the reward (`judge` answers) and by the evaluation alike.
"""

import asyncio
import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import openai
from openai.types.shared_params.response_format_json_schema import ResponseFormatJSONSchema

from verl_axpo.errors import InfraFailure
from verl_axpo.json_files import JsonFiles, refuse
from verl_axpo.rewards.config import JudgeConfig
from verl_axpo.rewards.judge_prompt import PROMPT_VERSION, SCHEMA, Verdict, messages, parse_verdict, verdict_of

_RESPONSE_FORMAT: ResponseFormatJSONSchema = {
    "type": "json_schema",
    "json_schema": {"name": "verdict", "schema": SCHEMA, "strict": True},
}


class Judge:
    """Asks one server; belongs to the event loop that first awaits it. Close it, or use it as `async with`.

    Raises:
        ValueError: the key's environment variable is not set.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self.config = config
        # The client retries failures that may pass (no connection, time-out, 408, 409, 429, 5xx), and obeys Retry-After
        self._client = openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=config.api_key(),
            timeout=config.timeout_s,
            max_retries=config.attempts - 1,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"request": [self._turn]}),
        )
        # Verdicts are kept for good: a rerun of an evaluation must not ask again
        self._cache = JsonFiles(Path(config.cache_dir)) if config.cache_dir else None
        self._asking: dict[str, asyncio.Task[Verdict]] = {}
        self._slots = asyncio.Semaphore(config.max_concurrency)
        self._next_start = 0.0  # seconds of the monotonic clock

    async def judge(self, question: str, reference: str, answer: str) -> Verdict:
        """Whether `answer` means the same as `reference`, as an answer to `question`.

        The same three texts are asked about only once; a failure is not kept.

        Raises:
            InfraFailure: no verdict: the server failed, refused, or replied something else.
        """
        key = self._key(question, reference, answer)
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._judge(key, question, reference, answer))
            task.add_done_callback(lambda _: self._asking.pop(key))
        # Shielded: one trajectory that is cancelled must not cancel what the others wait for
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def __aenter__(self) -> "Judge":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _key(self, question: str, reference: str, answer: str) -> str:
        parts = json.dumps([PROMPT_VERSION, self.config.model, question, reference, answer])
        return hashlib.sha256(parts.encode()).hexdigest()

    async def _judge(self, key: str, question: str, reference: str, answer: str) -> Verdict:
        who = f"judge {self.config.model} at {self.config.base_url}"
        try:
            if (known := await asyncio.to_thread(self._known, key)) is not None:
                return known
            async with self._slots:
                verdict = parse_verdict(await self._request(messages(question, reference, answer)))
            if self._cache is not None:
                await asyncio.to_thread(self._cache.put, key, asdict(verdict))
            return verdict
        except openai.OpenAIError as error:
            raise InfraFailure(f"{who}: {error!r}") from error
        except ValueError as error:
            raise InfraFailure(f"{who}: no verdict: {error}") from error
        except OSError as error:
            raise InfraFailure(f"{who}: its cache {self.config.cache_dir} failed: {error!r}") from error

    def _known(self, key: str) -> Verdict | None:
        """The cached verdict; an entry of another shape counts as none."""
        entry = self._cache.get(key) if self._cache is not None else None
        try:
            return None if entry is None else verdict_of(entry)
        except ValueError as error:
            refuse(key, str(error))
            return None

    async def _turn(self, _: object) -> None:
        """Wait for the next start that the rate allows: starts are spread evenly, retries included."""
        if self.config.requests_per_minute is None:
            return
        start = max(time.monotonic(), self._next_start)
        self._next_start = start + 60.0 / self.config.requests_per_minute
        await asyncio.sleep(start - time.monotonic())

    async def _request(self, conversation: list[dict[str, str]]) -> str:
        config = self.config
        completion = await self._client.chat.completions.create(
            model=config.model,
            messages=conversation,  # type: ignore[arg-type]  # plain dicts of the right keys
            max_completion_tokens=config.max_tokens,
            temperature=openai.omit if config.temperature is None else config.temperature,
            response_format=_RESPONSE_FORMAT if config.structured else openai.omit,
        )
        try:  # the client checks nothing: a proxy's error page is a string here
            return completion.choices[0].message.content or ""
        except (AttributeError, IndexError, TypeError) as error:
            raise ValueError(f"got {str(completion)[:200]!r}, expected a chat completion") from error
