"""Settings of verl that would break AXPO, most of them in silence: config -> a finding for each, with what to change.

docs/design/settings.md has every setting that was looked at.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_axpo.core.budget import max_prefixes
from verl_axpo.core.config import AxpoConfig
from verl_axpo.findings import Finding, problem
from verl_axpo.integration import modes
from verl_axpo.rewards.rows import OUR_REWARDS

Get = Callable[[str], Any]  # a dotted key of the config -> its value, None where there is none
_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
LOGITS = ("raw_logits", "processed_logits")  # of rollout.logprobs_mode: no log-probabilities
OVER_THE_BATCH = ("clip_cov", "kl_cov")  # of policy_loss.loss_mode: they pick tokens by a rank among all of a batch

# Switches that must be off -> why
OFF = {
    "critic.enable": "AXPO's advantages need no critic",
    "algorithm.filter_groups.enable": "it drops the all-wrong groups that AXPO resamples",
    "trainer.v1.sampler.sync_refill_failed_groups": "a step's budget is computed for the questions that it began with",
    "distillation.enabled": "its loss would also cover AXPO's rows",
    "algorithm.use_kl_in_reward": f"the recovery reward is 0 or 1, without KL; use {_ACTOR}.use_kl_loss=True",
    f"{_ACTOR}.shuffle": "AXPO's rows would no longer be spread evenly over the updates",
    "algorithm.rollout_correction.rollout_is_batch_normalize": "it divides by a mean over all rows, AXPO's too",
    f"{_ROLLOUT}.full_determinism": "it gives all requests one seed, so that all continuations of a prefix are the "
    "same; algorithm.axpo.seed gives each its own",
}


def conflicts(config: DictConfig, axpo: AxpoConfig | None) -> Iterator[Finding]:
    """What AXPO cannot run with.

    Args:
        config: verl's, whole; a key that is not there breaks no rule.
        axpo: its parsed `algorithm.axpo`; None if that is bad itself, so that no rule looks at it.
    """
    get = functools.partial(OmegaConf.select, config, throw_on_missing=False)
    for rules in (_rollout_rules, _trainer_rules, _separate_rules, _loss_rules):
        yield from rules(get)
    if axpo is not None:
        for of_axpo in (_engine_rules, _threshold_rules, _budget_rules):
            yield from of_axpo(get, axpo)


def _is_off(get: Get, key: str) -> bool:
    """Whether the key is there, and is null, false or still to be set."""
    parent, _, name = key.rpartition(".")
    node = get(parent)
    return isinstance(node, DictConfig) and name in list(node) and not get(key)


def _trainer_rules(get: Get) -> Iterator[Finding]:
    for key, why in OFF.items():
        if get(key):
            yield problem(f"{key}=True", why, f"set {key}=False")
    if _is_off(get, "trainer.use_v1"):
        yield problem("trainer.use_v1=False", "AXPO is built on verl's V1 trainer", "set trainer.use_v1=True")
    speculate = "algorithm.axpo.speculate"
    if get(speculate) and modes.host(get(modes.KEY) or modes.SYNC) != modes.SYNC:
        why = "it needs the barrier of allocation=exact, which the asynchronous trainers do not have"
        yield problem(f"{speculate}=True", why, f"set {speculate}=False, or {modes.KEY}=sync")
    model, pool = "reward.reward_model.enable", "reward.reward_model.enable_resource_pool"
    if get(model) and not get(pool):
        why = "a colocated reward model scores after the rollouts, too late for AXPO's trigger"
        yield problem(f"{model}=True", why, f"set {pool}=True")


def _separate_rules(get: Get) -> Iterator[Finding]:
    """What verl's `separate_async` would refuse after Ray has started."""
    if modes.host(get(modes.KEY) or modes.SYNC) != modes.SEPARATE_ASYNC:
        return
    batch, mini = get("data.train_batch_size"), get(f"{_ACTOR}.ppo_mini_batch_size")
    sync_step, nodes = get(f"trainer.v1.{modes.SEPARATE_ASYNC}.parameter_sync_step"), f"{_ROLLOUT}.nnodes"
    backend = f"{_ROLLOUT}.checkpoint_engine.backend"
    if batch and mini and sync_step and batch != sync_step * mini:
        found = f"got {batch}, expected parameter_sync_step x ppo_mini_batch_size = {sync_step} x {mini}"
        yield problem("data.train_batch_size", found, f"set it to {sync_step * mini}, or change one of the two")
    if get(nodes) == 0:
        yield problem(f"{nodes}=0", f"{modes.SEPARATE_ASYNC} generates on nodes of its own", f"set {nodes}=1 or more")
    if get(backend) == "naive":
        why = "it cannot send weights to other processes"
        yield problem(f"{backend}=naive", why, f"set {backend} to nccl, or to gloo where there is no accelerator")
    yield from _adapter_rules(get)
    yield from _gpu_rules(get)


def _adapter_rules(get: Get) -> Iterator[Finding]:
    """verl's checkpoint engines send the base model alone, so that every rollout would be the untrained policy's."""
    rank, merge = "actor_rollout_ref.model.lora_rank", "actor_rollout_ref.model.lora.merge"
    if (get(rank) or get("actor_rollout_ref.model.lora.rank")) and not get(merge):
        why = f"{modes.SEPARATE_ASYNC} sends the base model to its replicas, without the adapters"
        yield problem(f"{rank}={get(rank)}", why, f"set {merge}=True, or {modes.KEY}={modes.COLOCATE_ASYNC}")


def _gpu_rules(get: Get) -> Iterator[Finding]:
    """As many GPUs as Ray is told of, logical ones without an accelerator: verl would wait for more for ever."""
    key, pools = "ray_kwargs.ray_init.num_gpus", ("trainer", _ROLLOUT)
    wanted = sum((get(f"{pool}.nnodes") or 0) * (get(f"{pool}.n_gpus_per_node") or 0) for pool in pools)
    if (given := get(key)) is not None and given < wanted:
        yield problem(key, f"got {given}, expected {wanted} for the trainer and its replicas", f"set {key}={wanted}")


def _loss_rules(get: Get) -> Iterator[Finding]:
    """What would change the weight of an ordinary row, or hand the updates unlike shares."""
    mtp, factor = "actor_rollout_ref.model.mtp.enable", f"{_ACTOR}.loss_scale_factor"
    if get(f"{_ACTOR}.strategy") == "megatron" and get(mtp):
        why = "Megatron's MTP reads loss_mask, which has AXPO's token counts, as a mask"
        yield problem(f"{mtp}=True", why, f"set {mtp}=False, or train with another strategy")
    if get(f"{_ACTOR}.loss_agg_mode") == "seq-mean-token-sum-norm" and get(factor) is None:
        why = "verl would divide by the longest row of a micro-batch, which may be AXPO's"
        fix = f"set {factor} to data.max_response_length"
        yield problem(f"{factor}=null with loss_agg_mode=seq-mean-token-sum-norm", why, fix)
    key = f"{_ACTOR}.policy_loss.loss_mode"
    if get(key) in OVER_THE_BATCH:
        why = "it chooses tokens by their rank among all rows, which would include AXPO's"
        yield problem(f"{key}={get(key)}", why, f"set {key}=vanilla, the paper's")


def _rollout_rules(get: Get) -> Iterator[Finding]:
    """What would leave nothing to compare, to measure or to call."""
    group, turns, mode = f"{_ROLLOUT}.n", f"{_ROLLOUT}.multi_turn.max_assistant_turns", f"{_ROLLOUT}.logprobs_mode"
    if (get(group) or 1) < 2:
        yield problem(f"{group}=1", "a single rollout cannot be compared with others", f"set {group}=8")
    temperature, top_k = get(f"{_ROLLOUT}.temperature"), get(f"{_ROLLOUT}.top_k")
    if temperature is not None and (temperature <= 0 or top_k == 1):
        yield problem(
            f"{_ROLLOUT}.temperature={temperature}, top_k={top_k}",
            "without sampling all continuations of a prefix are the same",
            f"set {_ROLLOUT}.temperature=1.0 {_ROLLOUT}.top_k=-1",
        )
    if get(mode) in LOGITS:
        why = "confidence is a probability, and logits are not log-probabilities"
        yield problem(f"{mode}={get(mode)}", why, f"set {mode} to processed_logprobs")
    if get(turns) == 1:
        why = "the policy would never read a tool's response, so every tool call would be wrong"
        yield problem(f"{turns}=1", why, f"set {turns}=3, the paper's")
    tools, functions = f"{_ROLLOUT}.multi_turn.tool_config_path", f"{_ROLLOUT}.multi_turn.function_tool_path"
    if _is_off(get, tools) and not get(functions):
        fix = "set it to a YAML of tools, such as '${verl_axpo:tools/config/paper.yaml}'"
        yield problem(f"{tools}=null", "there is no tool to call, so this would be GRPO", fix)


def _engine_rules(get: Get, axpo: AxpoConfig) -> Iterator[Finding]:
    """What the rollout engines other than vLLM cannot do."""
    engine = f"{_ROLLOUT}.name={get(f'{_ROLLOUT}.name')}"
    other = f"set {_ROLLOUT}.name=vllm"
    if engine.endswith("=trtllm"):
        why = (
            "it takes the response limit from its own config, and decodes a prompt with images to encode it again, so "
            "that a continuation may not start from its prefix"
        )
        yield problem(engine, why, other)
    if engine.endswith("=sglang") and axpo.seed is not None:
        fix = f"set algorithm.axpo.seed=null, or {other}"
        yield problem(
            f"algorithm.axpo.seed={axpo.seed} with {engine}", "SGLang's sampling parameters have no seed", fix
        )
    if engine.endswith("=sglang") and axpo.uncertainty == "entropy":
        why = "the memory of a scoring request is bounded for vLLM only"
        fix = f"set algorithm.axpo.uncertainty=confidence, or {other}"
        yield problem(f"algorithm.axpo.uncertainty=entropy with {engine}", why, fix)


def _threshold_rules(get: Get, axpo: AxpoConfig) -> Iterator[Finding]:
    """A right answer must reach `correct_threshold`, and a wrong one must not."""
    threshold, overlong = axpo.correct_threshold, "reward.reward_kwargs.overlong_buffer_cfg"
    penalty = float(get(f"{overlong}.penalty_factor") or 0.0)
    if get(f"{overlong}.enable") and not 0 < threshold <= 1 - penalty:
        yield problem(
            f"{overlong}.enable=True",
            f"a right answer that is long earns as little as {1 - penalty:g}, less than "
            f"algorithm.axpo.correct_threshold={threshold:g}, and would count as wrong",
            "set it to False, or lower penalty_factor and the threshold",
        )
    if get("reward.custom_reward_function.path") not in OUR_REWARDS:
        return
    kwargs = "reward.custom_reward_function.reward_kwargs"
    bonus, penalty = (float(get(f"{kwargs}.{name}") or 0.0) for name in ("tool_bonus", "tool_penalty"))
    if (bonus or penalty) and not bonus < threshold <= 1 - penalty:
        yield problem(
            f"algorithm.axpo.correct_threshold={threshold:g}",
            f"with {kwargs}.tool_bonus={bonus:g} and tool_penalty={penalty:g} a wrong answer with a tool earns "
            f"{bonus - penalty:g} and a right one {1 + bonus - penalty:g}",
            f"set algorithm.axpo.correct_threshold={1 - penalty:g}",
        )


def _budget_rules(get: Get, axpo: AxpoConfig) -> Iterator[Finding]:
    questions, rollouts, replay = get("data.train_batch_size"), get(f"{_ROLLOUT}.n"), "skip.rollout_tq.enable"
    if not questions or not rollouts or not axpo.budget:
        return
    if get(replay):
        why = "rollouts of an earlier run were not resampled with this run's budget"
        yield problem(f"{replay}=True", why, f"set {replay}=False, or algorithm.axpo.budget=0")
    if max_prefixes(questions, rollouts, axpo) < 1:
        yield problem(
            f"algorithm.axpo.budget={axpo.budget:g}",
            f"{axpo.budget:g} x {questions} questions x {rollouts} rollouts is less than one prefix of "
            f"{axpo.num_continuations} continuations, so this would be GRPO",
            "raise algorithm.axpo.budget or data.train_batch_size, or set the budget to 0 if GRPO is meant",
        )
