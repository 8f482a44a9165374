"""A second call syntax on the real stack: Qwen3.5's, with a template of its rules, through SFT, AXPO and the audit.

The model is the tiny Qwen3-VL, in float32. `test_architectures.py` has a tiny Qwen3.5, in bfloat16.

    bash tests/run.sh tests/e2e/test_call_syntax.py     "all" leaves it out
"""

import sys
from pathlib import Path

import orjson
import pytest
from transformers import AutoTokenizer

from tests.e2e.conftest import REPO, run
from verl_axpo.audit import audit
from verl_axpo.trace import read_step

SIZES = ("--train", "64", "--heldout", "8", "--val", "8", "--sft", "1024", "--families", "perception,reasoning")


@pytest.mark.slow
def test_sft_and_axpo_in_a_second_syntax(tmp_path: Path) -> None:
    world, out = tmp_path / "world", tmp_path / "out"
    log, places = (
        tmp_path / "log.txt",
        {"MODEL": "tiny", "SETUP": "0", "FAST": "1", "OUT": str(out), "WORLD": str(world)},
    )
    make = [sys.executable, "-m", "examples.tiny_world", "--out", str(world), "--call-syntax", "qwen3_coder", *SIZES]
    run(make, log, PYTHONPATH=str(REPO))
    run(["bash", f"{REPO}/recipes/sft.sh", f"data.train_files={world}/sft_train.parquet"], log, **places)
    files = [f"data.train_files={world}/train.parquet", f"data.val_files={world}/heldout.parquet"]
    # A reward that no rollout reaches makes every subgroup all-wrong, so that there is something to resample
    wrong = ["algorithm.axpo.correct_threshold=2", "trainer.val_before_train=false", "trainer.test_freq=-1"]
    run(["bash", f"{REPO}/recipes/rl.sh", *files, *wrong], log, **places)

    trace = out / "axpo/trace"
    result = audit(trace)
    assert (result.steps, result.differences) == (2, ())
    summary = orjson.loads((trace / "step_000001.summary.json").read_bytes())
    assert summary["call_syntax"] == "qwen3_coder"
    records = read_step(trace, 1).records
    calls = [(record, call) for record in records for call in record.tool_calls]
    decoded = [call for _, call in calls if call.name]
    assert len(decoded) > len(calls) / 2, f"{len(decoded)} of {len(calls)} calls could be decoded"
    assert all(
        isinstance(call.arguments["bbox_2d"], list) for call in decoded if call.name == "image_zoom_in" and call.ok
    )
    continuations = [record for record in records if record.source_session is not None]
    tag = AutoTokenizer.from_pretrained(world / "model").convert_tokens_to_ids("<tool_call>")
    assert continuations
    assert all(record.response_ids[record.prefix_len - 1] == tag for record in continuations)
    said = "".join(path.read_text(errors="replace") for path in (log, *out.glob("logs/*.log")))
    assert "call syntax qwen3_coder; the prompt opens thinking" in said
