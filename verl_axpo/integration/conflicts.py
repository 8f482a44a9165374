"""Settings of verl that would break AXPO, most of them in silence: config -> one line for each, with what to change.

Each rule is a pair of (is it broken, the line). docs/design/settings.md has every setting that was looked at.
"""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_axpo.core.budget import max_prefixes
from verl_axpo.core.config import AxpoConfig

Rule = tuple[bool, str]
_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
LOGITS = ("raw_logits", "processed_logits")  # of rollout.logprobs_mode: no log-probabilities
OVER_THE_BATCH = ("clip_cov", "kl_cov")  # of policy_loss.loss_mode: they pick tokens by a rank among all of a batch
OUR_REWARDS = ("pkg://verl_axpo.rewards.outcome", "pkg://verl_axpo.eval.reward")


def conflicts(config: DictConfig, axpo: AxpoConfig | None) -> list[str]:
    """What AXPO cannot run with, a line each.

    Args:
        config: verl's, whole; a key that is not there breaks no rule.
        axpo: its parsed `algorithm.axpo`; None if that is bad itself, so that no rule looks at it.
    """
    get = _Getter(config)
    rules = [*_rollout_rules(get), *_trainer_rules(get), *_reward_rules(get), *_loss_rules(get)]
    if axpo is not None:
        rules += [*_engine_rules(get, axpo), *_threshold_rules(get, axpo), *_budget_rules(get, axpo)]
    return [f"- {line}" for broken, line in rules if broken]


class _Getter:
    """`get("a.b")`: the value, or None where there is none."""

    def __init__(self, config: DictConfig) -> None:
        self._config = config

    def __call__(self, key: str) -> Any:
        return OmegaConf.select(self._config, key, throw_on_missing=False)

    def has(self, key: str) -> bool:
        """Whether the key is there, be it null or still to be set."""
        parent, _, name = key.rpartition(".")
        node = self(parent)
        return isinstance(node, DictConfig) and name in list(node)


def _trainer_rules(get: _Getter) -> Iterator[Rule]:
    sampler = "trainer.v1.sampler.sync_refill_failed_groups"
    yield (
        get.has("trainer.use_v1") and not get("trainer.use_v1"),
        "trainer.use_v1=False: AXPO is built on verl's V1 trainer; set trainer.use_v1=True",
    )
    yield (
        bool(get("critic.enable")),
        "critic.enable=True: AXPO's advantages need no critic; set critic.enable=False",
    )
    yield (
        bool(get("algorithm.filter_groups.enable")),
        "algorithm.filter_groups.enable=True: it drops the all-wrong groups that AXPO lives on; set it to False",
    )
    yield (
        bool(get(sampler)),
        f"{sampler}=True: a step's budget is shared by the questions that it began with; set it to False",
    )
    yield (
        bool(get("skip.rollout_tq.enable")),
        "skip.rollout_tq.enable=True: rollouts of an earlier run say nothing about this run's budget; set it to False",
    )
    yield (
        bool(get("distillation.enabled")),
        "distillation.enabled=True: its loss would also be averaged over AXPO's rows; set it to False",
    )
    yield (
        bool(get("algorithm.rollout_correction.bypass_mode")) and bool(get("algorithm.axpo.trace_dir")),
        "algorithm.rollout_correction.bypass_mode=True: the trainer computes no entropies, which the trace holds; "
        "set it to False, or algorithm.axpo.trace_dir=null",
    )


def _reward_rules(get: _Getter) -> Iterator[Rule]:
    yield (
        bool(get("algorithm.use_kl_in_reward")),
        "algorithm.use_kl_in_reward=True: the recovery reward is 0 or 1, without KL; set it to False and use "
        f"{_ACTOR}.use_kl_loss=True",
    )
    yield (
        bool(get("reward.reward_model.enable")) and not get("reward.reward_model.enable_resource_pool"),
        "reward.reward_model.enable=True: a colocated reward model scores after the rollouts, too late for AXPO's "
        "trigger; set reward.reward_model.enable_resource_pool=True",
    )


def _loss_rules(get: _Getter) -> Iterator[Rule]:
    """What would change the weight of an ordinary row, or hand the updates unlike shares."""
    mode = get(f"{_ACTOR}.policy_loss.loss_mode")
    yield (
        bool(get(f"{_ACTOR}.shuffle")),
        f"{_ACTOR}.shuffle=True: it undoes the dealing of AXPO's rows to the updates; set {_ACTOR}.shuffle=False",
    )
    yield (
        get(f"{_ACTOR}.strategy") == "megatron" and bool(get("actor_rollout_ref.model.mtp.enable")),
        "actor_rollout_ref.model.mtp.enable=True: Megatron's MTP takes loss_mask, which holds AXPO's token counts, "
        "for a mask; set it to False, or train with another strategy",
    )
    yield (
        get(f"{_ACTOR}.loss_agg_mode") == "seq-mean-token-sum-norm" and get(f"{_ACTOR}.loss_scale_factor") is None,
        f"{_ACTOR}.loss_scale_factor=null with loss_agg_mode=seq-mean-token-sum-norm: verl divides by the longest row "
        f"of a micro-batch, AXPO's rows among them; set {_ACTOR}.loss_scale_factor to data.max_response_length",
    )
    yield (
        mode in OVER_THE_BATCH,
        f"{_ACTOR}.policy_loss.loss_mode={mode}: it picks tokens by a rank among all rows, AXPO's among them; set it "
        "to vanilla, the paper's",
    )
    yield (
        bool(get("algorithm.rollout_correction.rollout_is_batch_normalize")),
        "algorithm.rollout_correction.rollout_is_batch_normalize=True: it divides by a mean over all rows, AXPO's "
        "among them; set it to False",
    )


def _rollout_rules(get: _Getter) -> Iterator[Rule]:
    """What would leave nothing to compare, to measure or to call."""
    group, turns = f"{_ROLLOUT}.n", f"{_ROLLOUT}.multi_turn.max_assistant_turns"
    yield (get(group) or 1) < 2, f"{group}=1: a group of one has no peers; set {group}=8"
    temperature, top_k = get(f"{_ROLLOUT}.temperature"), get(f"{_ROLLOUT}.top_k")
    yield (
        temperature is not None and (temperature <= 0 or top_k == 1),
        f"{_ROLLOUT}.temperature={temperature}, top_k={top_k}: without sampling all continuations of a prefix are the "
        f"same; set {_ROLLOUT}.temperature=1.0 {_ROLLOUT}.top_k=-1",
    )
    yield (
        get(f"{_ROLLOUT}.logprobs_mode") in LOGITS,
        f"{_ROLLOUT}.logprobs_mode={get(f'{_ROLLOUT}.logprobs_mode')}: logits are no log-probabilities, and confidence "
        "is a probability; set it to processed_logprobs",
    )
    yield (
        bool(get(f"{_ROLLOUT}.full_determinism")),
        f"{_ROLLOUT}.full_determinism=True: it gives all requests one seed, so all continuations of a prefix are the "
        "same; set it to False, and algorithm.axpo.seed to an integer",
    )
    yield (
        get(turns) == 1,
        f"{turns}=1: a tool would be called and its response never read, so every tool call is wrong; set {turns}=3, "
        "the paper's",
    )
    tools = (f"{_ROLLOUT}.multi_turn.tool_config_path", f"{_ROLLOUT}.multi_turn.function_tool_path")
    yield (
        get.has(tools[0]) and not any(map(get, tools)),
        f"{tools[0]}=null: there is no tool to call, so this would be GRPO; set it to a YAML of tools, such as "
        "'${verl_axpo:tools/config/paper.yaml}'",
    )


def _engine_rules(get: _Getter, axpo: AxpoConfig) -> Iterator[Rule]:
    """What the rollout engines other than vLLM cannot do."""
    name = get(f"{_ROLLOUT}.name")
    yield (
        name == "trtllm",
        f"{_ROLLOUT}.name=trtllm: it takes the response limit from its own config, and decodes a prompt with images to "
        f"encode it again, so that a continuation may not start from its prefix; set {_ROLLOUT}.name=vllm",
    )
    yield (
        name == "sglang" and axpo.seed is not None,
        f"algorithm.axpo.seed={axpo.seed} with {_ROLLOUT}.name=sglang: its sampling parameters have no seed; set "
        f"algorithm.axpo.seed=null, or {_ROLLOUT}.name=vllm",
    )
    yield (
        name == "sglang" and axpo.uncertainty == "entropy",
        f"algorithm.axpo.uncertainty=entropy with {_ROLLOUT}.name=sglang: the memory of a scoring request is bounded "
        f"for vLLM only; set algorithm.axpo.uncertainty=confidence, or {_ROLLOUT}.name=vllm",
    )


def _threshold_rules(get: _Getter, axpo: AxpoConfig) -> Iterator[Rule]:
    """A right answer must reach `correct_threshold`, and a wrong one must not."""
    threshold, overlong = axpo.correct_threshold, "reward.reward_kwargs.overlong_buffer_cfg"
    penalty = float(get(f"{overlong}.penalty_factor") or 0.0)
    yield (
        bool(get(f"{overlong}.enable")) and not 0 < threshold <= 1 - penalty,
        f"{overlong}.enable=True: a right answer that is long earns as little as {1 - penalty:g}, less than "
        f"algorithm.axpo.correct_threshold={threshold:g}, and would count as wrong; set it to False, or lower "
        "penalty_factor and the threshold",
    )
    if get("reward.custom_reward_function.path") not in OUR_REWARDS:
        return
    kwargs = "reward.custom_reward_function.reward_kwargs"
    bonus, penalty = (float(get(f"{kwargs}.{name}") or 0.0) for name in ("tool_bonus", "tool_penalty"))
    yield (
        bool(bonus or penalty) and not bonus < threshold <= 1 - penalty,
        f"algorithm.axpo.correct_threshold={threshold:g}: with {kwargs}.tool_bonus={bonus:g} and "
        f"tool_penalty={penalty:g} a wrong answer with a tool earns {bonus - penalty:g} and a right one "
        f"{1 + bonus - penalty:g}; set algorithm.axpo.correct_threshold={1 - penalty:g}",
    )


def _budget_rules(get: _Getter, axpo: AxpoConfig) -> Iterator[Rule]:
    batch, rollouts = get("data.train_batch_size"), get(f"{_ROLLOUT}.n")
    if not batch or not rollouts or not axpo.budget:
        return
    yield (
        max_prefixes(batch, rollouts, axpo) < 1,
        f"algorithm.axpo.budget={axpo.budget:g}: {axpo.budget:g} x {batch} questions x {rollouts} rollouts is less "
        f"than one prefix of {axpo.num_continuations} continuations, so this would be GRPO; raise "
        "algorithm.axpo.budget or data.train_batch_size, or set the budget to 0 if GRPO is meant",
    )
