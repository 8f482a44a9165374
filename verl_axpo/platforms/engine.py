"""verl's FSDP2 engine on the CPU platform.

Imported by ``patches.py`` right after ``verl.workers.engine``; importing it registers the engine, since verl's own
registrations name only cuda and npu.
"""

import os
from dataclasses import replace
from typing import Any

import torch
from verl.workers.engine import EngineRegistry, FSDPEngineWithLMHead


@EngineRegistry.register(model_type="language_model", backend=["fsdp2"], device="cpu")
class CPUFSDPEngineWithLMHead(FSDPEngineWithLMHead):
    """``FSDPEngineWithLMHead`` without offloading: parameters are in main memory already.

    For the reference model verl asks for ``CPUOffloadPolicy(pin_memory=True)``, and pinning needs an accelerator.
    """

    engine_config: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Ray gives an actor one OpenMP thread per core that it reserves; trainer and rollout take turns on all cores.
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        super().__init__(*args, **kwargs)

    def _build_fsdp_module(self, module: Any) -> Any:
        config = self.engine_config
        self.engine_config = replace(config, forward_only=False, offload_policy=False)
        try:
            return super()._build_fsdp_module(module)
        finally:
            self.engine_config = config
