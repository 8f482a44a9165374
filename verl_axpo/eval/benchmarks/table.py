"""The paper's nine benchmarks, declared: where the data is, what a row asks, how an answer is graded.

Official code, which the questions and graders follow or depart from as docs/evaluation.md says:

    MathVision    mathllm/MATH-V, evaluation/evaluate.py and utils.py, models/GPT4V.py (options, merged image)
    DynaMath      DynaMath/DynaMath, evaluation/opensource_json_eval.py and evaluation/gpt4o/gpt_4o_json_eval.py
    Math-VR       HKU-MMLab/Math-VR-CodePlot-CoT, Math-VR-Eval.py, Math-VR-Infer.py, summarize_score.py
    V*            penghao-wu/vstar, vstar_bench_eval.py
    VisualProbe   Mini-o3/Mini-o3, verl/utils/reward_score/general_qa_tool.py: the judge decides on every answer
    HR-Bench      DreamMr/HR-Bench, hrbench/vlmeval (an LLM says yes or no), and open-compass/VLMEvalKit (the letter)
    HR-MMSearch   OpenSenseNova/SenseNova-MARS, verl/verl/utils/reward_score/tool.py and inference/eval.py
    MMSearch      CaraJ7/MMSearch, score/f1_score.py, eval_end2end.py, prompts/prompt.py
"""

import contextlib
import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verl_axpo.eval import prompts
from verl_axpo.eval.benchmarks import grading
from verl_axpo.eval.benchmarks.base import Benchmark, BenchmarkError, Row, Source, asked, paper_8b
from verl_axpo.eval.benchmarks.reading import encoded
from verl_axpo.eval.types import AnswerType, Question
from verl_axpo.rewards.choice import options_in

_HRBENCH_LETTERS = string.ascii_uppercase[:4]
_DYNAMATH_KINDS: dict[str, AnswerType] = {
    **dict.fromkeys(("float", "int", "single answer"), "math"),
    "multiple choice": "choice",
}
_MATH_VR_IMAGES = 8  # columns image1 .. image8
_MATH_VR_PLACEHOLDER = re.compile(rf"<image([1-{_MATH_VR_IMAGES}])>")
_VISUALPROBE_FOLDER = "VisualProbe_Hard/"  # what the paths of val.json begin with; the repository itself is that folder


def _letter(truth: Any, options: Sequence[str]) -> str:
    """The label of a choice question.

    Raises:
        BenchmarkError: it is none of the options' letters.
    """
    label, letters = str(truth).strip(), list(string.ascii_uppercase[: len(options)])
    if label not in letters:
        raise BenchmarkError(f"the right answer is {label!r}, the options are {letters}")
    return label


def _mathvision(row: Row, folder: Path | None) -> Question:
    """`decoded_image` is one merged image, so `<image1>` in the text stays a word, as in the official prompt."""
    options = tuple(map(str, row["options"] or ()))
    return asked(
        text=str(row["question"]),
        kind="choice" if options else "math",
        truth=_letter(row["answer"], options) if options else str(row["answer"]),
        images=(encoded(row["decoded_image"], folder),),
        options=options,
        list_options=True,
    )


def _dynamath(row: Row, folder: Path | None) -> Question:
    """The choices stand inside the text, so no option lines are added."""
    text, answer_type = str(row["question"]), str(row["answer_type"])
    kind = _DYNAMATH_KINDS.get(answer_type, "short_text")
    return asked(
        text=text,
        kind=kind,
        truth=str(row["ground_truth"]),
        images=(encoded(row["decoded_image"], folder),),
        options=options_in(text) if kind == "choice" else (),
        hint="float" if answer_type == "float" else None,
    )


def _math_vr(row: Row, folder: Path | None) -> Question:
    """An image stands where the text first mentions it; the official script puts all of them after the text."""
    text, seen = str(row["question"]), list[str]()

    def place(match: re.Match[str]) -> str:
        if match[1] in seen:
            return ""
        seen.append(match[1])
        return prompts.IMAGE

    shown = _MATH_VR_PLACEHOLDER.sub(place, text)
    return asked(
        text=text,
        shown=shown,
        kind="judge",
        truth=_joined(row["answers"]),
        images=tuple(encoded(row[f"image{number}"], folder) for number in seen),
        metadata={"parts": int(row["number_of_answers"])},
    )


def _joined(answers: Any) -> str:
    """The `answers` column, of which neither type nor form is documented: text, a JSON list as text, or a list."""
    listed = answers
    with contextlib.suppress(ValueError, TypeError):
        listed = json.loads(answers)
    return "; ".join(map(str, listed)) if isinstance(listed, list) else str(answers)


def _vstar(row: Row, folder: Path | None) -> Question:
    """The text is taken as it stands: it holds the options and its own instruction.

    The per-image JSON always lists the right option first: not used. The official code compares likelihoods of the
    options, so it has no rule for generated text.
    """
    text = str(row["text"])
    options, image = options_in(text), encoded(row["image"], folder)
    return asked(text=text, kind="choice", truth=_letter(row["label"], options), images=(image,), options=options)


def _visualprobe(row: Row, folder: Path | None) -> Question:
    """`problem` already has its `<image>` line."""
    shown = str(row["problem"])
    images = tuple(encoded(str(path).removeprefix(_VISUALPROBE_FOLDER), folder) for path in row["images"])
    text = shown.replace(prompts.IMAGE, "").strip()
    return asked(text=text, shown=shown, kind="short_text", truth=str(row["solution"]), images=images)


def _hrbench(row: Row, folder: Path | None) -> Question:
    """The image is base64 text inside the table."""
    options = tuple(str(row[letter]) for letter in _HRBENCH_LETTERS)
    return asked(
        text=str(row["question"]),
        kind="choice",
        truth=_letter(row["answer"], options),
        images=(encoded(row["image"]),),
        options=options,
        list_options=True,
    )


def first_rotation(cycles: Sequence[Any]) -> list[int]:
    """Rows of the rotation that sorts first among the values of `cycle_category`.

    HR-Bench has every question in four rotations of its options, and the official scores average over them. The paper's
    decimals fit 200 questions, so one rotation is kept.

    Raises:
        BenchmarkError: the rotations are not of one size, so the table is only part of the data.
    """
    sizes = Counter(map(str, cycles))
    if len(set(sizes.values())) > 1:
        raise BenchmarkError(f"rotations (cycle_category) of different sizes {dict(sizes)}; take the whole split")
    return [index for index, cycle in enumerate(cycles) if str(cycle) == min(sizes)]


def _hr_mmsearch(row: Row, folder: Path | None) -> Question:
    """`ground_truth` may be a text or a list of accepted texts."""
    truth, *aliases = map(str, row["ground_truth"] if isinstance(row["ground_truth"], list) else [row["ground_truth"]])
    image, text = encoded(row["query_image"], folder), str(row["query"])
    return asked(text=text, kind="short_text", truth=truth, images=(image,), metadata={"aliases": tuple(aliases)})


def _mmsearch(row: Row, folder: Path | None) -> Question:
    """`image_search_result` is left out: the agent has to find things itself."""
    return asked(
        text=str(row["query"]),
        kind="short_text",
        truth=str(row["gt_answer"]),
        images=() if row["query_image"] is None else (encoded(row["query_image"], folder),),
        hint="search",
        metadata={"aliases": tuple(map(str, row["alternative_gt_answers"] or ()))},
    )


def _hrbench_of(size: str, **paper: tuple[float, float, float]) -> Benchmark:
    split = f"hrbench_{size.lower()}"
    columns = ("index", "question", "answer", "category", *_HRBENCH_LETTERS, "cycle_category", "image")
    return Benchmark(
        name=split,
        column=f"HR-{size}",
        group="perception",
        count=200,
        source=Source(repo="DreamMr/HR-Bench", config="hrbench_version_split", split=split, columns=columns),
        id_column="index",
        ask=_hrbench,
        grade=grading.choice_grade,
        choose_by="cycle_category",
        choose=first_rotation,
        about=("category", "cycle_category"),
        paper=paper_8b(**paper),
    )


BENCHMARKS = (
    Benchmark(
        name="mathvision",
        column="MathVision",
        group="math",
        count=304,
        source=Source(
            repo="MathLLMs/MathVision",
            split="testmini",
            columns=("id", "question", "options", "decoded_image", "answer", "level", "subject"),
            image_columns=("decoded_image",),
        ),
        id_column="id",
        ask=_mathvision,
        grade=grading.mathvision_grade,
        about=("level", "subject"),
        paper=paper_8b(grpo=(55.3, 75.0, 46.1), axpo=(56.1, 75.7, 75.7)),
    ),
    Benchmark(
        name="dynamath",
        column="DynaMath",
        group="math",
        count=501,  # the first variant of each seed question
        source=Source(
            repo="DynaMath/DynaMath_Sample",
            split="sample_variant1",
            columns=("id", "question", "decoded_image", "ground_truth", "answer_type", "subject", "knowledge_level"),
            image_columns=("decoded_image",),
        ),
        id_column="id",
        ask=_dynamath,
        grade=grading.dynamath_grade,
        about=("answer_type", "subject", "knowledge_level"),
        paper=paper_8b(grpo=(78.2, 87.0, 30.7), axpo=(79.0, 87.0, 63.9)),
    ),
    Benchmark(
        name="math_vr",
        column="Math-VR",
        group="math",
        count=None,  # 2,500 by the README, 3,000 by the dataset card; which of them the paper used is not said
        source=Source(
            repo="gogoduan/Math-VR-bench",
            split="test",
            columns=("id", "question", "image1", "category", "number_of_answers", "answers"),
            image_columns=tuple(f"image{number}" for number in range(1, _MATH_VR_IMAGES + 1)),
        ),
        id_column="id",
        ask=_math_vr,
        grade=grading.math_vr_grade,
        judged=True,
        about=("category",),
        paper=paper_8b(grpo=(60.4, 74.3, 7.6), axpo=(60.6, 74.1, 29.1)),
    ),
    Benchmark(
        name="vstar",
        column="V*",
        group="perception",
        count=191,
        source=Source(
            repo="craigwu/vstar_bench",
            split="test",
            columns=("image", "text", "label", "question_id", "category"),
            annotations="test_questions.jsonl",
        ),
        id_column="question_id",
        ask=_vstar,
        grade=grading.choice_grade,
        about=("category",),
        paper=paper_8b(grpo=(87.7, 96.9, 92.1), axpo=(87.8, 95.3, 99.0)),
    ),
    Benchmark(
        name="visualprobe",
        column="VisualProbe",
        group="perception",
        count=106,  # the hard part
        source=Source(
            repo="Mini-o3/VisualProbe_Hard",
            split="val",
            columns=("images", "doc_id", "problem", "solution"),
            annotations="val.json",
        ),
        id_column="doc_id",
        ask=_visualprobe,
        grade=grading.short_text_grade,
        judged=True,
        paper=paper_8b(grpo=(40.1, 63.2, 99.1), axpo=(45.8, 67.9, 100.0)),
    ),
    _hrbench_of("4K", grpo=(79.5, 87.5, 73.0), axpo=(83.3, 90.0, 90.0)),
    _hrbench_of("8K", grpo=(74.9, 84.5, 78.0), axpo=(77.0, 89.0, 92.0)),
    Benchmark(
        name="hr_mmsearch",
        column="HR-MMSearch",
        group="search",
        count=305,
        source=Source(
            repo="sensenova/HR-MMSearch",
            split="train",
            columns=("sample_id", "query", "query_image", "ground_truth", "difficulty", "category"),
            image_columns=("query_image",),
        ),
        id_column="sample_id",
        ask=_hr_mmsearch,
        grade=grading.short_text_grade,
        judged=True,
        about=("difficulty", "category"),
        paper=paper_8b(grpo=(24.4, 38.0, 97.0), axpo=(25.9, 42.0, 98.4)),
    ),
    Benchmark(
        name="mmsearch",
        column="MMSearch",
        group="search",
        count=300,
        source=Source(
            repo="CaraJ/MMSearch",
            config="end2end",
            split="end2end",
            columns=(
                *("sample_id", "query", "query_image", "area", "subfield", "timestamp"),
                *("gt_answer", "alternative_gt_answers"),
            ),
            image_columns=("query_image", "image_search_result"),
        ),
        id_column="sample_id",
        ask=_mmsearch,
        grade=grading.mmsearch_grade,
        judged=True,
        about=("area", "subfield", "timestamp"),
        paper=paper_8b(grpo=(44.0, 59.3, 97.7), axpo=(45.0, 61.0, 98.3)),
    ),
)
