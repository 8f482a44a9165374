"""Which part of a trajectory becomes a row: no token is trained in two rows, and no other token is lost."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Status
from verl_axpo.integration.trajectory import Trajectory, prefix_of, trained_part

MakeTrajectory = Callable[..., Trajectory]
CONFIG = AxpoConfig()


def of_rollout(trajectory: Trajectory, config: AxpoConfig = CONFIG) -> Trajectory:
    return trained_part(trajectory, config, selected=False, continues=False)


def of_source(trajectory: Trajectory, config: AxpoConfig = CONFIG) -> Trajectory:
    return trained_part(trajectory, config, selected=True, continues=False)


def of_continuation(trajectory: Trajectory, config: AxpoConfig = CONFIG) -> Trajectory:
    return trained_part(trajectory, config, selected=False, continues=True)


def test_an_ordinary_rollout_is_published_as_it_is(trajectory: MakeTrajectory) -> None:
    whole = trajectory()
    assert of_rollout(whole) is whole


def test_verls_batch_gets_what_verl_set_and_nothing_of_ours(trajectory: MakeTrajectory) -> None:
    fields = trajectory().as_dict()
    assert fields.keys() == {
        "prompts", "responses", "response_mask", "rollout_log_probs", "rm_scores",
        "multi_modal_data", "metrics", "extra_fields",
    }  # fmt: skip
    assert of_source(trajectory()).as_dict().keys() == fields.keys()


def test_a_source_is_cut_after_its_opening_tag_with_the_images_of_what_is_cut(trajectory: MakeTrajectory) -> None:
    part = of_source(trajectory())
    assert part.response_ids == [1, 2, 3]
    assert part.response_mask == [1, 1, 1]
    assert part.response_logprobs == [-0.1, -0.2, -0.3]
    assert part.multi_modal_data == {"images": ["prompt image"]}


def test_a_source_without_images_keeps_no_empty_list_of_them(trajectory: MakeTrajectory) -> None:
    assert of_source(trajectory(prefix_images=0)).multi_modal_data == {}


def test_a_source_s_expert_routes_are_cut_with_it(trajectory: MakeTrajectory) -> None:
    """`rollout.enable_rollout_routing_replay`: a route for each token of prompt (2) and response (8)."""
    whole = trajectory().model_copy(update={"routed_experts": torch.arange(10)})
    assert of_source(whole).routed_experts.tolist() == [0, 1, 2, 3, 4]


def test_without_prefix_credit_a_source_trains_nothing(trajectory: MakeTrajectory) -> None:
    part = of_source(trajectory(), AxpoConfig(prefix_credit=False))
    assert part.response_ids == [1, 2, 3]
    assert part.response_mask == [0, 0, 0]


@pytest.mark.parametrize("config", [AxpoConfig(prefix="scratch"), AxpoConfig(advantage_group="merged")])
def test_what_is_not_split_is_trained_whole(trajectory: MakeTrajectory, config: AxpoConfig) -> None:
    source = trajectory()
    continuation = trajectory(8, given=len(prefix_of(source, config).token_ids))
    assert of_source(source, config) is source
    assert of_continuation(continuation, config) is continuation


def test_source_and_continuations_share_the_prefix_ids_and_train_them_once(trajectory: MakeTrajectory) -> None:
    source = trajectory()
    prefix = prefix_of(source, CONFIG)
    assert prefix.token_ids == (1, 2, 3)
    assert prefix.logprobs == (-0.1, -0.2, -0.3)
    assert prefix.request_id == "source-id"
    continuation = of_continuation(trajectory(8, given=len(prefix.token_ids)))
    padded = of_source(source).response_mask + [0] * 5
    assert continuation.response_mask == [0, 0, 0, 1, 1, 0, 1, 1]
    assert all(a + b <= 1 for a, b in zip(padded, continuation.response_mask, strict=True))
    # the tool's token is trained in neither row
    assert (padded[5], continuation.response_mask[5]) == (0, 0)


def test_from_scratch_there_is_no_prefix_to_mask(trajectory: MakeTrajectory) -> None:
    scratch = AxpoConfig(prefix="scratch")
    assert prefix_of(trajectory(), scratch).token_ids == ()
    assert of_continuation(trajectory(8), scratch).response_mask == [1, 1, 1, 1, 1, 0, 1, 1]


@pytest.mark.parametrize("part", [of_rollout, of_continuation])
def test_an_infra_failure_trains_nothing(trajectory: MakeTrajectory, part: Callable[[Any], Trajectory]) -> None:
    trained = part(trajectory(status=Status.INFRA_FAILURE))
    assert trained.response_mask == [0] * 8
    assert trained.response_ids == [1, 2, 3, 4, 5, 60, 7, 8]
