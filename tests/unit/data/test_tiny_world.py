"""The tiny world: deterministic, disjoint, and hard exactly where it should be."""

import io
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from verl.tools.tool_registry import load_all_tools

from examples.tiny_world import model, teacher, tokenizer, world
from examples.tiny_world.__main__ import conversations, make, make_tokenizer
from examples.tiny_world.families import (
    HINT_RATE,
    NAMES,
    Family,
    Pair,
    Problem,
    families,
    look_alikes,
    perception,
    reasoning,
    search,
    split_pairs,
    tools_of,
)
from examples.tiny_world.preview import GAP_PX, PANEL_PX
from examples.tiny_world.tools import write_tools
from verl_axpo import prompts
from verl_axpo.data import parquet
from verl_axpo.rewards.outcome import compute_score
from verl_axpo.tools.crop import zoom
from verl_axpo.tools.paper_tools import paper_tools

TOOLS = tools_of(families())
COUNTS = {"train": 6, "val": 3, "heldout": 3, "sft_train": 8, "sft_val": 2}
CELL_AREA = perception.CELL_PX**2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make(folder, 0, COUNTS)
    return folder


def problems(split: str, count: int, seed: int = 0, names: Sequence[str] = ("perception",)) -> list[Problem]:
    return [example.problem for example in world.examples(split, count, seed, names)]


def test_the_same_seed_makes_the_same_files(made: Path, tmp_path: Path) -> None:
    make(tmp_path, 0, COUNTS)
    for split in COUNTS:
        assert pq.read_table(tmp_path / f"{split}.parquet") == pq.read_table(made / f"{split}.parquet")
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        assert (tmp_path / "model" / name).read_bytes() == (made / "model" / name).read_bytes()


def test_another_seed_makes_another_world() -> None:
    assert problems("train", 1)[0].images[0].tobytes() != problems("train", 1, seed=1)[0].images[0].tobytes()


def test_splits_share_no_problem() -> None:
    seen: set[tuple[str, bytes]] = set()
    for split in (*world.RL_SPLITS, *world.SFT_SPLITS):
        fresh = {(problem.question, problem.images[0].tobytes()) for problem in problems(split, 64)}
        assert len(fresh) == 64
        assert not seen & fresh
        seen |= fresh


def test_growing_a_split_keeps_its_beginning() -> None:
    assert [p.question for p in problems("train", 9)][:4] == [p.question for p in problems("train", 4)]


@pytest.mark.parametrize(("split", "count"), [("test", 1), ("train", -1)])
def test_impossible_splits_are_refused(split: str, count: int) -> None:
    with pytest.raises(ValueError, match="got"):
        list(world.examples(split, count, 0))


def test_glyphs_cannot_be_told_apart_at_the_models_resolution() -> None:
    views = []
    for glyph in perception.GLYPHS:
        picture = torch.from_numpy(np.array(perception.draw({5: ("red", glyph)}))).permute(2, 0, 1)
        views.append(resize(picture, [model.VIEW_PX] * 2, InterpolationMode.BICUBIC, antialias=True).int())
    # Of 255 grey levels; what is left is rounding.
    assert max((a - b).abs().max().item() for a, b in pairwise([*views, views[0]])) <= 2


def test_the_right_box_shows_the_glyph_and_no_other_frame_has_it() -> None:
    for problem in problems("heldout", 32):
        glyphs, cell = problem.facts["glyphs"], problem.facts["cell"]
        crop = zoom(problem.images, perception.box_at(problem.numbers), min_pixels=CELL_AREA, max_pixels=CELL_AREA)
        inside = perception.MARGIN_PX + perception.FRAME_PX
        side = perception.CELL_PX - 2 * inside
        shown = np.array(crop)[inside : inside + side, inside : inside + side]
        assert (shown == np.array(perception._glyph(problem.answer, side))).all()
        assert [other for other, glyph in glyphs.items() if glyph == problem.answer] == [cell]


def test_every_cell_and_glyph_is_asked_for_equally_often() -> None:
    asked = [(problem.facts["cell"], problem.answer) for problem in problems("train", 1200)]
    # 75 per cell and 400 per glyph expected; five standard deviations are 42 and 82.
    assert all(abs(sum(cell == c for c, _ in asked) - 75) < 42 for cell in range(16))
    assert all(abs(sum(glyph == g for _, g in asked) - 400) < 82 for glyph in perception.GLYPHS)


@pytest.mark.parametrize("name", NAMES)
async def test_demonstrations_show_the_gap(name: str) -> None:
    """Rates of 3000 demonstrations, within five standard deviations (of about 3000, 800 and 2200 draws)."""
    tool, called, guessed, planned = [], [], [], []
    for example in world.examples("sft_train", 3000, 0, [name]):
        shown = example.demonstration()
        right = (await compute_score(f"tiny/{name}", shown.turns[-1]["content"], example.problem.answer))["score"]
        tool.append(len(shown.turns) > 1)
        (called if tool[-1] else guessed).append(right)
        if tool[-1]:
            planned.append(f"{example.family.DECIDES}." not in shown.turns[0]["content"])
    trust, hint = teacher.TRUST_RATE, HINT_RATE
    assert np.mean(tool) == pytest.approx(teacher.TOOL_RATE, abs=0.041)
    assert np.mean(called) == pytest.approx((1 - teacher.MISREAD_RATE) ** 2, abs=0.08)
    assert np.mean(planned) == pytest.approx(teacher.PLAN_RATE, abs=0.088)
    assert np.mean(guessed) == pytest.approx(hint * trust + (1 - hint) * (1 - trust) / 2, abs=0.054)


@pytest.mark.parametrize("misread", [0.0, 1.0])
async def test_another_rate_of_misreading_changes_calls_alone(misread: float) -> None:
    usual, other = world.examples("sft_train", 300, 0), world.examples("sft_train", 300, 0, misread=misread)
    calls = 0
    for example, changed in zip(usual, other, strict=True):
        shown, turns = example.demonstration().turns, changed.demonstration().turns
        assert changed.problem == example.problem
        assert len(turns) == len(shown)
        if len(turns) == 1:
            assert turns == shown
            continue
        calls += 1
        source, said = f"tiny/{example.family.NAME}", turns[-1]["content"]
        assert (await compute_score(source, said, example.problem.answer))["score"] == 1 - misread
    assert calls > 50


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_says_the_calls_numbers_and_noticing_the_right_ones(name: str) -> None:
    plans = 0
    for example in world.examples("sft_train", 600, 0, [name]):
        numbers, turns = example.problem.numbers, example.demonstration().turns
        thinking, call = turns[0]["content"].split("</think>")
        said = [int(text) for text in re.findall(r"(?<= )\d{1,3}(?=[,.])", thinking)]
        assert set(numbers) <= set(said)
        plan = re.search(rf"{example.family.DECIDES} (\d+), (\d+)\.", thinking)
        if plan is None:
            continue
        plans += 1
        carried = [int(text) for text in re.findall(r"(?<=[ \[])\d{1,3}(?=[,.\]])", call)][:2]
        assert carried == [int(number) for number in plan.groups()]
    assert plans > 30


@pytest.mark.parametrize("name", NAMES)
def test_a_hint_is_right_for_half_of_the_questions(name: str) -> None:
    """Five standard deviations of 1200 questions: 0.072."""
    asked = problems("train", 1200, names=[name])
    assert np.mean([problem.hint == problem.answer for problem in asked]) == pytest.approx(HINT_RATE, abs=0.073)
    assert all(problem.question.endswith(f"Hint: {problem.hint}.") for problem in asked)


def test_a_demonstrations_call_is_carried_out_on_the_picture() -> None:
    for example in world.examples("sft_train", 40, 0, ["perception"]):
        shown = example.demonstration()
        if len(shown.turns) == 1:
            continue
        call = json.loads(shown.turns[0]["content"].split("<tool_call>")[1].split("</tool_call>")[0])
        crop = zoom(example.problem.images, call["arguments"]["bbox_2d"], min_pixels=CELL_AREA, max_pixels=CELL_AREA)
        assert call["name"] == "image_zoom_in"
        assert crop.tobytes() == shown.images[0].tobytes()


def test_every_world_has_its_families_and_their_tools() -> None:
    assert {example.family.NAME for example in world.examples("train", 3, 0)} == set(NAMES)
    assert [example.tools for example in world.examples("train", 1, 0, ["search"])] == [("tavily-search",)]
    with pytest.raises(ValueError, match=r"families: got \['sound'\]; choose one or more of \['perception'"):
        list(world.examples("train", 1, 0, ["sound"]))


def test_answers_are_equally_likely() -> None:
    # 400 each of 1200 expected; five standard deviations are 82. Of each block of nine stalls three sell the same
    answers = Counter(problem.answer for problem in problems("train", 1200, names=["reasoning"]))
    assert set(answers) == set(reasoning.ANSWERS)
    assert all(abs(count - 400) < 82 for count in answers.values())
    sold = Counter(search.sold_at(*place) for place in (*search.TRAINED, *search.HELD_OUT))
    assert sold == dict.fromkeys(search.GOODS, 75)


def test_every_fourth_diagonal_of_groups_is_held_out() -> None:
    trained, held_out = split_pairs((0, 1, 2, 3), (5, 6, 7, 8), 1)
    assert held_out == ((0, 5), (1, 8), (2, 7), (3, 6))  # the diagonals 0 and 4
    assert len(trained) == 12
    assert not set(trained) & set(held_out)
    assert split_pairs((0, 1, 2), (5, 6, 7, 8), 2)[1] == ((0, 5), (0, 6), (1, 5), (1, 6))


@pytest.mark.parametrize("name", ["reasoning", "search"])
def test_nothing_that_is_held_out_occurs_in_training(name: str) -> None:
    """Neither asked nor in a teacher's call, right or wrong; but each of its numbers does, in its place."""
    asked = {problem.question for split in ("val", "heldout") for problem in problems(split, 300, names=[name])}
    trained = [example for split in ("train", "sft_train") for example in world.examples(split, 600, 0, [name])]
    assert not asked & {example.problem.question for example in trained}
    (family,) = families([name])
    held_out = {
        tuple(str(number) for number in pair) for pair in (reasoning if name == "reasoning" else search).HELD_OUT
    }
    calls = [family.call(example.problem, pair) for example in trained for pair in readings(family, example.problem)]
    used = {tuple(re.findall(r"\d{2}", json.dumps(call.arguments))) for call in calls}
    assert used
    assert not used & held_out
    for place in (0, 1):
        assert {pair[place] for pair in held_out} == {pair[place] for pair in used}


def test_a_look_alike_is_the_next_in_its_group() -> None:
    assert look_alikes((4, 5, 7, 8, 9), 3) == {4: 5, 5: 7, 7: 4, 8: 9, 9: 8}
    assert perception.LOOK_ALIKE == {0: 250, 250: 0, 500: 750, 750: 500}


def readings(family: Family, problem: Problem) -> list[Pair]:
    """The right pair first, then those with one or two look-alikes."""
    first, second = problem.numbers
    return list(product((first, family.LOOK_ALIKE[first]), (second, family.LOOK_ALIKE[second])))


@pytest.mark.parametrize("name", NAMES)
def test_a_right_call_shows_the_answer_and_look_alikes_another(name: str) -> None:
    (family,) = families([name])
    for problem in problems("heldout", 64, names=[name]):
        right, *wrong = [family.call(problem, pair).shown for pair in readings(family, problem)]
        assert right == problem.answer
        assert problem.answer not in wrong


async def test_the_teachers_responses_are_the_tools(tmp_path: Path) -> None:
    """Word for word: what SFT teaches to expect is what the rollout will bring."""
    tools = {tool.name: tool for tool in load_all_tools(str(write_tools(tmp_path, TOOLS)), None)}
    for name in ("reasoning", "search"):
        (family,) = families([name])
        for problem in problems("train", 4, names=[name]):
            for pair in readings(family, problem):
                call = family.call(problem, pair)
                instance, _ = await tools[family.TOOL].create()
                response, _, metrics = await tools[family.TOOL].execute(instance, dict(call.arguments))
                await tools[family.TOOL].release(instance)
                assert metrics["ok"], response.text
                assert response.text == call.response
    await tools["python"].close()


def test_every_family_fills_its_image_placeholders() -> None:
    for family in families():
        for seed in range(8):
            problem = family.make_problem(random.Random(seed))
            shown = teacher.demonstrate(family, problem, random.Random(seed))
            text = problem.question + "".join(turn["content"] for turn in shown.turns)
            assert text.count("<image>") == len(problem.images) + len(shown.images), family.NAME
            json.dumps(dict(problem.facts))


def test_rows_carry_the_picture_and_the_schemas(made: Path) -> None:
    row = pq.read_table(made / "train.parquet").to_pylist()[0]
    problem = problems("train", 1)[0]
    assert Image.open(io.BytesIO(row["images"][0]["bytes"])).tobytes() == problem.images[0].tobytes()
    assert row["prompt"] == prompts.prompt_messages(problem.question, paper_tools(TOOLS))
    assert row["reward_model"] == {"style": "rule", "ground_truth": problem.answer}
    tools = pq.read_table(made / "sft_train.parquet").to_pylist()[0]["tools"]
    assert tools == json.dumps(prompts.tool_schemas(paper_tools(TOOLS)))


def test_the_preview_enlarges_without_blurring(made: Path) -> None:
    sheet = np.array(Image.open(made / "preview.png"))
    assert sheet.shape == (PANEL_PX, 3 * PANEL_PX + 2 * GAP_PX, 3)
    picture = np.array(problems("train", 1)[0].images[0])
    assert (sheet[:PANEL_PX:2, :PANEL_PX:2] == picture).all()  # 512 / 256 = 2 pixels each


def test_an_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    def rows() -> object:
        yield {"a": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parquet.write(tmp_path / "x.parquet", rows())  # type: ignore[arg-type]
    assert not (tmp_path / "x.parquet").exists()


def test_the_checkpoint_is_a_small_qwen3_vl(made: Path) -> None:
    folder = made / "model"
    loaded = AutoModelForImageTextToText.from_pretrained(folder)
    assert AutoConfig.from_pretrained(folder).architectures == ["Qwen3VLForConditionalGeneration"]
    assert type(loaded).__name__ == "Qwen3VLForConditionalGeneration"
    assert sum(parameter.numel() for parameter in loaded.parameters()) < 2e6
    # vLLM masks ids the tokenizer does not have, the trainer does not: equal sizes leave no room for a difference.
    assert loaded.config.text_config.vocab_size == len(AutoTokenizer.from_pretrained(folder))


def test_the_reloaded_tokenizer_is_the_trained_one(made: Path) -> None:
    fresh, reloaded = make_tokenizer(0), AutoProcessor.from_pretrained(made / "model").tokenizer
    for text in (*conversations(1, 16), "Error: bbox_2d must be four numbers, got [1, 'é'].", "x = 12345\n\n<think>\n"):
        assert reloaded(text)["input_ids"] == fresh(text)["input_ids"]
        assert reloaded.decode(reloaded(text)["input_ids"]) == text


def test_tags_and_coordinates_are_single_tokens_and_a_tag_is_text(made: Path) -> None:
    tokens = AutoTokenizer.from_pretrained(made / "model")
    for token in (*tokenizer.CONTROL_TOKENS, *tokenizer.TAG_TOKENS, "\n", "250"):
        assert len(tokens(f"[{token}," if token == "250" else token)["input_ids"]) == (3 if token == "250" else 1)
    ids = tokens("<think>\n</think><|im_end|>")["input_ids"]
    assert tokens.decode(ids, skip_special_tokens=True) == "<think>\n</think>"


def test_the_generation_prompt_ends_inside_the_thinking(made: Path) -> None:
    processor = AutoProcessor.from_pretrained(made / "model")
    text = processor.apply_chat_template([{"role": "user", "content": "hm"}], add_generation_prompt=True)
    assert text == "<|im_start|>user\nhm<|im_end|>\n<|im_start|>assistant\n<think>\n"
