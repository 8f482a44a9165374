"""Other architectures on the real stack, tiny: SFT, then AXPO with images and zooms, and the audit of its trace.

bash tests/run.sh tests/e2e/test_architectures.py     "all" leaves it out
"""

import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import REPO, run
from verl_axpo.audit import audit
from verl_axpo.trace import read_step

ROLLOUT = "actor_rollout_ref.rollout"
SIZES = ("--train", "64", "--heldout", "8", "--val", "8", "--sft", "1024", "--families", "perception")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "syntax", "options"),
    [
        ("qwen3_vl_moe", "hermes", ()),
        ("qwen2_5_vl", "hermes", ("data.image_patch_size=14",)),
        # Without an accelerator, vLLM's linear attention takes bfloat16 only. Its prefix cache needs chunked prefill,
        # which tiny_rl.yaml turns off
        ("qwen3_5", "qwen3_coder", (f"{ROLLOUT}.dtype=bfloat16", f"{ROLLOUT}.enable_prefix_caching=false")),
    ],
)
def test_sft_and_axpo_of_an_architecture(tmp_path: Path, name: str, syntax: str, options: tuple[str, ...]) -> None:
    world, out, log = tmp_path / "world", tmp_path / "out", tmp_path / "log.txt"
    make = [sys.executable, "-m", "examples.tiny_world", "--out", str(world), "--call-syntax", syntax, *SIZES]
    run(make, log, PYTHONPATH=str(REPO))
    run([sys.executable, f"{REPO}/tests/e2e/architectures.py", name, str(world)], log, PYTHONPATH=str(REPO))
    places = {"MODEL": "tiny", "SETUP": "0", "FAST": "1", "OUT": str(out), "WORLD": str(world)}
    run(["bash", f"{REPO}/recipes/sft.sh", f"data.train_files={world}/sft_train.parquet"], log, **places)
    files = [f"data.train_files={world}/train.parquet", f"data.val_files={world}/heldout.parquet"]
    # A reward that no rollout reaches makes every subgroup all-wrong, so that there is something to resample
    wrong = ["algorithm.axpo.correct_threshold=2", "trainer.val_before_train=false", "trainer.test_freq=-1"]
    run(["bash", f"{REPO}/recipes/rl.sh", *files, *wrong, *options], log, **places)

    result = audit(out / "axpo/trace")
    assert (result.steps, result.differences) == (2, ())
    records = [record for step in (1, 2) for record in read_step(out / "axpo/trace", step).records]
    zooms = [call for record in records for call in record.tool_calls if call.name == "image_zoom_in" and call.ok]
    assert zooms, "no zoom worked, so that no tool's image was trained on"
    assert any(record.kind == "resample" for record in records)
    assert said_to_agree(out) > 0.99


def said_to_agree(out: Path) -> float:
    """The correlation of rollout and trainer in the last step, as verl logs it."""
    import orjson

    last = max(out.glob("axpo/metrics_*.jsonl")).read_bytes().splitlines()[-1]
    return float(orjson.loads(last)["data"]["training/rollout_actor_probs_pearson_corr"])
