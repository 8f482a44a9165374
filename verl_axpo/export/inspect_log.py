"""A training's step or an evaluation as a log of Inspect, which `inspect view` opens and `read_eval_log` reads.

    trace, or an evaluation's folder -> exchange.Conversation -> EvalSample each -> EvalLog -> FILE.eval

A question is a sample, and each of its rollouts and continuations an epoch of it. `inspect_ai` is the extra `inspect`;
its own models are filled and its own writer writes.
"""

import base64
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import count
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
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    Content,
    ContentImage,
    ContentReasoning,
    ContentText,
    ModelOutput,
)
from inspect_ai.scorer import CORRECT, INCORRECT, Score
from inspect_ai.tool import ToolCall, ToolCallError

import verl_axpo
from verl_axpo.core.types import Status
from verl_axpo.eval.manifest import read_manifest
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Question, RolloutRecord, bytes_hash
from verl_axpo.export.exchange import Conversation, of_record, of_rollout
from verl_axpo.files import inside
from verl_axpo.images import ImageRefused, plain_file
from verl_axpo.report.viewer import OPENING_TAG, split_at_call
from verl_axpo.rewards.answer import final_answer
from verl_axpo.trace import TracedStep, TrajectoryRecord
from verl_axpo.trace.records import ToolCall as MadeCall

REWARD, VERDICT = "reward", "correct"  # names of the scores


def write(log: EvalLog, out: Path) -> None:
    """Write the log; `.eval` is Inspect's compressed format, `.json` its plain one."""
    write_eval_log(log, str(out), format="json" if out.suffix == ".json" else "eval")


def training_log(step: TracedStep, trace_dir: Path, run: str) -> EvalLog:
    """A step of a training: the reward as score, and what AXPO decided in each sample's metadata."""
    samples = [_trained(record, trace_dir) for record in step.records]
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
        score = store.scores.get(rollout.key)
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


def _trained(record: TrajectoryRecord, trace_dir: Path) -> EvalSample:
    answer = final_answer(record.text)
    score = Score(value=record.reward, answer=answer, metadata={"advantage": record.advantage})
    metadata = {
        "kind": record.kind,
        "step": record.step,
        "uid": record.uid,
        "session": record.session,
        "source": record.source_session,
        "selected": record.selected,
        "status": record.status.value,
        "reward": record.reward,
        "advantage": record.advantage,
        "advantage_prefix": record.advantage_prefix,
        "recovery": record.recovery,
        "confidence": record.confidence,
        "entropy": record.entropy,
        "prefix": split_at_call(record)[0] if record.uses_tool else None,
        "prefix_len": record.prefix_len,
        "response_tokens": len(record.response_ids),
        "num_turns": record.num_turns,
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
    asked: list[ChatMessage] = [ChatMessageSystem(content=system)] if system else []
    asked.append(
        ChatMessageUser(content=[*_pictures(conversation.images, folder), ContentText(text=conversation.question)])
    )
    turns = list(_turns(conversation, folder))
    last = next((turn for turn in reversed(turns) if isinstance(turn, ChatMessageAssistant)), None)
    return EvalSample(
        id=identity.replace("/", "_"),  # it names a file in the log
        epoch=epoch,
        input=asked,
        target=target,
        messages=[*asked, *turns],
        output=ModelOutput.from_content("policy", last.text) if last else ModelOutput(),
        scores=score or None,
        metadata=metadata,
        started_at=_time(times[0]),
        completed_at=_time(times[1]),
        total_time=times[1] - times[0],
    )


def _turns(conversation: Conversation, folder: Path) -> Iterator[ChatMessage]:
    numbers = count(1)
    for exchange in conversation.exchanges:
        calls = [(f"call_{next(numbers)}", call) for call in exchange.calls]
        yield ChatMessageAssistant(
            content=_spoken(exchange.text, called=bool(calls)),
            tool_calls=[_call(identity, call) for identity, call in calls] or None,
        )
        for (identity, call), answer in zip(calls, exchange.answers, strict=False):
            yield ChatMessageTool(
                content=[ContentText(text=answer.text), *_pictures(answer.images, folder)],
                tool_call_id=identity,
                function=call.name,
                error=None if call.ok else ToolCallError("unknown", call.error or "failed"),
            )
        for answer in exchange.answers[len(calls) :]:  # to what was no call
            yield ChatMessageUser(content=[ContentText(text=answer.text), *_pictures(answer.images, folder)])


def _spoken(text: str, *, called: bool) -> list[Content]:
    """Thinking and words apart; a call that Inspect shows itself is left out."""
    thinking, closed, words = text.rpartition("</think>")
    if called and OPENING_TAG in words:
        words = words.partition(OPENING_TAG)[0]
    parts: list[Content] = []
    if closed:
        parts.append(ContentReasoning(reasoning=thinking.removeprefix("<think>").strip()))
    # Not an empty text: Inspect puts "(no content)" in its place
    return [*parts, *([ContentText(text=words.strip())] if words.strip() else [])]


def _call(identity: str, call: MadeCall) -> ToolCall:
    arguments = call.arguments if isinstance(call.arguments, dict) else {"raw": call.arguments}
    undecodable = None if call.name else call.error
    return ToolCall(id=identity, function=call.name or "undecodable", arguments=arguments, parse_error=undecodable)


def _pictures(paths: Sequence[str], folder: Path) -> list[Content]:
    """In the log itself, so that it can be sent elsewhere; one that is not there is named."""
    return [_picture(path, folder) for path in paths]


def _picture(path: str, folder: Path) -> Content:
    try:
        file = plain_file(inside(folder, path).read_bytes())
    except (OSError, ImageRefused, ValueError) as error:
        return ContentText(text=f"[no picture: {error}]")
    return ContentImage(image=f"data:{file.mime};base64,{base64.b64encode(file.data).decode()}")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat()
