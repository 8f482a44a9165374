"""A trajectory of the agent as the line that is kept of it; its pictures go into the folder.

Trajectory -> to_record() -> RolloutRecord        exception -> broken() -> Trajectory
"""

import time
from pathlib import Path

from verl_axpo.agent.types import Trajectory, Turn
from verl_axpo.core.types import Status
from verl_axpo.eval.plan import Job
from verl_axpo.eval.records import ResponseRecord, RolloutRecord, TurnRecord
from verl_axpo.image_store import store_image


def to_record(job: Job, trajectory: Trajectory, answer: str | None, folder: Path) -> RolloutRecord:
    """A trajectory as it is kept, its pictures stored in `folder`."""
    return RolloutRecord(
        benchmark=job.question.benchmark,
        uid=job.question.uid,
        rollout=job.rollout,
        status=trajectory.status,
        answer=answer,
        uses_tool=trajectory.uses_tool,
        response_tokens=trajectory.response_tokens,
        turns=tuple(_turn_record(turn, folder) for turn in trajectory.turns),
        error=trajectory.error,
        token_exact=trajectory.token_exact,
        started=trajectory.started,
        finished=trajectory.finished,
    )


def broken(error: Exception, started: float) -> Trajectory:
    """A trajectory that the agent could not even begin, or end in one of its own ways."""
    return Trajectory(
        status=Status.INFRA_FAILURE,
        turns=(),
        error=f"the agent failed: {error!r:.500}",
        started=started,
        finished=time.time(),
    )


def _turn_record(turn: Turn, folder: Path) -> TurnRecord:
    responses = tuple(
        ResponseRecord(text=one.text, images=tuple(store_image(folder, image) for image in one.images))
        for one in turn.responses
    )
    return TurnRecord(
        text=turn.text,
        calls=turn.calls,
        responses=responses,
        unanswered=turn.unanswered,
        prompt_tokens=turn.prompt_tokens,
        completion_tokens=turn.completion_tokens,
        finish_reason=turn.finish_reason,
        seconds=turn.seconds,
    )
