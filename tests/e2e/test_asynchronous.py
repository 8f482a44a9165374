"""verl's asynchronous trainers on the real stack, through the one switch: a plain GRPO command of theirs, with AXPO.

The first test is part of every run. The others take minutes each:
`bash tests/run.sh tests/e2e/test_asynchronous.py -m slow`, with `-k separate` or the like for one of them.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.conftest import TINY_SIZES, MainPpo
from verl_axpo.audit import audit
from verl_axpo.trace import TrajectoryRecord
from verl_axpo.trace.reader import list_steps, read_step

STEPS = 3
SWITCHED = [
    *TINY_SIZES,
    "algorithm.adv_estimator=axpo",
    "actor_rollout_ref.rollout.n=8",
    "actor_rollout_ref.rollout.multi_turn.max_assistant_turns=3",
]
SEPARATE = [
    "trainer.v1.trainer_mode=separate_async",
    "trainer.v1.separate_async.parameter_sync_step=2",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "actor_rollout_ref.rollout.nnodes=1",
    "actor_rollout_ref.rollout.n_gpus_per_node=1",
    "ray_kwargs.ray_init.num_gpus=2",
]


def clean_records(trace: Path, steps: int) -> list[TrajectoryRecord]:
    """Of an audited run: as many steps as it should have, each right, and prefixes that were resampled."""
    result = audit(trace)
    assert (result.steps, result.differences) == (steps, ())
    records = [record for step in list_steps(trace) for record in read_step(trace, step).records]
    assert any(record.source_session is not None for record in records)
    return records


def versions(records: Sequence[TrajectoryRecord]) -> set[int]:
    return {version for record in records for version in record.weight_versions or ()}


def test_colocated_and_asynchronous_through_the_one_switch(main_ppo: MainPpo, tmp_path: Path) -> None:
    mode, trace = "trainer.v1.trainer_mode=colocate_async", tmp_path / "trace"
    folder = main_ppo("colocate", *SWITCHED, mode, f"+algorithm.axpo.trace_dir={trace}", steps=STEPS)
    assert (
        "axpo: set trainer.v1.trainer_mode=axpo_colocate_async (was colocate_async)" in (folder / "run.log").read_text()
    )
    records = clean_records(trace, STEPS)
    assert versions(records) <= set(range(STEPS))
    assert len(versions(records)) > 1  # groups in flight went on with newer weights
    stale = [record for record in records if max(record.weight_versions or (0,)) < record.step - 1]
    assert stale  # trained later than the step after they were sampled: this was no synchronous run


@pytest.mark.slow
def test_separate_replicas_get_the_weights_of_every_step(main_ppo: MainPpo, tmp_path: Path) -> None:
    """Two batches a step, so two updates; the old log-probs of the second are of the step's first weights."""
    trace = tmp_path / "trace"
    main_ppo("separate", *SWITCHED, *SEPARATE, f"+algorithm.axpo.trace_dir={trace}", steps=STEPS)
    records = clean_records(trace, STEPS)
    assert len(versions(records)) > 1
