"""Problems through a real agent run and back: questions, tools, verdicts, rollouts, and both sets made of them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.tiny_world.fixtures import encoded, picture
from tests.unit.agent.scripted import MODEL, ScriptedServer
from verl_axpo import prompts
from verl_axpo.cli import main
from verl_axpo.data import parquet, questions
from verl_axpo.data.problem import Problem, write_problems
from verl_axpo.data.rollouts import RolloutFiles, Solved, solve_counts
from verl_axpo.data.workspace import Workspace

ANSWERS: dict[str, tuple[str, Any]] = {"math": ("1/2", "0.5"), "choice": ("B", "(B)"), "short_text": ("Sochi", "sochi")}


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    """A workspace with three problems, one of each type, and a hard one."""
    space = Workspace(tmp_path)
    image = space.store().add(encoded(picture("a"))).sha256

    def problem(name: str, source: str) -> Problem:
        kind: Any = name if name in ANSWERS else "math"
        return Problem(
            id=f"{source}/{name}",
            source=source,
            question=f"<image>\nscript:{name} (A) red (B) green",
            answer=ANSWERS[kind][0],
            answer_type=kind,
            images=(image,),
            aliases=("the city of Sochi",) if kind == "short_text" else (),
        )

    write_problems(space.dedup / "problems.jsonl", [problem(name, "s") for name in ANSWERS])
    write_problems(space.dedup / "hard.jsonl", [problem("hard", "mmfinereason")])
    return space


def verl_axpo(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    """The command, which must end well."""
    monkeypatch.setattr(sys, "argv", ["verl-axpo", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


def final(answer: str) -> dict[str, str]:
    return {"text": f"so\n</think>\n\n{prompts.answer(answer)}"}


def test_from_problems_over_an_agent_run_to_both_sets(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    call = prompts.tool_call("image_zoom_in", {"bbox_2d": [0, 0, 500, 500], "label": "x"})
    scripts = {
        "math": [{"text": f"look\n</think>\n\n{call}"}, final("0.5")],
        "choice": [final("(B)")],
        "short_text": [final("the city of Sochi")],
        "hard": [final("7")],
    }
    run, root = work.root / "run", work.root
    with ScriptedServer(scripts, root / "server") as server:
        options = (
            "--registry",
            "verl_axpo.data.questions",
            "--tools",
            "zoom",
            "--base-url",
            server.url,
            "--response-tokens",
            512,
        )
        sets = [f"--source={name}={root}" for name in questions.names()]
        verl_axpo(monkeypatch, "eval", "run", "--model", MODEL, "--out", run, "--rollouts", 4, *sets, *options)
    for model in ("teacher", "student"):
        verl_axpo(
            monkeypatch, "data", "collect", run, "--model", model, "--out", root / f"{model}.jsonl", "--work", root
        )
    attempts = list(RolloutFiles([root / "teacher.jsonl"]).attempts())
    assert solve_counts(attempts, "teacher") == {
        "s/math": Solved(4, 4),
        "s/choice": Solved(4, 4),
        "s/short_text": Solved(4, 4),
        "mmfinereason/hard": Solved(0, 4),
    }
    named = ("--tools", "zoom", "--teacher", "teacher", "--work", root, "--val", 0)
    verl_axpo(
        monkeypatch,
        "data",
        "sft",
        "--rollouts",
        root / "teacher.jsonl",
        "--tool-share",
        "none",
        "--max-tokens",
        110,
        *named,
    )
    numbers = json.loads((work.sft / "stage.json").read_text())["numbers"]
    # the scripted server counts 100 tokens before each turn and 10 in it
    assert (numbers["dropped_too_long"], numbers["selected"], numbers["selected_most_tokens"]) == (0, 3, 110)
    rows = {len(row["messages"]): row for row in parquet.iter_rows(work.sft / "train.parquet")}
    assert sorted(rows) == [3, 5]  # without and with the call and its crop
    assert [message["role"] for message in rows[5]["messages"]] == ["system", "user", "assistant", "tool", "assistant"]
    assert rows[5]["messages"][2]["content"] == f"<think>\nlook\n</think>\n\n{call}"
    assert rows[5]["messages"][3]["content"] == "<image>"
    assert len(rows[5]["images"]) == 2
    both = ("--rollouts", root / "teacher.jsonl", "--rollouts", root / "student.jsonl", "--student", "student")
    verl_axpo(monkeypatch, "data", "filter", *both, "--hard", -1, *named)
    numbers = json.loads((work.rl / "stage.json").read_text())["numbers"]
    # the "student" solves all three 4 of 4: the hard one is left
    assert (numbers["dropped_sft_model_solves_all"], numbers["kept"], numbers["train"]) == (3, 0, 1)


def test_a_judge_decides_what_is_its_own_and_is_asked_for_at_the_start(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def problem(name: str) -> Problem:
        return Problem(id=f"s/{name}", source="s", question=f"script:{name}", answer="a dog", answer_type="judge")

    write_problems(work.dedup / "problems.jsonl", [problem("other"), problem("same")])
    # the answer is part of what the judge is told, so that its script is the one that the answer names
    scripts = {
        "other": [final("hound script:verdict")],
        "same": [final("A dog.")],
        "verdict": [{"text": '{"reason": "a hound is one", "correct": true}'}],
    }
    out = work.root / "run"
    with ScriptedServer(scripts, work.root / "server") as server:
        fixed = ["--registry", "verl_axpo.data.questions", "--source", f"problems={work.root}", "--no-agent"]
        options = ["--benchmark", "problems", "--rollouts", 1, "--response-tokens", 512, "--base-url", server.url]
        words = ["eval", "run", "--model", MODEL, "--out", out, *fixed, *options]
        monkeypatch.setattr(sys, "argv", ["verl-axpo", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert "problems: no rule can decide about the answers to 2 of 2 questions" in " ".join(
            capsys.readouterr().out.split()
        )
        assert server.requests() == []
        judge = ["--judge-model", MODEL, "--judge-url", server.url, "--judge-key-env", ""]
        verl_axpo(monkeypatch, *words, *judge)
        assert len(server.requests()) == 2 + 1  # equal words need no judge
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    scores = {line["uid"]: line["score"] for line in lines}
    assert (scores["s/other"]["correct"], scores["s/other"]["by"]) == (True, "judge")
    assert scores["s/other"]["reason"] == "a hound is one"
    assert (scores["s/same"]["correct"], scores["s/same"]["by"]) == (True, "rule")


@pytest.mark.parametrize("kind", ANSWERS)
async def test_the_rewards_rules_score(kind: str, work: Workspace) -> None:
    asked = {question.answer_type: question for question in questions.load("problems", work.root)}
    right = await questions.score(asked[kind], ANSWERS[kind][1], None)  # type: ignore[index]
    assert (right.correct, right.by) == (True, "rule")
    assert (await questions.score(asked[kind], "C", None)).correct is False  # type: ignore[index]
    assert (await questions.score(asked[kind], None, None)).reason == "no final answer"  # type: ignore[index]


def test_a_limit_and_what_is_missing(work: Workspace) -> None:
    assert [problem.uid for problem in questions.load("problems", work.root, limit=2)] == ["s/math", "s/choice"]
    with pytest.raises(ValueError, match=r"problems: got 'easy'; choose from \['problems', 'hard'\]"):
        questions.load("easy", work.root)
    with pytest.raises(ValueError, match="problems: needs a source; pass --source problems=DIR"):
        questions.load("problems")
    with pytest.raises(FileNotFoundError):
        questions.load("hard", work.root / "elsewhere")
