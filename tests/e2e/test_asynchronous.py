"""verl's asynchronous trainers on the real stack, through the one switch: a plain GRPO command of theirs, with AXPO.

The first test is part of every run. The others take minutes each:
`bash tests/run.sh tests/e2e/test_asynchronous.py -m slow`, with `-k separate` or the like for one of them.
"""

import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import psutil
import pytest

from tests.e2e.conftest import PLAIN_GRPO, MainPpo
from verl_axpo.audit import audit
from verl_axpo.trace import TrajectoryRecord
from verl_axpo.trace.reader import list_steps, read_step

STEPS = 3
LONG_RUN = 50
KINDS = ("AxpoAgentLoopWorker", "BudgetCoordinator", "TaskRunnerV1", "SimpleStorageUnit")
SETTLED_AT = 20  # steps after which memory and processes may not grow
SEPARATE = [
    "trainer.v1.trainer_mode=separate_async",
    "trainer.v1.separate_async.parameter_sync_step=2",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "actor_rollout_ref.rollout.nnodes=1",
    "actor_rollout_ref.rollout.n_gpus_per_node=1",
    "ray_kwargs.ray_init.num_gpus=2",
]


def clean_records(trace: Path, steps: int) -> list[TrajectoryRecord]:
    """Of an audited run: the expected number of steps, no difference in any of them, and resampled prefixes."""
    result = audit(trace)
    assert (result.steps, result.differences) == (steps, ())
    records = [record for step in list_steps(trace) for record in read_step(trace, step).records]
    assert any(record.source_session is not None for record in records)
    return records


def by_question(records: Sequence[TrajectoryRecord]) -> dict[str, list[TrajectoryRecord]]:
    groups: dict[str, list[TrajectoryRecord]] = defaultdict(list)
    for record in records:
        groups[record.uid].append(record)
    return groups


def versions(records: Sequence[TrajectoryRecord]) -> set[int]:
    return {version for record in records for version in record.weight_versions or ()}


def test_colocated_and_asynchronous_through_the_one_switch(main_ppo: MainPpo, tmp_path: Path) -> None:
    mode, trace = "trainer.v1.trainer_mode=colocate_async", tmp_path / "trace"
    folder = main_ppo("colocate", *PLAIN_GRPO, mode, f"+algorithm.axpo.trace_dir={trace}", steps=STEPS)
    assert (
        "axpo: set trainer.v1.trainer_mode=axpo_colocate_async (was colocate_async)" in (folder / "run.log").read_text()
    )
    records = clean_records(trace, STEPS)
    assert versions(records) <= set(range(STEPS))
    assert len(versions(records)) > 1  # groups in flight continued with newer weights
    stale = [record for record in records if max(record.weight_versions or (0,)) < record.step - 1]
    assert stale  # some rows were trained later than one step after they were sampled, so the run was asynchronous


@pytest.mark.slow
def test_separate_replicas_get_the_weights_of_every_step(main_ppo: MainPpo, tmp_path: Path) -> None:
    """Two batches a step, so two updates; the old log-probs of the second are of the step's first weights."""
    trace = tmp_path / "trace"
    main_ppo("separate", *PLAIN_GRPO, *SEPARATE, f"+algorithm.axpo.trace_dir={trace}", steps=STEPS)
    records = clean_records(trace, STEPS)
    assert len(versions(records)) > 1


PATIENT_SAMPLER = """
from verl.trainer.ppo.v1.replay_buffer import ReplayBufferAsync

class PatientSampler(ReplayBufferAsync):
    def _has_enough_samples(self, global_steps, partition_id, batch_size, sampleable_keys):
        more = 4 if partition_id == "train" else 0
        return super()._has_enough_samples(global_steps, partition_id, batch_size + more, sampleable_keys)
"""


@pytest.mark.slow
def test_groups_in_flight_survive_a_restart_and_validation_continues_between(main_ppo: MainPpo, tmp_path: Path) -> None:
    """The checkpoint has settled groups, which are trained as they are, and others, which are sampled again.

    However slow the machine is: a batch waits until more groups have settled than it needs.
    """
    trace, sampler = tmp_path / "trace", tmp_path / "sampler.py"
    sampler.write_text(PATIENT_SAMPLER)
    ours = [*PLAIN_GRPO, "trainer.v1.trainer_mode=colocate_async", f"+algorithm.axpo.trace_dir={trace}"]
    ours += ["+algorithm.axpo.seed=0", "trainer.test_freq=1", "data.val_max_samples=8"]
    ours += ["trainer.v1.colocate_async.num_warmup_batches=2"]
    ours += [f"trainer.v1.sampler.custom_sampler.{key}" for key in (f"path={sampler}", "name=PatientSampler")]
    folder = main_ppo("resumed", *ours, steps=2)
    restarted = time.time()
    main_ppo("resumed", *ours, steps=4)
    log = (folder / "run.log").read_text()
    restored = re.search(r"Restored (\d+) training prompt groups", log)
    assert restored
    assert int(restored[1]) == 32  # two batches were in flight, as `num_warmup_batches` says
    again = re.search(r"Re-issued (\d+) in-flight prompts", log)
    assert again
    assert 0 < int(again[1]) < 32
    records = clean_records(trace, 4)
    groups = by_question([record for record in records if record.step > 2])
    kept = {uid for uid, group in groups.items() if any(record.finished < restarted for record in group)}
    assert len(kept) == 32 - int(again[1])
    assert all(record.finished < restarted for uid in kept for record in groups[uid])  # none was mixed
    assert {record.step for uid in kept for record in groups[uid]} == {3}  # the oldest that have settled come first
    assert any(int(uid[1:7]) <= 2 for uid in groups.keys() - kept)  # "s{step}q{place}": submitted before, sampled after
    assert "val-core" in log


@pytest.mark.slow
def test_stale_groups_are_replaced(main_ppo: MainPpo, tmp_path: Path) -> None:
    """With a threshold of one version, verl drops every group that it did not sample in the step of its submission."""
    trace = tmp_path / "trace"
    ours = ["trainer.v1.trainer_mode=colocate_async", "trainer.v1.sampler.max_off_policy_threshold=1"]
    folder = main_ppo("stale", *PLAIN_GRPO, *ours, f"+algorithm.axpo.trace_dir={trace}", steps=STEPS)
    assert "training/off_policy/evicted_samples:" in (folder / "run.log").read_text()
    clean_records(trace, STEPS)


FAILING_REWARD = """
from verl_axpo.rewards import outcome

async def compute_score(*args, extra_info=None, **kwargs):
    if extra_info["index"] % 16 == 0:
        raise OSError("the grader is gone")
    return await outcome.compute_score(*args, extra_info=extra_info, **kwargs)
"""


@pytest.mark.slow
def test_failed_groups_are_replaced(main_ppo: MainPpo, tmp_path: Path) -> None:
    """One question of sixteen cannot be scored; verl drops its group and samples another question instead."""
    trace, reward = tmp_path / "trace", tmp_path / "reward.py"
    reward.write_text(FAILING_REWARD)
    ours = ["trainer.v1.trainer_mode=colocate_async", "data.shuffle=false"]
    ours += [f"reward.custom_reward_function.path={reward}", f"+algorithm.axpo.trace_dir={trace}"]
    folder = main_ppo("failing", *PLAIN_GRPO, *ours, steps=STEPS)
    assert "training/rollout_failure/evicted_samples:" in (folder / "run.log").read_text()
    records = clean_records(trace, STEPS)
    assert all(len(records_of) >= 8 for records_of in by_question(records).values())  # whole groups, or none


@pytest.mark.slow
def test_bypass_mode_has_a_trace_without_entropies(main_ppo: MainPpo, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    ours = ["trainer.v1.trainer_mode=colocate_async", "algorithm.rollout_correction.bypass_mode=true"]
    main_ppo("bypass", *PLAIN_GRPO, *ours, f"+algorithm.axpo.trace_dir={trace}", steps=2)
    assert all(record.entropy is None for record in clean_records(trace, 2))


Moment = tuple[int, int, dict[str, int]]  # steps traced so far, Ray's actors, resident bytes by kind of our actors


@contextmanager
def watched(trace: Path) -> Iterator[list[Moment]]:
    """A measurement every few seconds while a training runs."""
    seen: list[Moment] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(3.0):
            steps = len(list(trace.glob("step_*.summary.json")))
            seen.append((steps, *actors_and_memory()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def actors_and_memory() -> tuple[int, dict[str, int]]:
    """The number of Ray's actors, and the resident bytes of our actors by kind."""
    actors, memory = 0, dict.fromkeys(KINDS, 0)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            name = " ".join(process.cmdline())
            actors += name.startswith("ray::")
            for kind in KINDS:
                memory[kind] += process.memory_info().rss if name.startswith(f"ray::{kind}") else 0
    return actors, memory


@pytest.mark.slow
def test_a_long_run_grows_nothing(main_ppo: MainPpo, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    small = ["data.train_batch_size=8", "actor_rollout_ref.actor.ppo_mini_batch_size=8"]
    ours = [*PLAIN_GRPO, *small, "trainer.v1.trainer_mode=colocate_async", f"+algorithm.axpo.trace_dir={trace}"]
    with watched(trace) as seen:
        main_ppo("long", *ours, steps=LONG_RUN)
    clean_records(trace, LONG_RUN)
    middle = [moment for moment in seen if SETTLED_AT <= moment[0] < (SETTLED_AT + LONG_RUN) // 2]
    late = [moment for moment in seen if (SETTLED_AT + LONG_RUN) // 2 <= moment[0] < LONG_RUN]
    assert len(middle) > 5
    assert len(late) > 5
    assert median(actors for _, actors, _ in late) <= median(actors for _, actors, _ in middle)
    for kind in KINDS:
        before, after = (median(memory[kind] for _, _, memory in part) for part in (middle, late))
        assert 0 < after < before * 1.1, f"{kind}: {before / 2**20:.0f} MiB, then {after / 2**20:.0f} MiB"
