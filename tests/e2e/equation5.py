"""Equation 5 with plain transformers: a step's trace -> the change of the weights that verl's optimizer must have made.

    rows of an update -> clipped surrogate of their trained tokens / GRPO's tokens -> gradient -> a step of plain SGD

Equation 5 is the mean over GRPO's tokens of the surrogate of every rollout, plus that of the prefixes and
continuations.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from examples.tiny_world.families import families, tools_of
from verl_axpo import prompts
from verl_axpo.tools.paper_tools import paper_tools

Row = dict[str, Any]  # a line of the trace
Weights = dict[str, torch.Tensor]
TOOLS = paper_tools(tools_of(families()))
CLIP, DUAL_CLIP = 0.2, 3.0  # verl's defaults, clip_ratio and clip_ratio_c


def rows_of(trace: Path, step: int = 1) -> list[Row]:
    return [json.loads(line) for line in (trace / f"step_{step:06d}.jsonl").read_text().splitlines()]


def key_of(row: Row) -> str:
    """verl's name of the row."""
    return f"{row['uid']}_{row['session']}_0"


def is_extra(row: Row) -> bool:
    """Whether the row is one of AXPO's: a continuation, or a source, which ends with its prefix."""
    return bool(row["kind"] == "resample" or row["selected"])


def grpo_tokens(rows: Iterable[Row]) -> int:
    """What GRPO averages over: the policy's tokens in the N ordinary rollouts of every question, none of them cut."""
    return sum(logprob is not None for row in rows if row["kind"] == "rollout" for logprob in row["logprobs"])


class Policy:
    """The policy at the start of the step, and after each `descend`."""

    def __init__(self, model: Path, trace: Path, temperature: float = 1.0) -> None:
        torch.set_num_threads(1)  # a million parameters, one row at a time: a second thread only waits for the first
        self.trace, self.temperature = trace, temperature
        self.model = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32, attn_implementation="sdpa")
        self.processor = AutoProcessor.from_pretrained(model)

    def weights(self) -> Weights:
        """A copy."""
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters()}

    def logprobs(self, row: Row) -> torch.Tensor:
        """(T,) of the response as it was trained."""
        inputs, targets = row_inputs(self.processor, self.trace, row)
        logits = self.model(**inputs).logits[0, -len(targets) - 1 : -1] / self.temperature
        return logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]

    @torch.no_grad()
    def old_logprobs(self, rows: Iterable[Row]) -> dict[str, torch.Tensor]:
        """By key, of the rows that have a gradient: what the surrogate's ratio starts from."""
        trained = (row for row in rows if row["advantage"] != 0.0 and any(row["response_mask"]))
        return {key_of(row): self.logprobs(row) for row in trained}

    def gradient(
        self,
        rows: Iterable[Row],
        old: Mapping[str, torch.Tensor],
        tokens: int,
        kept: Mapping[str, torch.Tensor] | None = None,
    ) -> Weights:
        """d/dw of the loss of an update.

        Args:
            rows: of the update; those that `old` does not have are without a gradient.
            old: log-probs at the start of the step.
            tokens: what the sum is divided by.
            kept: key -> (T,) tokens that were not rejected; None where nothing was.
        """
        self.model.zero_grad()
        for row in rows:
            if key_of(row) in old:
                logprobs = self.logprobs(row)
                mask = torch.tensor(row["response_mask"][: len(logprobs)])
                mask = mask * kept[key_of(row)] if kept is not None else mask
                loss = surrogate_loss(logprobs, old[key_of(row)], row["advantage"])
                ((loss * mask).sum() / tokens).backward()
        return {name: weight.grad.clone() for name, weight in self.model.named_parameters() if weight.grad is not None}

    @torch.no_grad()
    def descend(self, gradient: Weights, rate: float) -> None:
        """A step of plain SGD."""
        for name, weight in self.model.named_parameters():
            if name in gradient:
                weight -= rate * gradient[name]


def surrogate_loss(logprobs: torch.Tensor, old: torch.Tensor, advantage: float) -> torch.Tensor:
    """(T,) verl's clipped loss (`compute_policy_loss_vanilla`)."""
    ratio = (logprobs - old).exp()
    loss = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - CLIP, 1 + CLIP))
    return loss.clamp(max=-advantage * DUAL_CLIP) if advantage < 0 else loss


def row_inputs(processor: Any, trace: Path, row: Row) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
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


def with_image(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The `<image>` of a question as the content part that verl's dataset makes of it."""
    made = []
    for message in messages:
        text = str(message["content"])
        if text.startswith("<image>"):
            parts = [{"type": "image"}, {"type": "text", "text": text.removeprefix("<image>")}]
            message = {**message, "content": parts}
        made.append(message)
    return made


def relative_error(got: Weights, expected: Weights) -> float:
    """|got - expected| / |expected| over all weights."""
    missing = expected.keys() - got.keys()
    assert not missing, f"not in the checkpoint: {sorted(missing)}"
    difference = sum(float((got[name] - value).double().square().sum()) for name, value in expected.items())
    return (difference / sum(float(value.double().square().sum()) for value in expected.values())) ** 0.5
