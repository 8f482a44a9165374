"""verl's SFT dataset, for tools as JSON text (see `verl_axpo.data.rows.sft_schema`) and rows with and without images.

parquet -> MultiTurnSFTDataset -> tools decoded -> the chat template sees the schemas that the rollout sees

In a config: `data.custom_cls.path=pkg://verl_axpo.integration.sft_dataset data.custom_cls.name=SftDataset`.
"""

import json
from typing import Any

import torch
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset


class SftDataset(MultiTurnSFTDataset):
    """Reads both kinds of `tools`: JSON text, and verl's nested columns as they are."""

    def _read_files_and_process(self) -> None:
        super()._read_files_and_process()
        if self.tools is not None:
            self.tools: list[Any] = [json.loads(one) if isinstance(one, str) else one for one in self.tools]

    def __getitem__(self, item: int) -> dict[str, Any]:
        """verl's row, but for two things. Without images it has empty features: verl 0.9's collator fails if a batch's
        first row has none. And what the template puts behind an end of turn (a newline) is not trained: a rollout stops
        at the end of turn and never samples it."""
        row = super().__getitem__(item)
        behind_end = torch.roll(row["input_ids"] == self.tokenizer.eos_token_id, 1)
        return {"multi_modal_inputs": {}, **row, "loss_mask": row["loss_mask"].masked_fill(behind_end, 0)}
