"""What of a trajectory becomes a row: no token is trained by two rows, and nothing else is lost."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Kind, Row, Status
from verl_axpo.integration.lineage import BatchRow, Session, publishable
from verl_axpo.integration.sampling import continuation_of

MakeSession = Callable[..., Session]
CONFIG = AxpoConfig()


def row(kind: Kind = Kind.ROLLOUT, status: Status = Status.OK, *, selected: bool = False) -> Row:
    source = 0 if kind is Kind.RESAMPLE else None
    return Row(uid="q", session=0, reward=0.0, kind=kind, source_session=source, status=status, selected=selected)


def test_an_ordinary_rollout_is_published_as_it_is(session: MakeSession) -> None:
    one = session()
    assert publishable(one, row(), CONFIG) is one.output


def test_a_source_is_cut_behind_its_opening_tag_with_the_images_of_what_is_cut(session: MakeSession) -> None:
    output = publishable(session(), row(selected=True), CONFIG)
    assert output.response_ids == [1, 2, 3]
    assert output.response_mask == [1, 1, 1]
    assert output.response_logprobs == [-0.1, -0.2, -0.3]
    assert output.multi_modal_data == {"images": ["prompt image"]}


def test_a_source_without_images_keeps_no_empty_list_of_them(session: MakeSession) -> None:
    output = publishable(session(prefix_images=0), row(selected=True), CONFIG)
    assert output.multi_modal_data == {}


def test_a_source_s_expert_routes_are_cut_with_it(session: MakeSession) -> None:
    """`rollout.enable_rollout_routing_replay`: a route for each token of prompt (2) and response (8)."""
    made = session()
    whole = replace(made, output=made.output.model_copy(update={"routed_experts": torch.arange(10)}))
    assert publishable(whole, row(selected=True), CONFIG).routed_experts.tolist() == [0, 1, 2, 3, 4]


def test_without_prefix_credit_a_source_trains_nothing(session: MakeSession) -> None:
    output = publishable(session(), row(selected=True), AxpoConfig(prefix_credit=False))
    assert output.response_ids == [1, 2, 3]
    assert output.response_mask == [0, 0, 0]


@pytest.mark.parametrize("config", [AxpoConfig(prefix="scratch"), AxpoConfig(advantage_group="merged")])
def test_what_is_not_split_is_trained_whole(session: MakeSession, config: AxpoConfig) -> None:
    source = session()
    resample = session(8, resume=continuation_of(source, config))
    assert publishable(source, row(selected=True), config) is source.output
    assert publishable(resample, row(Kind.RESAMPLE), config) is resample.output


def test_source_and_resamples_share_the_prefix_ids_and_train_them_once(session: MakeSession) -> None:
    source = session()
    resume = continuation_of(source, CONFIG)
    assert resume.token_ids == (1, 2, 3)
    assert resume.logprobs == (-0.1, -0.2, -0.3)
    assert resume.request_id == "source-id"
    resample = publishable(session(8, resume=resume), row(Kind.RESAMPLE), CONFIG)
    trained_by_source = publishable(source, row(selected=True), CONFIG).response_mask
    padded = trained_by_source + [0] * 5
    assert resample.response_mask == [0, 0, 0, 1, 1, 0, 1, 1]
    assert all(a + b <= 1 for a, b in zip(padded, resample.response_mask, strict=True))
    # the tool's token is trained by neither
    assert (padded[5], resample.response_mask[5]) == (0, 0)


def test_from_scratch_there_is_no_prefix_to_mask(session: MakeSession) -> None:
    resume = continuation_of(session(), AxpoConfig(prefix="scratch"))
    assert resume.length == 0
    assert publishable(session(8, resume=resume), row(Kind.RESAMPLE), AxpoConfig(prefix="scratch")).response_mask == [
        1, 1, 1, 1, 1, 0, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize("kind", list(Kind))
def test_an_infra_failure_trains_nothing(session: MakeSession, kind: Kind) -> None:
    output = publishable(session(), row(kind, Status.INFRA_FAILURE), CONFIG)
    assert output.response_mask == [0] * 8
    assert output.response_ids == [1, 2, 3, 4, 5, 60, 7, 8]


def test_a_reward_that_could_not_be_computed_is_no_fault_of_the_policy(session: MakeSession) -> None:
    one = session()
    one.output.extra_fields["reward_extra_info"]["infra_failure"] = 1.0
    assert one.status is Status.INFRA_FAILURE
    assert one.as_rollout().status is Status.INFRA_FAILURE


def test_a_row_survives_the_way_through_the_batch(session: MakeSession) -> None:
    one = session(3, reward=1.0)
    packed = BatchRow(row=row(), rollout=one.as_rollout(), episode=one.episode, grpo_tokens=7, response_len=9)
    assert BatchRow.unpack(packed.pack()) == packed
    assert not packed.is_extra
