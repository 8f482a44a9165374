"""A session's reward in its worker, and the features and positions of its row, which have to be there before it counts.

`FeaturesWorker` (features.py) -> `ScoringWorker`: a trajectory is scored -> `AxpoAgentLoopWorker` (worker.py)
"""

from typing import Any

from verl_axpo.core.types import Status
from verl_axpo.integration.features import FeatureCache, FeaturesWorker
from verl_axpo.integration.group import RunningGroup
from verl_axpo.integration.trajectory import Trajectory
from verl_axpo.rewards.answer import STARTS_IN_THINK


class ScoringWorker(FeaturesWorker):
    """verl's TransferQueue worker, for trajectories that are scored by session."""

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
        async with self.features_ahead(output):
            # verl's scoring computes the row's features and positions; a loop that scores itself goes past it
            if output.reward_score is not None and not validate:
                self.compute_row(output)
            known = {**(sample.get("extra_info") or {}), STARTS_IN_THINK: output.starts_in_think}
            await self._compute_score([output], kwargs={**sample, "extra_info": known})
        info = output.extra_fields.setdefault("reward_extra_info", {})
        if info.get("infra_failure", False):  # the reward could not be computed: that is no fault of the policy
            output.status = Status.INFRA_FAILURE
        # verl's own validation reports what stands here next to the score
        info["uses_tool"] = float(output.prefix_len is not None)
        info["infra_failure"] = float(output.status is Status.INFRA_FAILURE)
        if validate:  # verl draws the uid anew each time: this pairs the question with that of another training
            info["question"] = f"{sample.get('data_source')}/{sample.get('index')}"
