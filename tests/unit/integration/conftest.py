"""Sessions and rows as the rollout makes them, small enough to check by hand."""

from collections.abc import Callable
from typing import Any

import pytest
from verl.experimental.agent_loop import AgentLoopOutput

from verl_axpo.core.types import Status
from verl_axpo.integration.lineage import Episode, Session
from verl_axpo.integration.turn_client import Resume


def make_episode(**changes: Any) -> Episode:
    values: dict[str, Any] = {
        "request_id": "source-id",
        "status": Status.OK,
        "prefix_len": 3,
        "tool_call_span": (3, 5),
        "prefix_images": 1,
        "confidence": 0.5,
        "tool_calls": (),
        "num_generated": 7,
        "prompt_tokens": 2,
        "cached_tokens": None,
        "started": 0.0,
        "finished": 1.0,
    }
    return Episode(**values | changes)


@pytest.fixture
def session() -> Callable[..., Session]:
    """A response of 8: prefix 3, call 2, tool response 1 (not the policy's), answer 2; two images, one of the tool."""

    def make(session_id: int = 0, reward: float = 0.0, resume: Resume | None = None, **episode: Any) -> Session:
        output = AgentLoopOutput(
            prompt_ids=[100, 101],
            response_ids=[1, 2, 3, 4, 5, 60, 7, 8],
            response_mask=[1, 1, 1, 1, 1, 0, 1, 1],
            response_logprobs=[-0.1, -0.2, -0.3, -0.4, -0.5, 0.0, -0.7, -0.8],
            multi_modal_data={"images": ["prompt image", "tool image"]},
            reward_score=reward,
            metrics={},
            extra_fields={"reward_extra_info": {}},
        )
        return Session(
            output=output, kwargs={"uid": "q", "session_id": session_id}, episode=make_episode(**episode), resume=resume
        )

    return make
