"""A small synthetic run whose decisions are made by `core`: seeds -> rollouts, resamples, records and summaries."""

import math
import random
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from verl_axpo.core.advantage import row_advantages
from verl_axpo.core.budget import max_prefixes, ranked_order
from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.metrics import step_metrics
from verl_axpo.core.ranking import rank
from verl_axpo.core.step import recovery
from verl_axpo.core.streaming import TokenBucket
from verl_axpo.core.types import Candidate, groups_of
from verl_axpo.trace import StepSummary, ToolCall, TraceWriter, TrajectoryRecord, store_image

B, N, K = 6, 4, 2
OPEN, CLOSE = 7, 8
PREFIX = 4  # tokens: three of thinking, the opening tag
CALL = ToolCall(name="image_zoom_in", arguments={"bbox_2d": [0, 0, 9, 9]}, ok=True, seconds=0.01)

Step = tuple[list[TrajectoryRecord], StepSummary]


def trajectory(
    rng: random.Random, uid: str, session: int, *, step: int, image: str, uses_tool: bool
) -> TrajectoryRecord:
    """thinking, tag, four tokens of a call, closing tag | three of a response | two of an answer; or five tokens."""
    ids = [rng.randrange(10, 90) for _ in range(14 if uses_tool else 5)]
    logprobs: list[float | None] = [math.log(rng.uniform(0.3, 1.0)) for _ in ids]
    if uses_tool:
        ids[PREFIX - 1], ids[8] = OPEN, CLOSE
        logprobs[9:12] = [None] * 3
    probabilities = [math.exp(logprob) for logprob in logprobs[PREFIX:9] if logprob is not None]
    return TrajectoryRecord(
        step=step,
        uid=uid,
        session=session,
        question=f"What does {uid} show?",
        ground_truth="42",
        images=[image],
        prompt_len=11,
        response_ids=ids,
        response_mask=[int(logprob is not None) for logprob in logprobs],
        logprobs=logprobs,
        text="<think>look closer</think>\n<answer>\\boxed{42}</answer>",
        tool_calls=[CALL] if uses_tool else [],
        prefix_len=PREFIX if uses_tool else None,
        tool_call_span=(PREFIX, 9) if uses_tool else None,
        confidence=sum(probabilities) / 5 if uses_tool else None,
        entropy=rng.uniform(0, 3) if uses_tool else None,
        reward=float(rng.random() < (0.2 if uses_tool else 0.4)),
        advantage=0.0,
        num_turns=4 if uses_tool else 2,
        started=0.0,
        finished=1.0,
    )


def continuation(rng: random.Random, source: TrajectoryRecord, session: int, config: AxpoConfig) -> TrajectoryRecord:
    """Another end for the source's prefix, or (prefix=scratch) a whole new trajectory."""
    record = trajectory(rng, source.uid, session, step=source.step, image=source.images[0], uses_tool=True)
    record = replace(record, source_session=source.session)
    if config.prefix == "scratch":
        return record
    record = replace(record, response_ids=[*source.response_ids[:PREFIX], *record.response_ids[PREFIX:]])
    if config.advantage_group == "merged":
        return record
    return replace(record, response_mask=[0] * PREFIX + list(record.response_mask[PREFIX:]))


def cut(source: TrajectoryRecord, continuations: list[TrajectoryRecord], config: AxpoConfig) -> TrajectoryRecord:
    trained = PREFIX if config.prefix_credit else 0
    whole = range(trained if config.splits_rollouts else len(source.response_ids))
    mask = [int(bool(source.response_mask[index]) and index in whole) for index in range(len(source.response_ids))]
    return replace(
        source,
        selected=True,
        recovery=recovery([record.as_rollout() for record in continuations], config),
        response_mask=mask,
    )


def make_step(
    step: int, config: AxpoConfig, image: str = "images/none.png", failed: Collection[tuple[str, int]] = ()
) -> Step:
    """One step of AXPO on random rollouts, of which the sessions `failed`, (uid, session) each, raised."""
    rng = random.Random(step)
    uids = [f"q{step}{letter}" for letter in "abcdef"]
    rollouts = {
        (uid, n): trajectory(rng, uid, n, step=step, image=image, uses_tool=rng.random() < 0.5)
        for uid in uids
        for n in range(N)
    }
    rollouts = {key: rollout for key, rollout in rollouts.items() if key not in failed}
    groups = groups_of((record.as_rollout() for record in rollouts.values()), uids)
    ranked = {uid: rank(group, config) if len(group) == N else () for uid, group in groups.items()}
    limit = max_prefixes(B, N, config)
    selected, settled = ranked_order(ranked)[:limit], None
    if config.allocation == "streaming":
        bucket = TokenBucket(config, N)
        order = rng.sample(uids, len(uids))
        settled = [bucket.settle(uid, ranked[uid], len(uids) - at - 1) for at, uid in enumerate(order)]
        bucket.close(uids)
        selected = tuple(candidate for candidate in ranked_order(ranked) if candidate in bucket.selected[candidate.uid])
    resampled: dict[Candidate, list[TrajectoryRecord]] = {}
    for index, candidate in enumerate(selected):
        source = rollouts[candidate.uid, candidate.session]
        resampled[candidate] = [continuation(rng, source, N + index * K + k, config) for k in range(K)]
        rollouts[candidate.uid, candidate.session] = cut(source, resampled[candidate], config)
    records = [*rollouts.values(), *(row for rows in resampled.values() for row in rows)]
    facts = [record.as_rollout() for record in records]
    advantages = row_advantages(facts, config).tolist()
    records = [
        replace(record, advantage=value, advantage_prefix=value if record.selected and config.credits_prefix else None)
        for record, value in zip(records, advantages, strict=True)
    ]
    metrics = step_metrics(facts, config, questions=uids, rollouts_per_question=N) | row_metrics(records, config)
    return records, StepSummary(
        step=step,
        config=config,
        questions=uids,
        rollouts_per_question=N,
        budget=limit,
        candidates=ranked_order(ranked),
        selected=[candidate for candidate in ranked_order(ranked) if candidate in resampled],
        settled=settled,
        metrics=metrics | {"axpo/prefix_cache_hit_rate": 0.9, "critic/rewards/mean": 0.3},
    )


def row_metrics(records: list[TrajectoryRecord], config: AxpoConfig) -> dict[str, float]:
    """Of tool calls and tokens: 11 generated tokens with a call, 5 without; a continuation has the prefix for free."""
    rollouts = [record for record in records if record.source_session is None]
    extra = len(records) - len(rollouts)
    calls = sum(record.uses_tool for record in records)
    of_rollouts = sum(11 if record.uses_tool else 5 for record in rollouts)
    return {
        "axpo/extra_tokens_ratio": extra * (11 - PREFIX * (config.prefix == "fixed")) / of_rollouts,
        "axpo/tool/image_zoom_in/calls": float(calls),
        "axpo/tool/image_zoom_in/errors": 0.0,
        "axpo/tool/image_zoom_in/infra_failures": 0.0,
        "axpo/tool/image_zoom_in/seconds": 0.01,
    }


@pytest.fixture(scope="session")
def step_maker() -> Callable[..., Step]:
    return make_step


@pytest.fixture
def config() -> AxpoConfig:
    return AxpoConfig(num_continuations=K)


@pytest.fixture
def make(config: AxpoConfig) -> Callable[[int], Step]:
    return lambda step: make_step(step, config)


@pytest.fixture
def trace_dir(tmp_path: Path, config: AxpoConfig) -> Path:
    """Three complete steps."""
    image = store_image(tmp_path / "trace", Image.new("RGB", (4, 3), "red"))
    with TraceWriter(tmp_path / "trace") as writer:
        for step in (1, 2, 3):
            writer.write_step(*make_step(step, config, image))
    return tmp_path / "trace"
