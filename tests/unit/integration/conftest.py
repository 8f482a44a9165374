"""Trajectories as the rollout makes them, small enough to check by hand."""

from collections.abc import Callable
from typing import Any

import pytest
from verl.experimental.agent_loop import AgentLoopOutput

from verl_axpo.core.types import Status
from verl_axpo.integration.trajectory import Trajectory


@pytest.fixture
def trajectory() -> Callable[..., Trajectory]:
    """A response of 8: prefix 3, call 2, tool response 1 (not the policy's), answer 2; two images, one of the tool."""
    seen: dict[str, Any] = {
        "request_id": "source-id",
        "status": Status.OK,
        "prefix_len": 3,
        "tool_call_span": (3, 5),
        "prefix_images": 1,
        "confidence": 0.5,
        "tool_calls": (),
        "given": 0,
        "prompt_tokens": 2,
        "cached_tokens": None,
        "turn_lengths": (5, 2),
        "started": 0.0,
        "finished": 1.0,
    }

    def make(session: int = 0, reward: float = 0.0, **changes: Any) -> Trajectory:
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
        question = [{"role": "user", "content": "What?"}]
        sample = {"uid": "q", "session_id": session, "global_steps": 5, "raw_prompt": question}
        return Trajectory.of(output, {"sample": sample, **seen, **changes})

    return make
