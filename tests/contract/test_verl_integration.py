"""What `integration/` relies on in verl 0.9, symbol by symbol: a failing test says what changed and where we use it."""

import inspect
from collections.abc import Callable
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import verl.trainer.main_ppo as main_ppo
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from verl.experimental.agent_loop import AgentLoopOutput, AgentLoopWorker
from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
from verl.experimental.agent_loop.tool_agent_loop import AgentState, ToolAgentLoop
from verl.experimental.agent_loop.tool_parser import FunctionCall, ToolParser
from verl.trainer.ppo.core_algos import get_adv_estimator_fn
from verl.trainer.ppo.v1 import (
    AgentLoopManagerTQ,
    AgentLoopWorkerTQ,
    PPOTrainer,
    PPOTrainerColocateAsync,
    PPOTrainerSeparateAsync,
    PPOTrainerSync,
    get_trainer_cls,
)
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync
from verl.utils import config as verl_config
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
from verl.utils.rollout_trace import RolloutTraceConfig, rollout_trace_attr
from verl.utils.tracking import Tracking
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine
from verl.workers.engine_workers import TrainingWorker
from verl.workers.rollout.llm_server import FullyAsyncLLMServerClient, LLMServerClient
from verl.workers.utils.losses import ppo_loss

from verl_axpo import doctor
from verl_axpo.core.config import AxpoConfig
from verl_axpo.integration import conflicts, modes
from verl_axpo.integration.agent_loop import (
    HOST_REFUSALS,
    LOOP_NAME,
    PARSER_NAME,
    AxpoToolAgentLoop,
    ThinkAwareToolParser,
)
from verl_axpo.integration.completion import needed_by
from verl_axpo.integration.trainer import AxpoTrainer

WORKER = AgentLoopWorkerTQ.__ray_metadata__.modified_class


def parameters(function: Callable[..., Any]) -> list[str]:
    names = inspect.signature(inspect.unwrap(function)).parameters
    return [name for name in names if name != "_ray_trace_ctx"]  # Ray's, on every method of an actor's class


def source(thing: Any) -> str:
    return inspect.getsource(inspect.unwrap(thing))


@pytest.fixture(scope="module")
def verl_defaults() -> DictConfig:
    """verl's own ppo_trainer.yaml, composed."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer")


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (WORKER._run_prompt, ["self", "prompt", "sampling_params", "trajectory", "trace"]),
        (WORKER._run_agent_loop, ["self", "sampling_params", "trajectory", "agent_name", "trace", "kwargs"]),
        (WORKER._agent_loop_postprocess, ["self", "output", "validate", "kwargs"]),
        (WORKER._compute_multi_modal_inputs, ["self", "output", "input_ids"]),
        (
            WORKER._compute_position_ids,
            ["self", "input_ids", "attention_mask", "multi_modal_inputs", "mm_processor_kwargs"],
        ),
        (AgentLoopManagerTQ.generate_sequences, ["self", "prompts"]),
        (AgentLoopManagerTQ._init_agent_loop_workers, ["self"]),
        (ToolAgentLoop.run, ["self", "sampling_params", "priority", "kwargs"]),
        (ToolAgentLoop._handle_pending_state, ["self", "agent_data", "sampling_params"]),
        (ToolAgentLoop._handle_processing_tools_state, ["self", "agent_data"]),
        (ToolAgentLoop._call_tool, ["self", "tool_call", "tools_kwargs", "agent_data"]),
        (ToolParser.extract_tool_calls, ["self", "responses_ids", "tools"]),
        (PPOTrainerSync._fetch_one_gen_batch, ["self"]),
        (PPOTrainerSync._submit_batch_to_rollout, ["self", "batch"]),
        (PPOTrainerSync._add_prompts_to_generate, ["self", "num_prompts"]),
        (PPOTrainerSync.step, ["self", "metrics", "timing_raw"]),
        (PPOTrainerSync._balance_batch, ["self", "batch", "metrics", "logging_prefix", "keep_minibatch"]),
        (PPOTrainerSync._get_required_batch_multiple, ["self", "dp_size"]),
        (PPOTrainerSync._compute_advantage, ["self", "batch", "metrics"]),
        (PPOTrainerSync._update_actor, ["self", "batch", "metrics"]),
        (PPOTrainerSync._compute_metrics, ["self", "batch", "metrics", "timing_raw", "global_steps", "epoch"]),
        (PPOTrainerSync.on_train_begin, ["self"]),
        (PPOTrainerSync._save_checkpoint, ["self"]),
        (PPOTrainerSync.on_step_end, ["self"]),
        (PPOTrainerSync._shutdown_dump_executor, ["self"]),
        (MultiTurnSFTDataset._read_files_and_process, ["self"]),
        (MultiTurnSFTDataset._build_messages, ["self", "example"]),
        (
            MultiTurnSFTDataset._process_single_message,
            ["self", "index", "message", "full_message", "tools", "enable_thinking"],
        ),
        (MultiTurnSFTDataset.sanity_check, ["self", "input_ids", "messages", "tools", "enable_thinking"]),
    ],
    ids=lambda one: getattr(one, "__qualname__", ""),
)
def test_what_we_override_has_the_signature_it_had(method: Callable[..., Any], expected: list[str]) -> None:
    assert parameters(method) == expected


def test_our_parts_are_in_verls_registries() -> None:
    assert get_adv_estimator_fn("axpo").__module__ == "verl_axpo.integration.estimator"
    for mode in modes.MODES:
        ours, theirs = get_trainer_cls(modes.ours(mode)), get_trainer_cls(mode)
        assert ours.__bases__ == (AxpoTrainer, theirs)
        assert ours.mode == mode
    assert _agent_loop_registry[LOOP_NAME]["_target_"].endswith("AxpoToolAgentLoop")
    assert ToolParser._registry[PARSER_NAME].__module__ == "verl_axpo.integration.call_parser"


@pytest.mark.parametrize(("name", "place"), doctor.REGISTRIES.items())
def test_the_doctor_sees_each_of_them_and_misses_it(
    name: str, place: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, registry, key = place
    assert doctor.check_registered(name, *place).ok
    monkeypatch.delitem(attrgetter(registry)(import_module(module)), key)
    assert doctor.check_registered(name, *place).found.startswith(f"{key} is not among [")


def test_a_scored_output_is_not_scored_again() -> None:
    """rollout.py scores a session, and publishes it later through the same method."""
    assert "if final_output.reward_score is None and enable_async_reward" in source(AgentLoopWorker._compute_score)


def test_scoring_computes_the_row() -> None:
    """rollout.py relies on it: an error that would come while a group is published comes earlier, in a session."""
    text = source(AgentLoopWorker._compute_score)
    asked = text.index("compute_score.remote")
    assert 0 < text.index("self._compute_multi_modal_inputs(") < text.index("self._compute_position_ids(") < asked


def test_every_keyword_of_a_session_becomes_a_field_of_its_row() -> None:
    """rollout.py hands `axpo=` to the publishing method."""
    assert "field.update(kwargs)" in source(WORKER._agent_loop_postprocess)


def test_a_prompt_is_marked_finished_after_all_sessions_returned() -> None:
    """rollout.py publishes for the whole group before the last session returns."""
    text = source(WORKER._run_prompt)
    assert text.index("_settle_session_tasks(tasks)") < text.index('status = "finished"')


@pytest.mark.parametrize(("name", "arguments"), [("unknown", "{}"), ("known", "{not json"), ("known", "{}")])
async def test_verls_answers_in_a_tools_stead_begin_as_they_did(name: str, arguments: str) -> None:
    """agent_loop.py tells by them that a call failed."""
    loop = ToolAgentLoop.__new__(ToolAgentLoop)
    loop.tools, loop.max_tool_response_length = {}, 1000
    data = SimpleNamespace(_active_tools={"known": object()})
    response, _, _ = await ToolAgentLoop._call_tool(loop, FunctionCall(name=name, arguments=arguments), {}, data)
    assert str(response.text).startswith(HOST_REFUSALS)


def test_the_loop_runs_the_states_that_we_wrap() -> None:
    assert {"PENDING", "GENERATING", "PROCESSING_TOOLS", "TERMINATED"} == set(AgentState.__members__)
    assert issubclass(AxpoToolAgentLoop, ToolAgentLoop)


def test_a_row_without_reward_or_prefix_fields_can_be_copied_with_changes() -> None:
    output = AgentLoopOutput(prompt_ids=[1], response_ids=[2, 3], response_mask=[1, 1], reward_score=1.0, metrics={})
    cut = output.model_copy(update={"response_ids": [2], "response_mask": [1]})
    fields = cut.as_dict()
    assert fields["responses"].tolist() == [2]
    assert fields["rm_scores"].tolist() == [1.0]  # the row's own reward, on its last token


def test_the_client_takes_what_turn_client_sends() -> None:
    assert {"request_id", "prompt_ids", "sampling_params", "image_data"} <= set(parameters(LLMServerClient.generate))


def test_the_update_can_split_evenly() -> None:
    """mini_batches.split_evenly replaces the first key by the second."""
    assert '"mini_batch_size": ppo_mini_batch_size' in source(PPOTrainerSync._update_actor)
    assert 'key="num_mini_batch"' in source(TrainingWorker.train_mini_batch)


def test_a_ranks_rows_are_cut_into_updates_in_their_order() -> None:
    """mini_batches.dealt puts them in that order."""
    rows = TensorDict({"row": torch.arange(6)}, batch_size=6)
    parts = tu.make_iterator(rows, mini_batch_size=2, epochs=1, seed=42, dataloader_kwargs={"shuffle": False})
    assert [part["row"].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert "tu.make_iterator(" in source(TrainingWorker.train_mini_batch)
    assert "batch.reorder([j for partition in global_partition_lst for j in partition])" in source(
        PPOTrainerSync._balance_batch
    )


def test_loss_mask_only_counts_tokens() -> None:
    """mini_batches.count_grpo_tokens sets its sum, and relies on nothing else reading it."""
    assert source(FSDPEngine).count("loss_mask") == 1
    assert 'batch_num_tokens = data["loss_mask"].sum()' in source(FSDPEngine.forward_backward_batch)
    assert 'data["loss_mask"]' not in source(ppo_loss)


def test_padding_is_what_verls_metrics_leave_out() -> None:
    """trainer._compute_metrics marks resamples so."""
    assert 'tag.get("is_padding", False)' in source(PPOTrainerSync._compute_metrics)


def test_a_step_ends_after_its_checkpoint() -> None:
    """trainer._flush_trace: the step's trace is on disk before either says that the step is done."""
    fit = source(PPOTrainerSync.fit)
    assert fit.index("self.step(") < fit.index("self._save_checkpoint()") < fit.index("self.on_step_end()")


def test_turns_are_counted_where_their_tokens_are_added() -> None:
    """The audit's evidence for what the policy generated (audit.tokens.check_turns)."""
    assert "num_turns=agent_data.user_turns + agent_data.assistant_turns + 1" in source(ToolAgentLoop.run)
    tools = source(ToolAgentLoop._handle_processing_tools_state)
    full, merged, counted = "if len(response_mask) >= self.response_length:", "response_mask = ", "user_turns += 1"
    assert tools.index(full) < tools.index(f"agent_data.{merged}") < tools.index(f"agent_data.{counted}")
    turn = source(ToolAgentLoop._handle_generating_state)
    assert turn.count("assistant_turns += 1") == turn.count("ct_merge_assistant_token(") == 1


def test_all_sessions_of_a_prompt_run_in_one_worker() -> None:
    """group.RunningGroup gathers them there. Upstream means to dispatch sessions one by one: when this fails, what a
    group has must be gathered across workers, as the coordinator gathers its decisions."""
    prompt = source(WORKER._run_prompt)
    assert prompt.index("for i in range(n):") < prompt.index("self._run_agent_loop(") < prompt.index("session_id=i")


def test_scoring_takes_outputs_and_the_fields_of_the_sample() -> None:
    """rollout._score calls it so. Upstream means to add an argument: when this fails, pass it on there."""
    assert parameters(WORKER._compute_score) == ["self", "outputs", "kwargs"]


def test_verls_sync_trainer_is_compared_by_name() -> None:
    """So our trainers run under the names of verl's."""
    for method in ("_build_replay_buffer", "_reissue_inflight_prompts"):
        assert 'self.trainer_mode == "sync"' in source(getattr(PPOTrainer, method))
    assert "self.config.trainer.v1.get(self.trainer_mode, {})" in source(PPOTrainer.__init__)


def test_verls_trainers_have_the_hooks_and_the_settings_of_their_modes(verl_defaults: DictConfig) -> None:
    assert set(modes.MODES) == set(verl_defaults.trainer.v1) - {"trainer_mode", "sampler"}
    for theirs in (PPOTrainerSync, PPOTrainerColocateAsync, PPOTrainerSeparateAsync):
        for hook in ("on_train_begin", "on_step_end"):
            assert parameters(getattr(theirs, hook)) == ["self"]
        for inherited in ("step", "_balance_batch", "_compute_advantage", "_update_actor", "_compute_metrics"):
            assert getattr(theirs, inherited) is getattr(PPOTrainer, inherited)


def test_a_step_of_verl_has_several_batches() -> None:
    """trainer.py gathers their rows, and writes the trace after the last."""
    step = source(PPOTrainer.step)
    assert "for trigger_idx in range(self.parameter_sync_step):" in step
    assert "self.local_trigger_step = trigger_idx" in step
    assert "sample_batch_size = train_batch_size // self.parameter_sync_step" in step


def test_what_replaces_failed_groups_goes_through_the_trainer() -> None:
    """trainer._add_prompts_to_generate counts the failures there, because verl would replace failed groups for ever."""
    assert "refill_fn=self._add_prompts_to_generate" in source(PPOTrainer._build_replay_buffer)
    assert "self.refill_fn(len(evicted_uids))" in source(ReplayBufferAsync.wait_for_sampleable)
    assert parameters(ReplayBuffer.sample) == ["self", "global_steps", "partition_id", "batch_size"]


def test_an_aborted_request_continues_with_what_it_had() -> None:
    """turn_client.py sends a prefix as part of the prompt, so that each resumption has it and no answer does."""
    generate = source(FullyAsyncLLMServerClient.generate)
    assert "prompt_ids=prompt_ids + final_output.token_ids" in generate
    assert "sampling_params[limit_key] = original_max_tokens - len(final_output.token_ids)" in generate
    for theirs in (PPOTrainerColocateAsync, PPOTrainerSeparateAsync):
        assert "client_cls=FullyAsyncLLMServerClient" in source(theirs.get_llm_client)


def test_the_engine_says_which_weights_a_request_was_answered_with() -> None:
    """turn_client.py reads them, and the trace has them."""
    for client in (LLMServerClient, FullyAsyncLLMServerClient):
        assert all(f'"{end}_global_steps"' in source(client.generate) for end in ("min", "max"))
    row = source(WORKER._agent_loop_postprocess)
    assert all(f'field["extra_fields"].get("{end}_global_steps")' in row for end in ("min", "max"))


def test_completion_replaces_verls_defaults_and_nothing_else(verl_defaults: DictConfig) -> None:
    needs = needed_by(verl_defaults)
    got = {needed.key: OmegaConf.select(verl_defaults, needed.key) for needed in needs}
    replaced = {needed.key: (needed.value, *needed.replaces, *needed.supersedes) for needed in needs}
    assert not [key for key, values in replaced.items() if got[key] not in values]


# Not in verl's config: what a reward manager, a reward function or `ray.init` takes
NOT_VERLS = ("reward.reward_kwargs.", "reward.custom_reward_function.reward_kwargs.", "algorithm.axpo.")
NOT_VERLS += ("ray_kwargs.ray_init.num_gpus",)


# Values with which a rule goes on to its second key
DEEPER = {
    "actor_rollout_ref.actor.strategy": "megatron",
    "actor_rollout_ref.actor.loss_agg_mode": "seq-mean-token-sum-norm",
    "reward.reward_model.enable": True,
    "trainer.v1.trainer_mode": "separate_async",
    "reward.custom_reward_function.path": conflicts.OUR_REWARDS[0],
}


def test_every_key_that_a_rule_reads_is_verls(verl_defaults: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """If verl renames a key, the rule that reads it would silently stop working."""
    config, select = verl_defaults.copy(), OmegaConf.select
    for key, value in DEEPER.items():
        OmegaConf.update(config, key, value)
    asked: list[str] = []
    monkeypatch.setattr(OmegaConf, "select", lambda node, key, **how: (asked.append(key), select(node, key, **how))[1])
    list(conflicts.conflicts(config, AxpoConfig()))
    assert len(asked) > 30
    read = [key.rpartition(".") for key in asked if not key.startswith(NOT_VERLS)]
    parents = {parent: select(verl_defaults, parent) if parent else verl_defaults for parent, _, _ in read}
    assert [(parent, name) for parent, _, name in read if name not in list(parents[parent] or ())] == []


def test_vllm_reads_a_long_prompt_in_parts_of_the_size_that_is_set() -> None:
    """completion.py bounds the memory of a scoring request so; verl hands `engine_kwargs` to the engine as they are."""
    from verl.workers.rollout.vllm_rollout import vllm_async_server
    from vllm.v1.core.sched.scheduler import Scheduler

    assert "if 0 < threshold < num_new_tokens:" in source(Scheduler.schedule)
    assert "**engine_kwargs," in source(vllm_async_server)


def test_every_config_passes_the_seam_before_anything_starts() -> None:
    text = source(main_ppo.main.__wrapped__ if hasattr(main_ppo.main, "__wrapped__") else main_ppo.main)
    assert text.index("validate_config(") < text.index("run_ppo(")
    assert main_ppo.validate_config is verl_config.validate_config
    assert getattr(main_ppo.validate_config, "wrapped_by_axpo", False)


def test_rows_that_the_reward_cannot_grade_stop_at_the_seam(verl_defaults: DictConfig, tmp_path: Path) -> None:
    rows = [{"data_source": "s", "extra_info": {"answer_type": "judge"}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    config = verl_defaults.copy()
    config.algorithm.adv_estimator = "axpo"
    config.actor_rollout_ref.rollout.n = 8
    config.data.train_files = str(tmp_path / "train.parquet")
    config.reward.custom_reward_function.path = "pkg://verl_axpo.rewards.outcome"
    with pytest.raises(ValueError, match="only a judge can grade 1 of its 1 rows, and none is configured"):
        main_ppo.validate_config(config, use_reference_policy=False, use_critic=False)


def test_the_seam_is_still_needed() -> None:
    """The patch of validate_config can go when verl lets a plugin see the config: then this test fails."""
    assert "plugin" not in source(main_ppo)


def test_vllm_never_samples_an_image_placeholder() -> None:
    """Otherwise a policy could write a placeholder, and its row would have more image tokens than features."""
    from verl.workers.rollout.vllm_rollout import vllm_async_server

    assert '"banned_token_ids": get_vision_placeholder_token_ids(' in source(vllm_async_server)


def test_rollout_trace_still_leaves_it_to_us_which_sessions_are_traced() -> None:
    """`integration/rollout_trace.py`: verl asks for no trace, and gives each session of a question the same number."""
    assert "trace_this_sample = False" in source(WORKER.generate_sequences)
    assert "trace=trace, session_id=i" in source(WORKER._run_prompt)
    assert "rollout_trace_attr(" in source(AgentLoopWorker._run_agent_loop)
    assert parameters(rollout_trace_attr) == ["sample_index", "step", "rollout_n", "name", "validate", "trace"]
    settings = RolloutTraceConfig.get_instance()
    assert settings.backend is None
    assert settings.max_samples_per_step_per_worker is None


def test_verl_traces_a_trajectory_and_each_request_and_ours_what_overrides_a_traced_method() -> None:
    traced = [
        ToolAgentLoop.run,
        LLMServerClient.generate,
        FullyAsyncLLMServerClient.generate,
        AxpoToolAgentLoop._call_tool,
        ThinkAwareToolParser.extract_tool_calls,
    ]
    assert all(inspect.unwrap(method) is not method for method in traced)


def test_tracking_gives_its_loggers_by_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`integration/example_trees.py` puts trees and pictures where verl puts the metrics."""
    monkeypatch.setenv("TENSORBOARD_DIR", str(tmp_path))
    tracking = Tracking("project", "run", ["tensorboard", "console"])
    assert callable(tracking.logger["tensorboard"].writer.add_text)
    assert callable(tracking.logger["tensorboard"].writer.add_image)
    tracking.finish()
    words = source(Tracking.__init__)
    assert 'self.logger["wandb"] = wandb' in words
    assert 'self.logger["mlflow"] = _MlflowLoggingAdapter()' in words
    assert 'self.logger["trackio"] = _TrackioLoggingAdapter(trackio)' in words
    assert "self.logger = Tracking(" in source(PPOTrainer.fit)
