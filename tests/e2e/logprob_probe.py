"""Imported by a training through VERL_USE_EXTERNAL_MODULES: what its batches hold, saved to $PROBE/step_<n>.pt.

tokens; log-probabilities of rollout, policy and reference -> one dictionary, a list of R tensors (T,) for each field
"""

import os
from pathlib import Path
from typing import Any

import torch
import transfer_queue as tq
from wrapt import register_post_import_hook

FIELDS = ["prompts", "responses", "response_mask", "rollout_log_probs", "old_log_probs", "ref_log_prob"]


def watch(module: Any) -> None:
    """Save every batch whose reference log-probabilities are there."""
    trainer = module.PPOTrainer
    original = trainer._compute_ref_log_prob

    def _compute_ref_log_prob(self: Any, batch: Any, metrics: Any) -> Any:
        result = original(self, batch, metrics)
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=FIELDS)
        folder = Path(os.environ["PROBE"])
        folder.mkdir(parents=True, exist_ok=True)
        rows = {field: list(data[field].unbind()) for field in FIELDS}
        torch.save({"keys": list(batch.keys), **rows}, folder / f"step_{self.global_steps}.pt")
        return result

    trainer._compute_ref_log_prob = _compute_ref_log_prob


register_post_import_hook(watch, "verl.trainer.ppo.v1.trainer_base")
