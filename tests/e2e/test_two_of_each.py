"""Two FSDP ranks, two vLLM replicas, two rollout workers, two reward workers and two storage units, on one machine.

`budget=0` with two of each is in `test_identity.py`, and deaths among the two in `test_process_faults.py`.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.e2e import dealt_rows
from tests.e2e.conftest import PLAIN_GRPO, REPO, SGD, TWO_OF_EACH, FastRun, MainPpo, trained_weights
from tests.e2e.equation5 import Policy, Row, Weights, grpo_tokens, is_extra, key_of, relative_error, rows_of
from verl_axpo.audit import audit

RANKS, UPDATES = 2, 2
RATE = 0.1  # the second update starts from other weights than the first, and clips some of its tokens
TWO_UPDATES = ["actor_rollout_ref.actor.ppo_mini_batch_size=8", f"actor_rollout_ref.actor.optim.lr={RATE}"]


def test_two_ranks_and_two_updates_follow_equation_5(
    fast_run: FastRun, main_ppo: MainPpo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Path(dealt_rows.__file__)
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", recorder.stem)
    monkeypatch.setenv("PYTHONPATH", f"{recorder.parent}:{REPO}")  # another package may be called `tests`
    monkeypatch.setenv(dealt_rows.FILE, str(tmp_path / "dealt.jsonl"))
    trace = tmp_path / "two/trace"
    ours = [f"+algorithm.axpo.trace_dir={trace}", "+algorithm.axpo.seed=0"]
    folder = main_ppo("two", *PLAIN_GRPO, *SGD, *TWO_OF_EACH, *TWO_UPDATES, *ours)
    result, rows = audit(trace), rows_of(trace)
    assert (result.steps, result.differences) == (1, ())
    assert sum(row["kind"] == "rollout" for row in rows) == 16 * 8

    updates = rows_by_update((tmp_path / "dealt.jsonl").read_text(), rows)
    for kind in ("rollout", "resample"):  # every update has its share of both
        counts = [sum(row["kind"] == kind for row in update) for update in updates]
        assert 0 < max(counts) <= min(counts) + 1
    before, after = load_file(fast_run.model / "model.safetensors"), trained_weights(folder)
    stepped = {name: (before[name].float() - after[name]) / RATE for name in after if name in before}
    assert relative_error(stepped, steps_of(fast_run.model, trace, updates)) < 1e-4
    # The test can fail: without AXPO's rows, or with the rows of the two updates exchanged
    without = steps_of(fast_run.model, trace, updates, left_out=is_extra)
    assert relative_error(stepped, without) > 0.05
    assert relative_error(stepped, steps_of(fast_run.model, trace, updates[::-1])) > 0.05


def rows_by_update(written: str, rows: list[Row]) -> list[list[Row]]:
    """verl cuts each rank's part of the batch, in its order, into the updates' mini-batches; padding is no row."""
    (keys,) = map(json.loads, written.splitlines())
    by_key = {key_of(row): row for row in rows}
    assert Counter(key for key in keys if not key.startswith("pad")) == Counter(by_key.keys())
    size = len(keys) // (RANKS * UPDATES)
    parts = [keys[at * size : (at + 1) * size] for at in range(RANKS * UPDATES)]
    of_update = [[key for part in parts[update::UPDATES] for key in part] for update in range(UPDATES)]
    return [[by_key[key] for key in chosen if key in by_key] for chosen in of_update]


def steps_of(
    model: Path, trace: Path, updates: list[list[Row]], left_out: Callable[[Row], bool] = lambda row: False
) -> Weights:
    """The sum of the updates' gradients, each at the weights that the update before left."""
    policy = Policy(model, trace)
    old, start = policy.old_logprobs(row for update in updates for row in update), policy.weights()
    for update in updates:
        kept = [row for row in update if not left_out(row)]
        policy.descend(policy.gradient(kept, old, grpo_tokens(update)), RATE)
    end = policy.weights()
    return {name: (start[name] - end[name]) / RATE for name in start}
