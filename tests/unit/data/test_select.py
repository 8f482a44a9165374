"""Which trajectories and which problems are chosen, with the numbers of each step worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from verl_axpo.data import select_rl, select_sft
from verl_axpo.data.problem import Problem
from verl_axpo.data.rollouts import Attempt, RolloutFiles, Solved, solve_counts
from verl_axpo.data.select_rl import RlConfig
from verl_axpo.data.select_sft import SftConfig
from verl_axpo.data.stage import Selection


def attempt(problem: str, sample: int, correct: bool | None = True, tools: int = 0, model: str = "teacher") -> Attempt:
    return Attempt(problem_id=problem, model=model, sample=sample, correct=correct, tool_calls=tools)


def problem(name: str, source: str = "virl39k") -> Problem:
    return Problem(id=name, source=source, question="why?", answer="x", answer_type="short_text")


def write(path: Path, rows: list[dict[str, Any]], torn: bool = False) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text[:-2] if torn else text)
    return path


LINE: dict[str, Any] = {"problem_id": "p", "model": "m", "sample": 0, "correct": True, "tool_calls": 1}


# --- rollouts -------------------------------------------------------------------------------------------------------


def test_rollouts_are_counted_once_and_a_torn_line_not_at_all(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", [LINE, {**LINE, "sample": 1, "correct": False}])
    second = write(
        tmp_path / "b.jsonl", [LINE, {**LINE, "sample": 2, "correct": None}, {**LINE, "sample": 3}], torn=True
    )
    attempts = list(RolloutFiles([first, second]).attempts())
    assert [attempt.sample for attempt in attempts] == [0, 1, 2]
    # sample 2 was not scored, sample 3 is torn: one right of two
    assert solve_counts(attempts, "m") == {"p": Solved(1, 2)}
    assert solve_counts(attempts, "other") == {}


def test_turns_are_read_where_they_lie_in_any_order(tmp_path: Path) -> None:
    rows = [{**LINE, "sample": k, "turns": [{"role": "assistant", "content": f"ä{k}"}]} for k in range(3)]
    files = RolloutFiles([write(tmp_path / "a.jsonl", rows)])
    attempts = list(files.attempts())
    assert [attempt.turns[0].content for attempt in files.read(reversed(attempts))] == ["ä2", "ä1", "ä0"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {**LINE, "correct": "maybe"},
            "a.jsonl line 2: correct: got 'maybe', expected: Input should be a valid boolean",
        ),
        ({**LINE, "sample": -1}, "line 2: sample: got -1, expected: Input should be greater than or equal to 0"),
        ({"problem_id": "p"}, "line 2: model: missing; sample: missing; correct: missing; tool_calls: missing"),
    ],
)
def test_a_line_that_is_no_rollout_is_named(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        list(RolloutFiles([write(tmp_path / "a.jsonl", [LINE, row])]).attempts())


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{\n")
    with pytest.raises(ValueError, match=r"a.jsonl line 1: is no JSON"):
        list(RolloutFiles([tmp_path / "a.jsonl"]).attempts())


# --- SFT ------------------------------------------------------------------------------------------------------------


def chosen(attempts: list[Attempt], **config: Any) -> Selection[Attempt]:
    return select_sft.select(attempts, SftConfig(val=0, **config))


def shares(selection: Selection[Attempt]) -> tuple[int, int]:
    """Trajectories without and with a tool call."""
    with_tool = sum(attempt.tool_calls > 0 for attempt in selection.train)
    return len(selection.train) - with_tool, with_tool


def test_problems_solved_both_ways_go_to_the_kind_that_is_short() -> None:
    # 4 problems solved without a tool only, 4 both ways; a quarter of 8 is 2, so two of the four go to the tool
    attempts = [attempt(f"plain{k}", 0) for k in range(4)]
    attempts += [attempt(f"both{k}", sample, tools=sample) for k in range(4) for sample in (0, 1)]
    selection = chosen(attempts)
    assert shares(selection) == (6, 2)
    assert len({attempt.problem_id for attempt in selection.train}) == 8
    assert selection.numbers == {
        "trajectories": 12,
        "unscored": 0,
        "wrong": 0,
        "dropped_not_ended": 0,
        "not_for_sft": 0,
        "dropped_too_long": 0,
        "correct": 12,
        "correct_tool_share": 0.3333,
        "dropped_per_problem_cap": 4,
        "dropped_tool_share": 0,
        "selected": 8,
        "selected_tool_share": 0.25,
        "selected_most_tokens": None,
        "problems_attempted": 8,
        "problems_solved": 8,
        "problems_selected": 8,
        "val_problems": 0,
    }


@pytest.mark.parametrize(
    ("plain", "tool", "expected"),
    [
        (9, 9, (9, 3)),  # 9 without allow 9 x 0.25 / 0.75 = 3 with
        (30, 5, (15, 5)),  # 5 with allow 5 x 0.75 / 0.25 = 15 without
        (3, 1, (3, 1)),
    ],
)
def test_the_surplus_of_one_kind_is_dropped(plain: int, tool: int, expected: tuple[int, int]) -> None:
    attempts = [attempt(f"p{k}", 0) for k in range(plain)] + [attempt(f"t{k}", 0, tools=2) for k in range(tool)]
    assert shares(chosen(attempts)) == expected
    assert shares(chosen(attempts, tool_share=None)) == (plain, tool)


def test_only_correct_trajectories_and_not_more_than_the_cap() -> None:
    attempts = [attempt("p", k, correct=k != 1, tools=k % 2) for k in range(6)] + [attempt("p", 6, correct=None)]
    selection = chosen(attempts, tool_share=None, per_problem=4)
    assert len(selection.train) == 4
    assert all(attempt.correct for attempt in selection.train)
    assert (selection.numbers["wrong"], selection.numbers["unscored"], selection.numbers["correct"]) == (1, 1, 5)


def test_what_is_too_long_for_sft_makes_room_for_a_shorter_one() -> None:
    def of(problem: str, sample: int, prompt: int, response: int) -> Attempt:
        return attempt(problem, sample).model_copy(update={"prompt_tokens": prompt, "response_tokens": response})

    # 60 + 40 is just short enough; p also has a shorter attempt, q does not
    attempts = [of("p", 0, 60, 41), of("p", 1, 60, 40), of("q", 0, 20, 500), of("r", 0, 30, 20)]
    selection = chosen(attempts, tool_share=None, max_tokens=100)
    assert {attempt.key[::2] for attempt in selection.train} == {("p", 1), ("r", 0)}
    numbers = selection.numbers
    assert (numbers["dropped_too_long"], numbers["correct"], numbers["selected_most_tokens"]) == (2, 2, 100)
    assert chosen(attempts, tool_share=None).numbers["dropped_too_long"] == 0
    with pytest.raises(ValueError, match=r"none of the 4 trajectories is correct and of at most 49 tokens"):
        chosen(attempts, tool_share=None, max_tokens=49)
    with pytest.raises(ValueError, match=r"1 correct trajectories have no number of tokens; .*collect` again"):
        chosen([*attempts, attempt("s", 0)], tool_share=None, max_tokens=100)


def test_the_same_seed_chooses_the_same_in_whatever_order_the_lines_come() -> None:
    attempts = [attempt(f"p{k}", sample, tools=sample) for k in range(20) for sample in (0, 1)]
    assert chosen(attempts) == chosen(attempts[::-1])
    assert chosen(attempts) != chosen(attempts, seed=1)


def test_held_out_problems_share_no_trajectory_with_training() -> None:
    attempts = [attempt(f"p{k}", sample) for k in range(10) for sample in range(3)]
    selection = select_sft.select(attempts, SftConfig(tool_share=None, per_problem=3, val=4))
    held_out = {attempt.problem_id for attempt in selection.val}
    assert (len(held_out), len(selection.val), len(selection.train)) == (4, 12, 18)
    assert not held_out & {attempt.problem_id for attempt in selection.train}


@pytest.mark.parametrize(
    ("attempts", "told"),
    [
        ([attempt("p", 0, correct=False)], "none of the 1 trajectories is correct"),
        ([attempt("p", 0)], "tool_share: none of the 1 correct trajectories has a tool call"),
        ([attempt("p", 0, tools=1)], "tool_share: each of the 1 correct trajectories has a tool call"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(attempts: list[Attempt], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        chosen(attempts)


def test_more_held_out_than_solved_is_refused() -> None:
    with pytest.raises(ValueError, match=r"only 1 problems were solved, and --val 1 holds that many out"):
        select_sft.select([attempt("p", 0)], SftConfig(tool_share=None, val=1))


# --- RL -------------------------------------------------------------------------------------------------------------

TEACHER = {"fails": Solved(0, 4), "untaught": Solved(1, 4), "easy": Solved(4, 4), "good": Solved(2, 4)}
STUDENT = {"easy": Solved(4, 4), "good": Solved(3, 4), "untaught": Solved(0, 4)}
PROBLEMS = [problem(name) for name in ("fails", "untaught", "easy", "good")]
HARD = [problem(f"hard{k}", "mmfinereason") for k in range(5)]
TAUGHT = {"easy", "good"}


def filtered(problems: list[Problem] = PROBLEMS, **config: Any) -> Selection[Problem]:
    return select_rl.select(problems, HARD, TAUGHT, TEACHER, STUDENT, RlConfig(**{"val": 0, "hard": 3, **config}))


def test_the_funnel() -> None:
    selection = filtered()
    assert {problem.id for problem in selection.train if problem.source == "virl39k"} == {"good"}
    assert selection.numbers == {
        "problems": 4,
        "dropped_teacher_fails_all": 1,
        "dropped_not_in_sft": 1,
        "dropped_sft_model_solves_all": 1,
        "undecided": 0,
        "dropped_undecided": 0,
        "kept": 1,
        "hard_available": 5,
        "hard_drawn": 3,
        "total": 4,
        "train": 4,
        "val": 0,
        "by_source": selection.numbers["by_source"],
        "by_answer_type": {"short_text": 4},
        "without_image": 4,
    }
    assert selection.numbers["by_source"] == {"virl39k": 1, "mmfinereason": 3}


def test_the_hard_set_is_drawn_by_seed_or_taken_whole() -> None:
    assert filtered() == filtered()
    draws = {frozenset(problem.id for problem in filtered(seed=seed).train) for seed in range(8)}
    assert len(draws) > 1
    assert filtered(hard=None).numbers["hard_drawn"] == 5


def test_held_out_and_training_problems_are_disjoint() -> None:
    selection = filtered(val=2)
    assert (len(selection.val), len(selection.train)) == (2, 2)
    assert not {problem.id for problem in selection.val} & {problem.id for problem in selection.train}


@pytest.mark.parametrize(
    ("teacher", "student", "kept"),
    [
        (Solved(0, 3), Solved(1, 4), None),  # the fourth attempt could be right
        (Solved(1, 1), Solved(2, 3), True),  # one failure shows that it does not solve all
        (Solved(1, 1), Solved(3, 3), None),
        (Solved(1, 1), Solved(0, 0), None),
        (Solved(1, 1), Solved(4, 4), False),
    ],
)
def test_too_few_scored_attempts_decide_only_what_they_can(teacher: Solved, student: Solved, kept: bool | None) -> None:
    def run(undecided: Any) -> bool:
        config = RlConfig(val=0, hard=1, undecided=undecided, max_undecided=1.0)
        selection = select_rl.select([problem("p")], HARD, {"p"}, {"p": teacher}, {"p": student}, config)
        assert selection.numbers["undecided"] == (kept is None)
        assert selection.numbers["dropped_undecided"] == (kept is None and undecided == "drop")
        return "p" in {problem.id for problem in selection.train}

    if kept is None:
        with pytest.raises(
            ValueError, match=r"1 of 1 problems \(p, ...\) have too few scored attempts \(fewer than 4\) .*--undecided"
        ):
            run("error")
        assert run("keep")
        assert not run("drop")
    else:
        assert run("error") is kept


@pytest.mark.parametrize("undecided", ["keep", "drop"])
def test_more_undecided_problems_than_allowed_are_missing_attempts(undecided: Any) -> None:
    # 3 of 4 have no attempts of the student: 75 %
    student = {"easy": Solved(4, 4)}
    teacher = {problem.id: Solved(2, 4) for problem in PROBLEMS}

    def run(share: float) -> Selection[Problem]:
        config = RlConfig(val=0, hard=1, undecided=undecided, max_undecided=share)
        return select_rl.select(PROBLEMS, HARD, set(teacher), teacher, student, config)

    assert run(0.75).numbers["undecided"] == 3
    with pytest.raises(
        ValueError, match=r"3 of 4 problems \(fails, untaught, good, ...\) have too few .* at most 74.00% may"
    ):
        run(0.74)


def test_more_held_out_than_there_is_is_refused() -> None:
    with pytest.raises(ValueError, match=r"only 4 problems are left for RL, and --val 4 holds that many out"):
        filtered(val=4)


@pytest.mark.parametrize(
    ("kind", "config", "told"),
    [
        (RlConfig, {"undecided": "guess"}, r"undecided: got 'guess'; choose from \['error', 'keep', 'drop'\]"),
        (RlConfig, {"attempts": 0}, "got attempts=0"),
        (RlConfig, {"max_undecided": 2.0}, "max_undecided: got 2.0, expected a share between 0 and 1"),
        (SftConfig, {"max_tokens": 0}, "max_tokens: got 0, expected at least 1"),
        (SftConfig, {"tool_share": 1.0}, "tool_share: got 1.0, expected between 0 and 1"),
        (SftConfig, {"per_problem": 0}, "per_problem: got 0, expected at least 1"),
        (SftConfig, {"val": -1}, "val: got -1, expected 0 or more"),
    ],
)
def test_impossible_settings_are_refused(kind: Any, config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        kind(**config)


# --- demonstrations end by themselves, and every rule's drops are told -----------------------------------------------


@pytest.mark.parametrize(
    ("last", "noted", "ended"),
    [
        ("so</think><answer>1</answer>\n", {}, True),
        ("so</think><answer>1</answer> Wait, let me", {}, False),
        ("so <answer>1</answer>", {}, True),
        ("so</think><tool_call>{}</tool_call>", {}, False),
        ("so</think><tool_call>{}</tool_call><answer>1</answer>", {}, False),
        ("so</think><answer>1</answer>", {"ended": False}, False),
        ("so</think>It is 1.", {"ended": True}, True),
    ],
)
def test_an_attempt_that_did_not_end_by_itself_is_no_demonstration(
    tmp_path: Path, last: str, noted: dict[str, Any], ended: bool
) -> None:
    turns = [{"role": "assistant", "content": last}]
    rows = [{**LINE, "tool_calls": 0, "turns": turns, **noted}, {**LINE, "problem_id": "q", "tool_calls": 0}]
    attempts = list(RolloutFiles([write(tmp_path / "a.jsonl", rows)]).attempts())
    selection = chosen(attempts, tool_share=None)
    assert {attempt.problem_id for attempt in selection.train} == ({"p", "q"} if ended else {"q"})
    assert selection.numbers["dropped_not_ended"] == (not ended)
    assert selection.examples == ({} if ended else {"dropped_not_ended": ["trajectory 0 of m on p"]})


def test_each_rule_names_the_first_few_that_it_dropped() -> None:
    attempts = [attempt("p", k, correct=False) for k in range(5)] + [attempt("p", k) for k in range(5, 7)]
    selection = chosen(attempts, tool_share=None)
    assert selection.examples["wrong"] == [f"trajectory {k} of teacher on p" for k in range(3)]
    assert len(selection.examples["dropped_per_problem_cap"]) == 1
    assert filtered().examples == {"teacher_fails": ["fails"], "not_in_sft": ["untaught"], "student_solves": ["easy"]}
