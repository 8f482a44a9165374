"""Settings that would break AXPO in silence: each is refused with the line to change, or works."""

from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from tests.unit.integration.test_completion import grpo_config
from verl_axpo.core.config import AxpoConfig
from verl_axpo.integration import completion
from verl_axpo.integration.completion import complete
from verl_axpo.integration.conflicts import OUR_REWARDS, conflicts

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
OVERLONG = "reward.reward_kwargs.overlong_buffer_cfg"
REWARD = "reward.custom_reward_function"


@pytest.fixture(scope="module")
def defaults() -> DictConfig:
    """verl's own config, with what every run names: rollouts, an engine, tools."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer")
    config.actor_rollout_ref.rollout.n = 8
    config.actor_rollout_ref.rollout.name = "vllm"
    config.actor_rollout_ref.rollout.multi_turn.tool_config_path = "tools.yaml"
    return config


def refused(defaults: DictConfig, settings: dict[str, Any], **axpo: Any) -> list[str]:
    config = defaults.copy()
    OmegaConf.set_struct(config, False)
    for key, value in settings.items():
        OmegaConf.update(config, key, value)
    OmegaConf.update(config, "algorithm.axpo", axpo)
    return [str(finding) for finding in conflicts(config, AxpoConfig.from_mapping(axpo))]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({f"{ACTOR}.shuffle": True}, f"set {ACTOR}.shuffle=False"),
        ({f"{ACTOR}.strategy": "megatron", "actor_rollout_ref.model.mtp.enable": True}, "mtp.enable=True: Megatron's"),
        ({f"{ACTOR}.loss_agg_mode": "seq-mean-token-sum-norm"}, "to data.max_response_length"),
        ({f"{ACTOR}.policy_loss.loss_mode": "clip_cov"}, "loss_mode=clip_cov: it chooses tokens"),
        ({f"{ACTOR}.policy_loss.loss_mode": "kl_cov"}, "loss_mode=kl_cov: it chooses tokens"),
        ({"algorithm.rollout_correction.rollout_is_batch_normalize": True}, "rollout_is_batch_normalize=True"),
        ({"skip.rollout_tq.enable": True}, "skip.rollout_tq.enable=True"),
        ({"distillation.enabled": True}, "distillation.enabled=True"),
        ({f"{ROLLOUT}.temperature": 0}, "temperature=0, top_k=-1: without sampling"),
        ({f"{ROLLOUT}.top_k": 1}, "temperature=1.0, top_k=1: without sampling"),
        ({f"{ROLLOUT}.logprobs_mode": "processed_logits"}, "logprobs_mode to processed_logprobs"),
        ({f"{ROLLOUT}.logprobs_mode": "raw_logits"}, "logprobs_mode to processed_logprobs"),
        ({f"{ROLLOUT}.full_determinism": True}, "full_determinism=True: it gives all requests one seed"),
        ({f"{ROLLOUT}.multi_turn.max_assistant_turns": 1}, "max_assistant_turns=1: the policy would never read"),
        ({f"{ROLLOUT}.multi_turn.tool_config_path": None}, "tool_config_path=null: there is no tool"),
        ({f"{ROLLOUT}.name": "trtllm"}, "name=trtllm: it takes the response limit from its own config"),
        ({OVERLONG: {"enable": True, "penalty_factor": 1.0}}, "a right answer that is long earns as little as 0"),
        ({REWARD: {"path": OUR_REWARDS[0], "reward_kwargs": {"tool_penalty": 0.1}}}, "correct_threshold=0.9"),
        ({REWARD: {"path": OUR_REWARDS[1], "reward_kwargs": {"tool_bonus": 1.0}}}, "with a tool earns 1"),
        ({"data.train_batch_size": 1}, "0.25 x 1 questions x 8 rollouts is less than one prefix of 4 continuations"),
    ],
)
def test_a_setting_that_breaks_axpo_in_silence_is_refused_with_the_line_to_change(
    defaults: DictConfig, settings: dict[str, Any], line: str
) -> None:
    # the budget rounds down to no prefix: 0.25 * 1 * 8 / 4 < 1
    (told,) = refused(defaults, settings)
    assert line in told


@pytest.mark.parametrize(
    ("engine", "axpo", "line"),
    [
        ("sglang", {"seed": 1}, "SGLang's sampling parameters have no seed; set algorithm.axpo.seed=null"),
        ("sglang", {"seed": 0}, "SGLang's sampling parameters have no seed"),
        ("sglang", {"uncertainty": "entropy"}, "set algorithm.axpo.uncertainty=confidence"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(
    defaults: DictConfig, engine: str, axpo: dict[str, Any], line: str
) -> None:
    (told,) = refused(defaults, {f"{ROLLOUT}.name": engine}, **axpo)
    assert line in told
    assert refused(defaults, {}, **axpo) == []
    assert refused(defaults, {f"{ROLLOUT}.name": engine}) == []


@pytest.mark.parametrize(
    ("settings", "axpo"),
    [
        ({"data.apply_chat_template_kwargs": {"enable_thinking": False}}, {}),
        ({"algorithm.rollout_correction.rollout_rs": "token_k1"}, {}),
        ({"algorithm.rollout_correction.rollout_is": "token"}, {}),
        ({"algorithm.norm_adv_by_std_in_grpo": False}, {}),
        *(({f"{ACTOR}.loss_agg_mode": f"seq-mean-token-{kind}"}, {}) for kind in ("sum", "mean")),
        ({f"{ACTOR}.loss_agg_mode": "seq-mean-token-sum-norm", f"{ACTOR}.loss_scale_factor": 512}, {}),
        ({f"{ACTOR}.ppo_epochs": 2}, {}),
        ({f"{ACTOR}.use_dynamic_bsz": True}, {}),
        ({f"{ACTOR}.strategy": "megatron"}, {}),
        ({f"{ACTOR}.strategy": "fsdp2", "actor_rollout_ref.model.mtp.enable": True}, {}),
        ({f"{ACTOR}.policy_loss.loss_mode": "gspo"}, {}),
        ({f"{ROLLOUT}.multi_turn.max_assistant_turns": None}, {}),
        ({f"{ROLLOUT}.multi_turn.tool_config_path": None, f"{ROLLOUT}.multi_turn.function_tool_path": "f.py"}, {}),
        ({OVERLONG: {"enable": True, "penalty_factor": 0.5}}, {"correct_threshold": 0.5}),
        ({REWARD: {"path": OUR_REWARDS[0], "reward_kwargs": {"tool_penalty": 0.1}}}, {"correct_threshold": 0.9}),
        ({REWARD: {"path": OUR_REWARDS[0], "reward_kwargs": {"tool_bonus": 0.1}}}, {}),
        ({REWARD: {"path": OUR_REWARDS[0]}}, {"correct_threshold": 2}),  # an experiment: every subgroup is all-wrong
        ({"data.train_batch_size": 2}, {}),  # 0.25 * 2 * 8 / 4 = 1
        ({"data.train_batch_size": 1}, {"budget": 0}),
    ],
)
def test_a_setting_that_is_right_is_left_alone(
    defaults: DictConfig, settings: dict[str, Any], axpo: dict[str, Any]
) -> None:
    assert refused(defaults, settings, **axpo) == []


SEPARATE = {
    "trainer.v1.trainer_mode": "separate_async",
    "trainer.v1.separate_async.parameter_sync_step": 4,
    "data.train_batch_size": 256,
    f"{ACTOR}.ppo_mini_batch_size": 64,
    f"{ROLLOUT}.nnodes": 1,
    f"{ROLLOUT}.checkpoint_engine.backend": "nccl",
}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, None),
        ({"trainer.v1.trainer_mode": "colocate_async", f"{ROLLOUT}.nnodes": 0}, None),
        (
            {"actor_rollout_ref.model.lora_rank": 32},
            "without the adapters; set actor_rollout_ref.model.lora.merge",
        ),
        ({"actor_rollout_ref.model.lora_rank": 32, "actor_rollout_ref.model.lora.merge": True}, None),
        ({"actor_rollout_ref.model.lora_rank": 32, "trainer.v1.trainer_mode": "colocate_async"}, None),
        (
            {"data.train_batch_size": 128},
            "got 128, expected parameter_sync_step x ppo_mini_batch_size = 4 x 64; set it to 256",
        ),
        (
            {f"{ROLLOUT}.nnodes": 0},
            f"{ROLLOUT}.nnodes=0: separate_async generates on nodes of its own; set {ROLLOUT}.nnodes=1",
        ),
        ({"ray_kwargs.ray_init.num_gpus": 16}, None),  # verl's defaults: 1 x 8 for the trainer, 1 x 8 for its replicas
        ({"ray_kwargs.ray_init.num_gpus": 8}, "num_gpus: got 8, expected 16 for the trainer and its replicas; set"),
        (
            {f"{ROLLOUT}.checkpoint_engine.backend": "naive"},
            "checkpoint_engine.backend=naive: it cannot send weights to other",
        ),
    ],
)
def test_what_the_separate_trainer_needs_is_reported_before_anything_starts(
    defaults: DictConfig, settings: dict[str, Any], line: str | None
) -> None:
    told = refused(defaults, SEPARATE | settings, allocation="streaming")
    assert len(told) == (line is not None)
    assert line is None or line in told[0]


def test_bad_values_of_ours_and_conflicts_with_verl_are_reported_together() -> None:
    config = grpo_config(axpo={"bugdet": 0.5, "num_continuations": 1, "seed": True, "trace_dir": ""})
    OmegaConf.update(config, "critic.enable", True)
    OmegaConf.update(config, "trainer.v1.trainer_mode", "mine")
    with pytest.raises(ValueError, match="cannot run with this config") as refusal:
        complete(config)
    for told in ("['bugdet']", "num_continuations: got 1", "seed: got True", "trace_dir: got ''", "critic.enable=True",
                 "got 'mine'"):  # fmt: skip
        assert told in str(refusal.value)
    assert all(line.startswith("- ") for line in str(refusal.value).splitlines()[1:])


def test_settings_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(ValueError, match=r"algorithm.axpo: got 0.5, expected keys"):
        complete(grpo_config(axpo=0.5))


@pytest.mark.parametrize(("given", "kept"), [(None, 1024), (4096, 4096)])
def test_a_scoring_request_holds_few_tokens_logits_at_a_time(given: int | None, kept: int) -> None:
    """Prompt log-probabilities of 16,000 tokens at once are 15 GB in addition to vLLM's share of the memory."""
    key = f"{ROLLOUT}.engine_kwargs.vllm.long_prefill_token_threshold"
    config = grpo_config(axpo={"uncertainty": "entropy"})
    OmegaConf.update(config, f"{ROLLOUT}.engine_kwargs", {"vllm": {}}, force_add=True)
    if given is not None:
        OmegaConf.update(config, key, given, force_add=True)
    lines = complete(config)
    assert OmegaConf.select(config, key) == kept
    assert any(key in line for line in lines) == (given is None)
    plain = grpo_config()
    complete(plain)
    assert OmegaConf.select(plain, key) is None


def test_a_budget_of_zero_is_said_to_be_grpo(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(completion.logger, "warning", said.append)
    complete(grpo_config(axpo={"budget": 0}))
    assert "budget=0: nothing is resampled, so this run is GRPO" in said[0]


@pytest.mark.parametrize(("mode", "problems"), [("sync", 0), ("axpo_sync", 0), ("colocate_async", 1)])
def test_speculation_is_for_the_synchronous_trainer(defaults: DictConfig, mode: str, problems: int) -> None:
    lines = refused(defaults, {"trainer.v1.trainer_mode": mode}, speculate=True)
    assert sum("set algorithm.axpo.speculate=False" in line for line in lines) == problems
