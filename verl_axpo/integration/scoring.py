"""A session's reward in its worker, and the features and positions of its row, which have to be there before it counts.

verl's worker -> `ScoringWorker`: a trajectory scored, its images' features checked -> `AxpoAgentLoopWorker` (worker.py)
"""

from functools import partial
from typing import Any

import torch
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1 import AgentLoopWorkerTQ

from verl_axpo.core.types import Status
from verl_axpo.integration.group import RunningGroup, check_image_features
from verl_axpo.integration.shared import FeatureCache
from verl_axpo.integration.trajectory import Trajectory


class ScoringWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """verl's TransferQueue worker (the class inside its `@ray.remote`), for trajectories that are scored by session."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.groups: dict[str, RunningGroup] = {}
        self.features = FeatureCache()

    async def _score(self, output: Trajectory, validate: bool, sample: dict[str, Any]) -> None:
        """The reward. What cannot become a row fails here, where it costs a session or a prefix, and not later, while
        its group is published."""
        output.sample = sample  # verl's: a subclass may have given our loop a changed copy, and would change that again
        if not validate:
            self.groups[sample["uid"]].keep_features(self.features, output)
            # verl's scoring computes the row's features and positions; a loop that scores itself goes past it
            if output.reward_score is not None:
                self._compute_row(output)
        await self._compute_score([output], kwargs=sample)
        info = output.extra_fields.setdefault("reward_extra_info", {})
        if info.get("infra_failure", False):  # the reward could not be computed: that is no fault of the policy
            output.status = Status.INFRA_FAILURE
        # verl's own validation reports what stands here next to the score
        info["uses_tool"] = float(output.prefix_len is not None)
        info["infra_failure"] = float(output.status is Status.INFRA_FAILURE)
        if validate:  # verl draws the uid anew each time: this pairs the question with that of another training
            info["question"] = f"{sample.get('data_source')}/{sample.get('index')}"

    def _compute_multi_modal_inputs(self, output: AgentLoopOutput, input_ids: Any) -> dict[str, Any]:
        """verl's, once for the rows that have the question's images only, and checked: features that do not match the
        image tokens never leave.
        """
        compute = partial(super()._compute_multi_modal_inputs, output, input_ids)
        media = output.multi_modal_data or {}
        only_images = media.get("images") and not media.get("videos") and not media.get("audios")
        inputs: dict[str, Any] = self.features.features(media["images"], compute) if only_images else compute()
        check_image_features(self.processor, inputs, input_ids)
        return inputs

    def _compute_row(self, output: AgentLoopOutput) -> None:
        """Raises whatever publishing would raise about the row's images and positions."""
        input_ids = torch.tensor([*output.prompt_ids, *output.response_ids])
        inputs = self._compute_multi_modal_inputs(output, input_ids)
        self._compute_position_ids(input_ids.unsqueeze(0), torch.ones_like(input_ids).unsqueeze(0), inputs)
