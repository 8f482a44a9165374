"""Where RL starts: the SFT model's rollouts against the bands of docs/study/calibration.md. No RL result is read.

    python -m examples.tiny_world.calibration DIR      (calibrate.sh makes DIR)

DIR/rollouts/    N rollouts per held-out question (`verl-axpo eval run`) -> `figures`
DIR/sft/checkpoint, on a server -> CONTINUATIONS first calls from each of PREFIXES prefixes -> `intents`
        -> DIR/calibration.md, DIR/calibration.json

Each figure is a sum over questions divided by another, with the 95 % interval of a bootstrap over questions.
"""

import argparse
import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import openai

from examples.tiny_world.families import families, tools_of
from examples.tiny_world.model import MAX_LENGTH
from verl_axpo.agent.conversation import TextConversation
from verl_axpo.core.types import Status
from verl_axpo.eval.server import Serve, serving
from verl_axpo.eval.store import Store
from verl_axpo.eval.types import Key, Question, RolloutRecord
from verl_axpo.files import write_atomically
from verl_axpo.report.stats import DRAWS, LEVEL, SEED, Estimate
from verl_axpo.tools.paper_tools import paper_tools

# Figure -> lowest and highest of its band, written down before any trial
BANDS = {
    "tool use": (0.20, 0.35),
    "tool-using subgroups all wrong": (0.35, 0.45),
    "no-tool subgroups all wrong": (0.20, 0.30),
    "success of tool-using rollouts": (0.30, 0.40),
    "success of rollouts without a tool": (0.40, 0.50),
    "distinct first calls of a prefix": (2.0, 4.5),
    "prefixes with one and the same call": (0.20, 0.40),
}
PREFIXES, CONTINUATIONS = 96, 16  # the paper takes 16 continuations
CALL_TOKENS = 64  # of a call; the longest has about 15
OPENING, CLOSING = "<tool_call>", "</tool_call>"
# The chat template renders a turn so; the server cannot continue the few that the policy garbles
CLOSED = "</think>"
AS_RENDERED = f"\n{CLOSED}\n\n{OPENING}"

Counts = list[tuple[float, float]]  # of each question: what is counted, out of what


def ratio(counts: Counts) -> Estimate:
    """The sum of the first numbers over that of the second, with its interval over questions.

    Raises:
        ValueError: nothing to divide by.
    """
    values = np.array([pair for pair in counts if pair[1]], dtype=float)
    if not len(values):
        raise ValueError("calibration: no rollout of this kind; is this the SFT model?")
    draws = np.random.default_rng(SEED).integers(0, len(values), size=(DRAWS, len(values)))
    parts, wholes = values[draws].sum(axis=1).T
    low, high = np.quantile(parts / wholes, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    share = float(values[:, 0].sum() / values[:, 1].sum())
    return Estimate(value=share, at_most=share, low=float(low), high=float(high))


def figures(groups: Iterable[Sequence[tuple[bool, bool]]]) -> dict[str, Estimate]:
    """The first five figures.

    Args:
        groups: of each question its rollouts, as (right, uses a tool).
    """
    counts: dict[str, Counts] = {name: [] for name in list(BANDS)[:5]}
    for group in groups:
        used = [right for right, uses_tool in group if uses_tool]
        without = [right for right, uses_tool in group if not uses_tool]
        counts["tool use"].append((len(used), len(group)))
        counts["tool-using subgroups all wrong"].append((not any(used), bool(used)))
        counts["no-tool subgroups all wrong"].append((not any(without), bool(without)))
        counts["success of tool-using rollouts"].append((sum(used), len(used)))
        counts["success of rollouts without a tool"].append((sum(without), len(without)))
    return {name: ratio(pairs) for name, pairs in counts.items()}


def intents(calls: Iterable[Sequence[str]]) -> dict[str, Estimate]:
    """The last two figures, from the first calls that the continuations of each prefix made."""
    distinct = [len(set(of_prefix)) for of_prefix in calls]
    return {
        "distinct first calls of a prefix": ratio([(count, 1) for count in distinct]),
        "prefixes with one and the same call": ratio([(count == 1, 1) for count in distinct]),
    }


def read(folder: Path) -> tuple[dict[Key, Question], dict[Key, list[tuple[bool, bool]]], dict[Key, str]]:
    """Of each question (its key has rollout 0): the question, its rollouts, and the first prefix of a tool call."""
    store = Store(folder).load()
    names = [path.stem for path in sorted((folder / "questions").glob("*.jsonl"))]
    questions = {(name, question.uid, 0): question for name in names for question in store.questions(name)}
    groups: dict[Key, list[tuple[bool, bool]]] = {key: [] for key in questions}
    prefixes: dict[Key, str] = {}
    for record in store.rollouts():
        score, key = store.scores.get(record.key), (record.benchmark, record.uid, 0)
        if record.status is Status.INFRA_FAILURE or score is None:
            raise ValueError(f"{folder}: rollout {record.key} failed or has no score; run calibrate.sh again")
        groups[key].append((bool(score.correct), record.uses_tool))
        prefix = _prefix(record)
        if record.uses_tool and prefix.endswith(AS_RENDERED) and prefix.count(CLOSED) == 1:
            prefixes.setdefault(key, prefix)
    return questions, groups, prefixes


def _prefix(record: RolloutRecord) -> str:
    before, tag, _ = record.turns[0].text.partition(OPENING)
    return before + tag


def evenly(keys: Sequence[Key], number: int) -> list[Key]:
    """At most `number` of the keys, from all of them: sorted keys stand family by family."""
    number = min(number, len(keys))
    return [keys[at * len(keys) // number] for at in range(number)]


async def continuations(
    base_url: str, model: str, folder: Path, questions: Mapping[Key, Question], prefixes: Mapping[Key, str]
) -> dict[Key, list[str]]:
    """The first calls of CONTINUATIONS continuations of each prefix, as the policy wrote them."""
    client = openai.AsyncOpenAI(base_url=base_url, api_key="none")
    tools = paper_tools(tools_of(families()))

    async def sample(seed: int, question: Question, prefix: str) -> list[str]:
        images = [(folder / path).read_bytes() for path in question.image_paths]
        asked = TextConversation(question.prompt, images, tools)
        reply = await client.chat.completions.create(
            model=model,
            messages=[*asked.messages, {"role": "assistant", "content": prefix}],  # type: ignore[list-item]
            temperature=1.0,
            n=CONTINUATIONS,
            seed=seed,
            max_completion_tokens=CALL_TOKENS,
            stop=[CLOSING],
            extra_body={
                "tools": asked.schemas,
                "tool_choice": "none",
                "continue_final_message": True,
                "add_generation_prompt": False,
                "skip_special_tokens": False,
            },
        )
        return [choice.message.content or "" for choice in reply.choices]

    chosen = evenly(sorted(prefixes), PREFIXES)
    calls = await asyncio.gather(*(sample(at, questions[key], prefixes[key]) for at, key in enumerate(chosen)))
    return dict(zip(chosen, calls, strict=True))


def shown(name: str, number: Estimate) -> str:
    """A count as it is, a share in percent."""
    if name == "distinct first calls of a prefix":
        return f"{number.value:.2f} [{number.low:.2f}, {number.high:.2f}]"
    return str(number)


def table(measured: Mapping[str, Estimate]) -> str:
    """Figure, interval, band and verdict, as Markdown."""
    lines = ["| figure | measured [95 %] | band | inside |", "|---|---|---|---|"]
    for name, (low, high) in BANDS.items():
        number = measured[name]
        scale = 1 if name == "distinct first calls of a prefix" else 100
        band, inside = f"{scale * low:g} to {scale * high:g}", "yes" if low <= number.value <= high else "no"
        lines.append(f"| {name} | {shown(name, number)} | {band} | {inside} |")
    return "\n".join(lines) + "\n"


def calibrate(run: Path) -> str:
    """Measure everything of the SFT model of `run`; writes calibration.md and calibration.json, returns the former."""
    folder, model = run / "rollouts", str(run / "sft/checkpoint")
    questions, groups, prefixes = read(folder)
    serve = Serve(model=model, gpus=0, window=MAX_LENGTH)
    with serving(serve, run / "logs/calibration_server.log") as base_url:
        calls = asyncio.run(continuations(base_url, model, folder, questions, prefixes))
    measured = {**figures(groups.values()), **intents(calls.values())}
    of_family = {
        name: {
            **figures(group for key, group in groups.items() if key[0] == name),
            **intents(of_prefix for key, of_prefix in calls.items() if key[0] == name),
        }
        for name in sorted({key[0] for key in groups})
    }
    every = {"all": measured, **of_family}
    values = {name: {figure: asdict(number) for figure, number in of.items()} for name, of in every.items()}
    write_atomically(run / "calibration.json", json.dumps(values, indent=1).encode())
    text = table(measured)
    for name, of in of_family.items():
        text += f"\n{name}: " + ", ".join(f"{figure} {shown(figure, number)}" for figure, number in of.items()) + "\n"
    write_atomically(run / "calibration.md", text.encode())
    return text


def main() -> None:
    """Parse the command line, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    print(calibrate(parser.parse_args().run))


if __name__ == "__main__":
    main()
