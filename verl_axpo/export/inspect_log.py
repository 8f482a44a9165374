"""A training's step or an evaluation as a log of Inspect, which `inspect view` opens and `read_eval_log` reads.

    trace, or an evaluation's folder -> exchange.Conversation -> EvalSample each -> EvalLog -> FILE.eval

A question is a sample, and each of its rollouts and continuations an epoch of it. `inspect_ai` is the extra `inspect`;
its own models are filled and its own writer writes.
"""

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import Any

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    write_eval_log,
)
from inspect_ai.model import ChatMessageAssistant, ModelOutput
from inspect_ai.scorer import CORRECT, INCORRECT, Score

import verl_axpo
from verl_axpo.core.types import Status
from verl_axpo.eval.manifest import JUDGE, read_manifest
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Question, RolloutRecord, bytes_hash
from verl_axpo.export.exchange import Conversation, of_record, of_rollout
from verl_axpo.export.inspect_messages import answered, asked
from verl_axpo.report.viewer import split_at_call
from verl_axpo.rewards.answer import final_answer
from verl_axpo.trace import TracedStep, TrajectoryRecord

REWARD, VERDICT = "reward", "correct"  # names of the scores
FACTS = (  # of a trajectory's record, which a sample's metadata has under the same names
    *("kind", "step", "uid", "session", "selected", "reward", "advantage", "advantage_prefix", "recovery"),
    *("confidence", "entropy", "prefix_len", "num_turns"),
)


def write(log: EvalLog, out: Path) -> None:
    """Write the log; `.eval` is Inspect's compressed format, `.json` its plain one."""
    write_eval_log(log, str(out), format="json" if out.suffix == ".json" else "eval")


def training_log(step: TracedStep, trace_dir: Path, run: str) -> EvalLog:
    """A step of a training: the reward as score, and what AXPO decided in each sample's metadata."""
    opened = bool(step.summary and step.summary.starts_in_think)
    samples = [_trained(record, trace_dir, starts_in_think=opened) for record in step.records]
    rewards = {
        "rollouts": [record.reward for record in step.records if _counts(record) and record.source_session is None],
        "continuations": [
            record.reward for record in step.records if _counts(record) and record.source_session is not None
        ],
    }
    metrics = {f"mean of {kind}": fmean(values) for kind, values in rewards.items() if values}
    known = {} if step.summary is None else {"metrics": dict(step.summary.metrics)}
    return _log(samples, f"{run}, step {step.step}", run, REWARD, metrics, {"step": step.step, **known})


def evaluation_log(folder: Path) -> EvalLog:
    """An evaluation: the verdict as score; a rollout without one has no score."""
    manifest, store = read_manifest(folder), Store(folder).load()
    system = (manifest.prompt or {}).get("system")
    questions = {(name, question.uid): question for name in manifest.benchmarks for question in store.questions(name)}
    samples, verdicts = [], dict[str, list[float]]()
    for rollout in store.rollouts():
        score = store.verdict(rollout.key, has_judge=manifest.settings.get(JUDGE) is not None)
        question = questions[rollout.benchmark, rollout.uid]
        samples.append(_evaluated(rollout, question, score, folder, system))
        if score is not None and score.correct is not None and rollout.status is not Status.INFRA_FAILURE:
            verdicts.setdefault(rollout.benchmark, []).append(float(score.correct))
    metrics = {f"accuracy of {name}": fmean(values) for name, values in verdicts.items()}
    model = Path(str(manifest.settings.get("model", "unknown"))).name
    return _log(samples, folder.resolve().name, model, VERDICT, metrics, {"settings": dict(manifest.settings)})


def _counts(record: TrajectoryRecord) -> bool:
    return record.status is not Status.INFRA_FAILURE


def _log(
    samples: Sequence[EvalSample],
    task: str,
    model: str,
    score: str,
    metrics: dict[str, float],
    metadata: dict[str, Any],
) -> EvalLog:
    ids = list(dict.fromkeys(str(sample.id) for sample in samples))
    times = [time for sample in samples for time in (sample.started_at, sample.completed_at) if time]
    began, ended = min(times, default=_time(0)), max(times, default=_time(0))
    scored = sum(bool(sample.scores) for sample in samples)
    told = {name: EvalMetric(name=name, value=value) for name, value in metrics.items()}
    scores = [EvalScore(name=score, scorer=score, scored_samples=scored, metrics=told)]
    identity = bytes_hash(f"{task} {began} {len(samples)}".encode())  # the same run exported again is the same log
    return EvalLog(
        status="success",
        eval=EvalSpec(
            eval_id=identity,
            run_id=identity,
            task_id=identity,
            created=began,
            task=task,
            dataset=EvalDataset(name=task, samples=len(ids), sample_ids=ids),
            model=model,
            config=EvalConfig(epochs=max((sample.epoch for sample in samples), default=1)),
            packages={"verl_axpo": verl_axpo.__version__},
            metadata=metadata,
        ),
        results=EvalResults(total_samples=len(samples), completed_samples=len(samples), scores=scores),
        stats=EvalStats(started_at=began, completed_at=ended),
        samples=list(samples),
    )


def _trained(record: TrajectoryRecord, trace_dir: Path, *, starts_in_think: bool) -> EvalSample:
    answer = final_answer(record.text, starts_in_think=starts_in_think)
    score = Score(value=record.reward, answer=answer, metadata={"advantage": record.advantage})
    metadata = {
        **{name: getattr(record, name) for name in FACTS},
        "source": record.source_session,
        "status": record.status.value,
        "prefix": split_at_call(record)[0] if record.uses_tool else None,
        "response_tokens": len(record.response_ids),
    }
    return _sample(
        f"{record.step:06d}-{record.uid}",
        record.session + 1,
        of_record(record),
        trace_dir,
        target=str(record.ground_truth),
        score={REWARD: score} if _counts(record) else {},
        metadata=metadata,
        times=(record.started, record.finished),
    )


def _evaluated(
    rollout: RolloutRecord, question: Question, verdict: Any, folder: Path, system: str | None
) -> EvalSample:
    scores = {}
    if verdict is not None and verdict.correct is not None:
        value = CORRECT if verdict.correct else INCORRECT
        scores[VERDICT] = Score(value=value, answer=rollout.answer, explanation=f"{verdict.by}: {verdict.reason}")
    metadata = {
        "benchmark": rollout.benchmark,
        "uid": rollout.uid,
        "rollout": rollout.rollout,
        "status": rollout.status.value,
        "uses_tool": rollout.uses_tool,
        "response_tokens": rollout.response_tokens,
        "error": rollout.error,
        **{f"question/{name}": value for name, value in question.metadata.items()},
    }
    return _sample(
        f"{rollout.benchmark}-{rollout.uid}",
        rollout.rollout + 1,
        of_rollout(rollout, question),
        folder,
        target=question.ground_truth,
        score=scores,
        metadata=metadata,
        times=(rollout.started, rollout.finished),
        system=system,
    )


def _sample(
    identity: str,
    epoch: int,
    conversation: Conversation,
    folder: Path,
    *,
    target: str,
    score: dict[str, Score],
    metadata: dict[str, Any],
    times: tuple[float, float],
    system: str | None = None,
) -> EvalSample:
    before, turns = asked(conversation, folder, system), list(answered(conversation, folder))
    last = next((turn for turn in reversed(turns) if isinstance(turn, ChatMessageAssistant)), None)
    return EvalSample(
        id=identity.replace("/", "_"),  # it names a file in the log
        epoch=epoch,
        input=before,
        target=target,
        messages=[*before, *turns],
        output=ModelOutput.from_content("policy", last.text) if last else ModelOutput(),
        scores=score or None,
        metadata=metadata,
        started_at=_time(times[0]),
        completed_at=_time(times[1]),
        total_time=times[1] - times[0],
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat()
