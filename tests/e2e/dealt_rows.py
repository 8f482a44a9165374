"""Loaded into a training (`VERL_USE_EXTERNAL_MODULES`): writes the order in which a step's rows went to the updates.

The trace does not say which update trained a row, because the algorithm does not depend on it.
"""

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from wrapt import register_post_import_hook

FILE = "AXPO_TEST_DEALT_ROWS"  # the variable that names the file: a line of keys for each batch


def write_order(trainer: ModuleType) -> None:
    """Of each batch that verl's trainer has balanced and ours has dealt."""
    balance = trainer.AxpoTrainer._balance_batch

    def balanced(self: Any, *args: Any, **kwargs: Any) -> Any:
        batch = balance(self, *args, **kwargs)
        with Path(os.environ[FILE]).open("a") as file:
            file.write(json.dumps(batch.keys) + "\n")
        return batch

    trainer.AxpoTrainer._balance_batch = balanced


register_post_import_hook(write_order, "verl_axpo.integration.trainer")
