"""Invariant 5 on the real stack, through the one switch: a plain GRPO command plus `algorithm.adv_estimator=axpo`.

verl takes one SGD step of size 1, so that the change of the weights is the gradient. The test computes the gradient of
equation 5 from the trace with plain transformers and compares the two. Equation 5 is the mean over GRPO's tokens of the
surrogate of every rollout, plus that of the prefixes and continuations.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from examples.tiny_world.families import families, tools_of
from tests.e2e.conftest import SGD, TINY_SIZES, FastRun, MainPpo, trained_weights
from verl_axpo import prompts
from verl_axpo.audit import audit
from verl_axpo.tools.paper_tools import paper_tools

TOOLS = paper_tools(tools_of(families()))
PLAIN_GRPO = [
    *TINY_SIZES,
    "algorithm.adv_estimator=axpo",  # the one switch
    "actor_rollout_ref.rollout.n=8",
    "actor_rollout_ref.rollout.multi_turn.max_assistant_turns=3",
]
# No batch is in flight before the first step, so that it trains all groups that it submits, the resampled ones included
ASYNCHRONOUS = {
    "colocate_async": ["trainer.v1.trainer_mode=colocate_async", "trainer.v1.colocate_async.num_warmup_batches=0"],
    "separate_async": [
        "trainer.v1.trainer_mode=separate_async",
        "trainer.v1.separate_async.num_warmup_batches=0",
        "trainer.v1.separate_async.parameter_sync_step=1",
        "actor_rollout_ref.rollout.nnodes=1",
        "actor_rollout_ref.rollout.n_gpus_per_node=1",
        "ray_kwargs.ray_init.num_gpus=2",
    ],
}


def records_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trace/step_000001.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("mode", ["sync", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ASYNCHRONOUS)])
def test_the_gradient_is_that_of_equation_5(fast_run: FastRun, main_ppo: MainPpo, tmp_path: Path, mode: str) -> None:
    ours = [f"+algorithm.axpo.trace_dir={tmp_path}/switch/trace", "+algorithm.axpo.uncertainty=entropy"]
    folder = main_ppo("switch", *PLAIN_GRPO, *SGD, *ours, *ASYNCHRONOUS.get(mode, ()))
    log = (folder / "run.log").read_text()
    assert f"axpo: set trainer.v1.trainer_mode=axpo_{mode}" in log
    records = records_of(folder)
    extra = [record for record in records if record["kind"] == "resample" or record["selected"]]
    assert extra, "no prefix was resampled, so that this test would only be about GRPO"
    assert all(record["entropy"] is not None for record in extra if record["selected"])  # they were ranked by it
    assert audit(folder / "trace").differences == ()

    before, after = load_file(fast_run.model / "model.safetensors"), trained_weights(folder)
    stepped = {name: before[name].float() - after[name] for name in after if name in before}
    ordinary = gradient(fast_run.model, folder / "trace", [row for row in records if row not in extra], records)
    added = gradient(fast_run.model, folder / "trace", extra, records)
    expected = {name: ordinary[name] + added.get(name, 0.0) for name in ordinary}
    assert relative_error(stepped, expected) < 1e-4
    # The check can fail: without AXPO's rows, or with them averaged in, it is another gradient
    assert relative_error(stepped, ordinary) > 0.05
    trained = sum(sum(record["response_mask"]) for record in records)
    averaged_in = {name: value * grpo_tokens(records) / trained for name, value in expected.items()}
    assert relative_error(stepped, averaged_in) > 0.05


def grpo_tokens(records: list[dict[str, Any]]) -> int:
    """What GRPO averages over: the policy's tokens in the N ordinary rollouts of every question, none of them cut."""
    ordinary = [record for record in records if record["kind"] == "rollout"]
    return sum(logprob is not None for record in ordinary for logprob in record["logprobs"])


def gradient(
    model_path: Path, trace: Path, rows: list[dict[str, Any]], records: list[dict[str, Any]]
) -> dict[str, torch.Tensor]:
    """d/dw of -1/T sum over rows and their trained tokens of A * log pi: at the first update every ratio is 1."""
    torch.set_num_threads(1)  # a million parameters, one row at a time: a second thread only waits for the first
    model = AutoModelForImageTextToText.from_pretrained(model_path, dtype=torch.float32, attn_implementation="sdpa")
    processor = AutoProcessor.from_pretrained(model_path)
    for row in rows:
        if row["advantage"] != 0.0 and any(row["response_mask"]):
            inputs, targets = row_inputs(processor, trace, row)
            logits = model(**inputs).logits[0, -len(targets) - 1 : -1]
            logprobs = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
            mask = torch.tensor(row["response_mask"][: len(targets)])
            (-(row["advantage"] * logprobs * mask).sum() / grpo_tokens(records)).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def row_inputs(processor: Any, trace: Path, row: dict[str, Any]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The row as it was trained: a source ends with its prefix and has no image that came later."""
    length = row["prefix_len"] if row["selected"] else len(row["response_ids"])
    images = [Image.open(trace / name).convert("RGB") for name in row["images"]]
    question = row["question"].removeprefix("<image>")
    messages = prompts.prompt_messages("<image>" + question if images else question, TOOLS)
    text = processor.apply_chat_template(
        with_image(messages), tools=prompts.tool_schemas(TOOLS), add_generation_prompt=True, tokenize=False
    )
    prompt = processor(text=[text], images=images[:1] or None, return_tensors="pt")["input_ids"][0]
    assert len(prompt) == row["prompt_len"]
    response = torch.tensor(row["response_ids"][:length])
    ids = torch.cat([prompt, response])[None]
    shown = images[:1] if row["selected"] else images
    features = processor.image_processor(shown, return_tensors="pt") if shown else {}
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == processor.image_token_id).int(),
        **{name: features[name] for name in ("pixel_values", "image_grid_thw") if shown},
    }, response


def with_image(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The `<image>` of a question as the content part that verl's dataset makes of it."""
    made = []
    for message in messages:
        text = str(message["content"])
        if text.startswith("<image>"):
            parts = [{"type": "image"}, {"type": "text", "text": text.removeprefix("<image>")}]
            message = {**message, "content": parts}
        made.append(message)
    return made


def relative_error(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """|got - expected| / |expected| over all weights."""
    missing = expected.keys() - got.keys()
    assert not missing, f"not in the checkpoint: {sorted(missing)}"
    difference = sum(float((got[name] - value).double().square().sum()) for name, value in expected.items())
    return (difference / sum(float(value.double().square().sum()) for value in expected.values())) ** 0.5


@pytest.mark.parametrize("scale", [1.0, 1.01])
def test_the_relative_error_is_relative(scale: float) -> None:
    value = {"w": torch.tensor([3.0, 4.0])}
    assert relative_error({"w": value["w"] * scale}, value) == pytest.approx(scale - 1.0, abs=1e-6)
