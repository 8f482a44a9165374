"""Tavily through its own client: from a request to its hits, with retries of failures that may pass.

    request -> turn (quota) -> paid call (quota) -> AsyncTavilyClient -> hits
                  ^---------------- back-off -------- Passing: 429, 408, 5xx, time-out, dropped, broken JSON
                                                      anything else: InfraFailure at once

A call is counted before it is sent and taken back when the server did not carry it out, so that no number of processes
exceeds the limit; a call that timed out stays counted, because Tavily may have carried it out.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

import httpx
from tavily import AsyncTavilyClient
from tavily.errors import BadRequestError, ForbiddenError, InvalidAPIKeyError
from tavily.errors import TimeoutError as TavilyTimeout
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from verl_axpo.errors import CallError, InfraFailure
from verl_axpo.tools.search.cache import Request
from verl_axpo.tools.search.config import KEY_VARIABLE, LEAKS, SearchConfig
from verl_axpo.tools.search.hits import Hit
from verl_axpo.tools.search.quota import Quota

MAX_BODY_BYTES = 4 * 2**20  # twenty results are some 100 KB
BACKOFF_S = wait_random_exponential(multiplier=0.5, max=20.0)
T = TypeVar("T")


class Passing(Exception):
    """A failure that may have passed at the next attempt.

    `carried_out`: whether the server may have done, and charged, the work; `retry_after_s`: what it asked to wait.
    """

    def __init__(self, what: str, *, carried_out: bool, retry_after_s: float | None = None) -> None:
        super().__init__(what)
        self.carried_out, self.retry_after_s = carried_out, retry_after_s


class Refused(InfraFailure):
    """The server did not carry the call out, and a retry would not help."""


class PerLoop(Generic[T]):
    """One value for each event loop in turn: connections and semaphores of a loop that ended are of no use."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._value: T

    def get(self) -> T:
        """The value of the running loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._value = loop, self._make()
        return self._value


class TavilyEngine:
    """Asks Tavily.

    Args:
        config: checked.
        api_key: sent as it is; never logged, cached or part of a request's key.
    """

    def __init__(self, config: SearchConfig, api_key: str) -> None:
        self.config = config
        self.quota = Quota(
            config.folder / "quota",
            run=config.run,
            max_paid_calls=config.max_paid_calls,
            calls_per_minute=config.requests_per_minute,
            max_wait_s=config.timeout_s,
        )
        self._client = PerLoop(lambda: AsyncTavilyClient(api_key, client=_http_client(config)))

    async def fetch(self, request: Request) -> list[Hit]:
        """The hits for `request` (see `tavily_request`).

        Raises:
            InfraFailure: Tavily refused, or failed in every attempt; `PaidCallsSpent` when no paid call is left.
        """
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.config.attempts),
            wait=_wait,
            retry=retry_if_exception_type(Passing),
            reraise=True,
        )
        try:
            return [*await retrying(self._attempt, request)]
        except Passing as failure:
            raise InfraFailure(f"Tavily: {failure} (the last of {self.config.attempts} attempts)") from failure

    async def _attempt(self, request: Request) -> list[Hit]:
        await asyncio.sleep(await asyncio.to_thread(self.quota.wait_for_turn))
        await asyncio.to_thread(self.quota.spend)
        try:
            return await self._send(request)
        except (CallError, Refused, Passing) as failure:
            if not isinstance(failure, Passing) or not failure.carried_out:
                await asyncio.to_thread(self.quota.refund)
            if isinstance(failure, Passing) and failure.retry_after_s is not None:
                await asyncio.to_thread(self.quota.postpone, failure.retry_after_s)
            raise

    async def _send(self, request: Request) -> list[Hit]:
        limit = self.config.attempt_timeout_s
        try:
            # httpx limits the wait for each piece of an answer; a slow server could hold the call for ever
            body = await asyncio.wait_for(self._client.get().search(**request, timeout=limit), limit)
            if "query" not in body:  # Tavily repeats the query; its client adds empty `results` to any other object
                raise ValueError(f"an object with {sorted(body)}")
            return [Hit.from_json(result) for result in body["results"]]
        except (TavilyTimeout, asyncio.TimeoutError) as error:
            raise Passing(f"no answer within {limit:g} s", carried_out=True) from error
        except httpx.ConnectError as error:
            raise Passing(f"no connection ({error})", carried_out=False) from error
        except httpx.TransportError as error:
            raise Passing(f"the connection broke ({error!r})", carried_out=True) from error
        except httpx.HTTPStatusError as error:
            raise _status_failure(error.response) from error
        except BadRequestError as error:  # requests of a run differ in the query alone
            raise CallError(f"the search does not take this query: {error}") from error
        except (InvalidAPIKeyError, ForbiddenError) as error:
            raise Refused(
                f"Tavily refused the call: {type(error).__name__} {error}; check {KEY_VARIABLE} and the plan's credits"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # the last is the client's, for a list
            raise Passing(f"an answer that is not Tavily's ({error!r:.200})", carried_out=True) from error


def tavily_request(config: SearchConfig, query: str, max_results: int) -> dict[str, Any]:
    """Everything that decides the answer, as the client's keywords; also what the cache is keyed by."""
    return {
        "query": query,
        "max_results": max_results,
        "search_depth": config.search_depth,
        "exclude_domains": sorted({*LEAKS, *(config.exclude_domains or ())}),
    }


def _wait(state: RetryCallState) -> float:
    """Seconds before the next attempt: what the server asked for, else exponential with jitter."""
    failure = state.outcome.exception() if state.outcome else None
    asked = failure.retry_after_s if isinstance(failure, Passing) else None
    return asked if asked is not None else BACKOFF_S(state)


def _status_failure(response: httpx.Response) -> Exception:
    if response.status_code >= 500 or response.status_code == httpx.codes.REQUEST_TIMEOUT:
        return Passing(f"status {response.status_code}", carried_out=False)
    return Refused(f"Tavily: unexpected status {response.status_code} from {response.request.url}")


def _http_client(config: SearchConfig) -> httpx.AsyncClient:
    """A client that bounds what a server may send, and sees the Retry-After that Tavily's client drops.

    `Accept-Encoding: identity`: the bound must hold for what is kept in memory, and not for its compressed form.
    """
    return httpx.AsyncClient(
        base_url=config.base_url or "https://api.tavily.com",
        headers={"Accept-Encoding": "identity"},
        event_hooks={"response": [_guard]},
    )


async def _guard(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise Passing("status 429", carried_out=False, retry_after_s=_seconds(response.headers.get("retry-after")))
    if response.headers.get("content-encoding", "identity") != "identity":
        raise InfraFailure("Tavily: a compressed answer, although none was asked for; look at the proxy in between")
    if isinstance(response.stream, httpx.AsyncByteStream):
        response.stream = _BoundedStream(response.stream)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; None for a date, a negative number or nothing."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None


class _BoundedStream(httpx.AsyncByteStream):
    """A response's bytes, up to MAX_BODY_BYTES."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for piece in self._stream:
            received += len(piece)
            if received > MAX_BODY_BYTES:
                raise InfraFailure(f"Tavily: an answer of more than {MAX_BODY_BYTES} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
