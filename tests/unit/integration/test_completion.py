"""A GRPO config plus one switch: missing keys are set, the user's settings stay, and contradictions are refused."""

import pytest
from omegaconf import DictConfig, OmegaConf

from verl_axpo.integration import completion
from verl_axpo.integration.completion import complete, needed_by


def grpo_config(**algorithm: object) -> DictConfig:
    """The keys of verl's ppo_trainer.yaml that matter here, with verl's defaults."""
    config = OmegaConf.create(
        {
            "algorithm": {"adv_estimator": "axpo", "use_kl_in_reward": False, **algorithm},
            "trainer": {"use_v1": True, "v1": {"trainer_mode": "sync"}},
            "critic": {"enable": None},
            "reward": {"reward_model": {"enable": False, "enable_resource_pool": False}},
            "actor_rollout_ref": {
                "rollout": {
                    "n": 8,
                    "calculate_log_probs": False,
                    "agent": {"agent_loop_manager_class": None, "default_agent_loop": "single_turn_agent"},
                    "multi_turn": {"enable": False, "format": "hermes"},
                }
            },
        }
    )
    OmegaConf.set_struct(config, True)
    return config


def test_the_one_switch_completes_the_rest_and_says_so() -> None:
    config = grpo_config()
    needs = needed_by(config)
    lines = complete(config)
    assert all(OmegaConf.select(config, needed.key) == needed.value for needed in needs)
    assert all(needed.key in line for needed, line in zip(needs, lines, strict=True))
    assert complete(config) == []  # nothing left to set


@pytest.mark.parametrize("mode", ["sync", "colocate_async", "separate_async"])
def test_each_trainer_of_verl_has_one_of_ours_wherever_it_was_named(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(completion, "_command_line_keys", lambda: {"trainer.v1.trainer_mode"})
    config = grpo_config()
    config.trainer.v1.trainer_mode = mode
    complete(config)
    assert config.trainer.v1.trainer_mode == f"axpo_{mode}"
    assert OmegaConf.select(config, "algorithm.axpo.allocation") == (None if mode == "sync" else "streaming")
    assert complete(config) == []


def test_an_asynchronous_trainer_has_no_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    """`exact` in a config file is replaced. On the command line it is the user's choice, and refused."""
    config = grpo_config(axpo={"allocation": "exact"})
    config.trainer.v1.trainer_mode = "colocate_async"
    complete(config)
    assert config.algorithm.axpo.allocation == "streaming"
    monkeypatch.setattr(completion, "_command_line_keys", lambda: {"algorithm.axpo.allocation"})
    config = grpo_config(axpo={"allocation": "exact"})
    config.trainer.v1.trainer_mode = "colocate_async"
    with pytest.raises(
        ValueError, match=r"algorithm\.axpo\.allocation: got 'exact', expected 'streaming' \(the asynchron"
    ):
        complete(config)
    config = grpo_config(axpo={"speculate": True})
    config.trainer.v1.trainer_mode = "separate_async"
    with pytest.raises(ValueError, match=r"algorithm\.axpo\.speculate=True: .*or trainer\.v1\.trainer_mode=sync"):
        complete(config)


@pytest.mark.parametrize("estimator", ["grpo", "gae", "rloo"])
def test_any_other_estimator_is_left_alone(estimator: str) -> None:
    config = grpo_config(adv_estimator=estimator)
    before = OmegaConf.to_container(config)
    assert complete(config) == []
    assert OmegaConf.to_container(config) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("actor_rollout_ref.rollout.agent.agent_loop_manager_class", "my.Manager"),
        ("actor_rollout_ref.rollout.agent.default_agent_loop", "my_loop"),
        ("actor_rollout_ref.rollout.multi_turn.format", "gpt-oss"),
        ("trainer.v1.trainer_mode", "mine"),
    ],
)
def test_what_the_user_set_otherwise_is_a_conflict_with_the_line_to_change(key: str, value: str) -> None:
    config = grpo_config()
    OmegaConf.update(config, key, value)
    with pytest.raises(ValueError, match=f"{key}: got '{value}', expected") as refusal:
        complete(config)
    assert "remove it, or set it to " in str(refusal.value)
    assert OmegaConf.select(config, "trainer.v1.trainer_mode") != "axpo_sync"  # refused before anything was set


def test_a_default_that_the_user_wrote_out_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "actor_rollout_ref.rollout.agent.default_agent_loop"
    monkeypatch.setattr(completion, "_command_line_keys", lambda: {key})
    with pytest.raises(ValueError, match=f"{key}: got 'single_turn_agent'"):
        complete(grpo_config())


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("actor_rollout_ref.rollout.agent.default_agent_loop", "tool_agent"),
        ("actor_rollout_ref.rollout.multi_turn.format", "hermes"),
    ],
)
def test_what_ours_does_all_of_is_replaced_wherever_it_was_written(
    monkeypatch: pytest.MonkeyPatch, key: str, written: str
) -> None:
    """As a GRPO command with tools has it on its command line."""
    monkeypatch.setattr(completion, "_command_line_keys", lambda: {key})
    config = grpo_config()
    OmegaConf.update(config, key, written)
    assert any(f"set {key}=axpo" in line and f"(was {written})" in line for line in complete(config))


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("algorithm.filter_groups", {"enable": True}, "filter_groups.enable=True"),
        ("critic.enable", True, "critic.enable=True"),
        ("actor_rollout_ref.rollout.n", 1, "rollout.n=1"),
        ("algorithm.use_kl_in_reward", True, "use_kl_in_reward=True"),
        ("trainer.use_v1", False, "trainer.use_v1=False"),
        ("reward.reward_model.enable", True, "enable_resource_pool=True"),
        ("trainer.v1.sampler", {"sync_refill_failed_groups": True}, "sync_refill_failed_groups=True"),
    ],
)
def test_what_cannot_be_combined_is_refused_with_the_reason(key: str, value: object, line: str) -> None:
    config = grpo_config()
    OmegaConf.set_struct(config, False)
    OmegaConf.update(config, key, value)
    with pytest.raises(ValueError, match="cannot run with this config") as refusal:
        complete(config)
    assert line in str(refusal.value)
    assert str(refusal.value).count("\n") == 1  # this problem and no other


def test_all_problems_are_reported_at_once() -> None:
    config = grpo_config()
    OmegaConf.update(config, "actor_rollout_ref.rollout.n", 1)
    OmegaConf.update(config, "critic.enable", True)
    with pytest.raises(ValueError, match=r"(?s)rollout\.n=1.*critic\.enable=True"):
        complete(config)


def test_a_bad_setting_of_ours_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match="unknown keys"):
        complete(grpo_config(axpo={"bugdet": 0.5}))
