"""An agent run's folder becomes attempts: verdicts joined, later lines win, pictures stored, odd ones only counted."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from examples.tiny_world.fixtures import encoded, picture
from verl_axpo.data.collect import collect
from verl_axpo.data.images import ImageStore
from verl_axpo.data.rollouts import Rollout, RolloutFiles
from verl_axpo.eval import versions
from verl_axpo.eval.types import bytes_hash

CALL = {"name": "image_zoom_in", "arguments": {}, "ok": True, "infra": False, "seconds": 0.1, "error": None}

NAMES = ("written", "correct", "infra_failures", "without_verdict", "not_for_sft", "not_ended", "bad_lines")
NOTHING = dict.fromkeys(NAMES, 0)


def run(uid: str, rollout: int = 0, status: str = "ok", turns: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A line of rollouts.jsonl."""
    told = turns if turns is not None else [turn("<think>\nso\n</think>\n\n<answer>1</answer>")]
    tokens = told[-1]["prompt_tokens"] - told[0]["prompt_tokens"] + told[-1]["completion_tokens"] if told else 0
    line = {"benchmark": "problems", "uid": uid, "rollout": rollout, "status": status, "answer": None, "error": None}
    return {**line, "uses_tool": False, "response_tokens": tokens, "turns": told, "started": 0.0, "finished": 1.0}


def turn(text: str, responses: list[dict[str, Any]] | None = None, unanswered: int = 0, **more: int) -> dict[str, Any]:
    calls = [CALL for _ in responses or ()]
    line = {"text": text, "calls": calls, "responses": responses or [], "unanswered": unanswered, "seconds": 1.0}
    return {**line, "finish_reason": "stop", "prompt_tokens": 10, "completion_tokens": 1, **more}


def score(uid: str, correct: bool | None, rollout: int = 0, version: str | None = None) -> dict[str, Any]:
    """A line of scores.jsonl; `write` adds the hash of the rollout's line."""
    verdict = {"correct": correct, "by": "rule", "reason": "", "values": {}}
    line = {"benchmark": "problems", "uid": uid, "rollout": rollout, "score": verdict}
    return {**line, "version": version or versions.scoring()}


def write(folder: Path, runs: list[dict[str, Any]], scores: list[dict[str, Any]], torn: str = "") -> None:
    of = {line["uid"]: bytes_hash(json.dumps(line).encode()) for line in runs}
    given = [{"of": of[line["uid"]], **line} for line in scores]
    for name, lines in (("rollouts.jsonl", runs), ("scores.jsonl", given)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)


def collected(folder: Path) -> tuple[dict[str, Any], dict[str, Rollout]]:
    numbers = collect(folder, "teacher", folder / "out.jsonl", ImageStore(folder / "store"))
    files = RolloutFiles([folder / "out.jsonl"])
    return numbers, {attempt.problem_id: attempt for attempt in files.read(list(files.attempts()))}


def test_turns_and_pictures_come_in_the_order_the_model_saw_them(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(encoded(picture("a")))
    call = turn("<think>\nlook\n</think>\n\n<tool_call>...</tool_call>", [{"text": "crop", "images": ["images/a.png"]}])
    write(tmp_path, [run("p", turns=[call, turn("done")])], [score("p", True)])
    numbers, found = collected(tmp_path)
    assert numbers == {**NOTHING, "written": 1, "correct": 1}
    rollout = found["p"]
    assert [(turn.role, turn.content) for turn in rollout.turns] == [
        ("assistant", call["text"]),
        ("tool", "<image>crop"),
        ("assistant", "done"),
    ]
    assert (rollout.tool_calls, rollout.correct, rollout.model) == (1, True, "teacher")
    assert ImageStore(tmp_path / "store").read(rollout.images[0]) == encoded(picture("a"))


def test_tokens_are_those_the_server_counted(tmp_path: Path) -> None:
    """Prompt 300; then 40 said, a picture and its frame of 210 shown, 60 said: 310 followed it."""
    two = [
        turn("look", prompt_tokens=300, completion_tokens=40),
        turn("done", prompt_tokens=550, completion_tokens=60),
    ]
    write(tmp_path, [run("p", turns=two), run("none", status="infra_failure", turns=[])], [score("p", True)])
    found = collected(tmp_path)[1]
    assert (found["p"].prompt_tokens, found["p"].response_tokens, found["p"].tokens) == (300, 310, 610)
    assert found["none"].tokens is None


def test_the_last_line_of_a_rollout_and_of_a_verdict_counts(tmp_path: Path) -> None:
    runs = [run("p", status="infra_failure", turns=[]), run("p"), run("q"), run("r", status="infra_failure"), run("s")]
    write(tmp_path, runs, [score("p", False), score("p", True), score("q", None)], torn='{"benchmark": "pro')
    numbers, found = collected(tmp_path)
    # r failed and needs no verdict, q's judge failed, s has none yet
    assert {name: attempt.correct for name, attempt in found.items()} == {"p": True, "q": None, "r": None}
    # the server failed in r: it did not end by itself
    expected = {"written": 3, "correct": 1, "infra_failures": 2, "without_verdict": 1, "not_for_sft": 1, "not_ended": 1}
    assert numbers == {**NOTHING, **expected}


def test_what_is_no_sft_row_still_counts(tmp_path: Path) -> None:
    (tmp_path / "thin.png").write_bytes(encoded(Image.new("RGB", (300, 2))))
    thin = turn("look", [{"text": "", "images": ["thin.png"]}])
    runs = [run("literal", turns=[turn("I see an <image>")]), run("thin", turns=[thin, turn("done")])]
    write(tmp_path, runs, [score("literal", True), score("thin", True)])
    numbers, found = collected(tmp_path)
    assert (numbers["correct"], numbers["not_for_sft"]) == (2, 2)
    assert [(attempt.trainable, attempt.turns, attempt.images) for attempt in found.values()] == [(False, (), ())] * 2


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (
            [{**run("p"), "turns": "none"}],
            r"line 1 is damaged and left out: .*Expected `array`, got `str` - at",
        ),
        ([{"uid": "p"}], r"line 1 is damaged and left out: .*missing required field `benchmark`"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path: Path, runs: list[dict[str, Any]], told: str) -> None:
    write(tmp_path, runs, [])
    with pytest.raises(ValueError, match=told):
        collected(tmp_path)


def test_a_folder_without_rollouts_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"rollouts.jsonl: no such file; expected the folder of an agent run"):
        collected(tmp_path)
    assert not (tmp_path / "out.jsonl").exists()


def test_what_a_limit_cut_or_left_calling_is_no_demonstration_however_right(tmp_path: Path) -> None:
    answered = turn("so\n</think>\n\n<answer>1</answer> Wait,")
    runs = [
        run("whole"),
        run("cut", status="truncated", turns=[answered]),
        run("calling", status="truncated", turns=[turn("look"), turn("<answer>1</answer><tool_call>", unanswered=1)]),
        run("calling_ok", turns=[turn("<answer>1</answer><tool_call>", unanswered=1)]),
    ]
    write(tmp_path, runs, [score(line["uid"], True) for line in runs])
    numbers, found = collected(tmp_path)
    assert [name for name, rollout in found.items() if rollout.trainable and rollout.ended] == ["whole"]
    assert (numbers["correct"], numbers["not_ended"]) == (4, 3)


def test_a_poison_line_and_a_lost_picture_cost_their_own_rollout(tmp_path: Path) -> None:
    lost = turn("look", [{"text": "", "images": ["images/lost.png"]}])
    write(tmp_path, [run("p"), run("lost", turns=[lost, turn("done")])], [score("p", True), score("lost", True)])
    for name in ("rollouts.jsonl", "scores.jsonl"):
        sound = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(b'{"benchmark": "pro{"benchmark"\n\xff\n[]\n' + sound)
    numbers, found = collected(tmp_path)
    assert {name: rollout.trainable for name, rollout in found.items()} == {"p": True, "lost": False}
    assert (numbers["correct"], numbers["bad_lines"]) == (2, 6)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "link/secret.png"])
def test_no_picture_of_a_rollout_lies_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(encoded(picture("a")))
    (folder / "link").symlink_to(tmp_path)
    looks = turn("look", [{"text": "", "images": [name]}])
    write(folder, [run("p", turns=[looks, turn("done")])], [score("p", True)])
    with pytest.raises(ValueError, match=r"got path .*(expected one inside|a link that leads out of)"):
        collected(folder)


def test_verdicts_of_two_versions_are_never_mixed(tmp_path: Path) -> None:
    old = versions.FIRST_SCORING
    write(
        tmp_path,
        [run("p"), run("q")],
        [score("p", False, version=old), score("q", True, version=old), score("p", True)],
    )
    with pytest.raises(ValueError, match=r"1 rollouts have verdicts of other rules only.*scores them without sampling"):
        collected(tmp_path)
    write(tmp_path, [run("p")], [score("p", False, version=old), score("p", True)])
    numbers, found = collected(tmp_path)
    assert (numbers["correct"], found["p"].scored_by) == (1, versions.scoring())
    line = json.loads((tmp_path / "out.jsonl").read_text())
    (tmp_path / "out.jsonl").write_text(json.dumps({**line, "scored_by": old}) + "\n")
    with pytest.raises(ValueError, match="its verdict is of other rules"):
        list(RolloutFiles([tmp_path / "out.jsonl"]).attempts())


def test_a_verdict_that_nobody_could_give_hides_none(tmp_path: Path) -> None:
    write(tmp_path, [run("p")], [score("p", True), score("p", None)])
    numbers, _ = collected(tmp_path)
    assert (numbers["correct"], numbers["infra_failures"]) == (1, 0)


def test_a_verdict_counts_for_the_line_that_it_was_given_on(tmp_path: Path) -> None:
    write(tmp_path, [run("p")], [{**score("p", True), "of": "another line's hash"}])
    assert collected(tmp_path)[0]["without_verdict"] == 1
