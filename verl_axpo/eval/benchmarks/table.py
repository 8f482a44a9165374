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

from verl_axpo.eval.benchmarks import asking, grading
from verl_axpo.eval.benchmarks.base import Benchmark, Source, paper_8b


def _hrbench_of(size: str, **paper: tuple[float, float, float]) -> Benchmark:
    split = f"hrbench_{size.lower()}"
    columns = ("index", "question", "answer", "category", *asking.HRBENCH_LETTERS, "cycle_category", "image")
    return Benchmark(
        name=split,
        column=f"HR-{size}",
        group="perception",
        count=200,
        source=Source(repo="DreamMr/HR-Bench", config="hrbench_version_split", split=split, columns=columns),
        id_column="index",
        ask=asking.hrbench,
        grade=grading.choice_grade,
        choose_by="cycle_category",
        choose=asking.first_rotation,
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
        ask=asking.mathvision,
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
        ask=asking.dynamath,
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
            image_columns=tuple(f"image{number}" for number in range(1, asking.MATH_VR_IMAGES + 1)),
        ),
        id_column="id",
        ask=asking.math_vr,
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
        ask=asking.vstar,
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
        ask=asking.visualprobe,
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
        ask=asking.hr_mmsearch,
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
        ask=asking.mmsearch,
        grade=grading.mmsearch_grade,
        judged=True,
        about=("area", "subfield", "timestamp"),
        paper=paper_8b(grpo=(44.0, 59.3, 97.7), axpo=(45.0, 61.0, 98.3)),
    ),
)
