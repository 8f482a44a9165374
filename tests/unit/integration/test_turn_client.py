"""Requests of one trajectory: limits, seeds, and a first request that starts from a prefix."""

import asyncio
from typing import Any

from verl.workers.rollout.replica import TokenOutput

from verl_axpo.integration.agent_loop import request_seed
from verl_axpo.integration.turn_client import Prefix, TurnClient


class RecordingServer:
    """Answers every request with the next of `answers` and keeps what was asked."""

    def __init__(self, *answers: list[int]) -> None:
        self.answers, self.asked = list(answers), []

    async def generate(self, request_id: str, **asked: Any) -> TokenOutput:
        self.asked.append({"request_id": request_id, **asked})
        ids = self.answers.pop(0)
        return TokenOutput(token_ids=ids, log_probs=[-0.5] * len(ids), extra_fields={"num_cached_tokens": 7})


def ask(client: TurnClient, prompt: list[int]) -> TokenOutput:
    return asyncio.run(client.generate("own-id", prompt_ids=prompt, sampling_params={"temperature": 1.0}))


def test_each_turn_may_fill_what_is_left_of_the_response() -> None:
    server = RecordingServer([1, 2, 3], [4])
    client = TurnClient(server, response_length=10, seed=lambda turn: None)
    ask(client, [0, 0])
    assert not client.stopped_by_length
    # the response so far: 3 generated + 4 of a tool = 7 of 10
    ask(client, [0, 0, 1, 2, 3, 9, 9, 9, 9])
    assert [asked["sampling_params"]["max_tokens"] for asked in server.asked] == [10, 3]
    assert client.turn_lengths == [3, 1]
    assert client.given == 0


def test_a_turn_as_long_as_its_limit_was_stopped_by_it() -> None:
    client = TurnClient(RecordingServer([1, 2, 3]), response_length=3, seed=lambda turn: None)
    ask(client, [0])
    assert client.stopped_by_length


def test_a_continuation_asks_from_its_prefix_and_answers_with_it() -> None:
    server = RecordingServer([8, 9], [4])
    prefix = Prefix(request_id="source-id", token_ids=(5, 6), logprobs=(-0.1, -0.2))
    client = TurnClient(server, response_length=10, seed=lambda turn: None, prefix=prefix)
    output = ask(client, [0, 0, 0])
    assert server.asked[0]["prompt_ids"] == [0, 0, 0, 5, 6]
    assert server.asked[0]["request_id"] == "source-id"  # the server that has the prefix in its cache
    assert server.asked[0]["sampling_params"]["max_tokens"] == 8
    assert output.token_ids == [5, 6, 8, 9]
    assert output.log_probs == [-0.1, -0.2, -0.5, -0.5]
    assert (client.given, client.prompt_tokens, client.cached_tokens) == (2, 5, 7)
    # Only the first request: later ones already have the prefix in their context
    ask(client, [0, 0, 0, 5, 6, 8, 9, 7])
    assert server.asked[1]["prompt_ids"] == [0, 0, 0, 5, 6, 8, 9, 7]
    assert client.turn_lengths == [4, 1]


def test_a_request_carries_the_seed_of_its_turn_or_none() -> None:
    server = RecordingServer([1], [1])
    client = TurnClient(server, response_length=9, seed=lambda turn: 100 + turn)
    ask(client, [0])
    ask(client, [0, 1])
    assert [asked["sampling_params"]["seed"] for asked in server.asked] == [100, 101]
    free = RecordingServer([1])
    ask(TurnClient(free, response_length=9, seed=lambda turn: None), [0])
    assert "seed" not in free.asked[0]["sampling_params"]


def test_a_seed_depends_on_everything_it_names_and_on_nothing_else() -> None:
    base = (1, 2, "q", 3, 0)
    others = [(2, 2, "q", 3, 0), (1, 3, "q", 3, 0), (1, 2, "r", 3, 0), (1, 2, "q", 4, 0), (1, 2, "q", 3, 1)]
    assert request_seed(*base) == request_seed(*base)
    assert len({request_seed(*request) for request in [base, *others]}) == 6
    assert request_seed(None, 2, "q", 3, 0) is None
