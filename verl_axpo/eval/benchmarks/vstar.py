"""V* bench: small things in large photographs, four or two options inside the text.

    test_questions.jsonl + image files -> Question(choice) -> letter -> Score

Official code: `penghao-wu/vstar`, vstar_bench_eval.py, which compares likelihoods of the options and so has no rule for
generated text; the letter is read as for HR-Bench. Its per-image JSON always lists the right option first: not used.
"""

from pathlib import Path

from verl_axpo.eval import prompts
from verl_axpo.eval.benchmarks._base import Benchmark, Row, Source, paper_8b
from verl_axpo.eval.benchmarks._grading import checked_letter, choice_grade
from verl_axpo.eval.benchmarks._images import encoded
from verl_axpo.eval.types import Question
from verl_axpo.rewards.choice import options_in


def to_question(row: Row, uid: str, folder: Path | None) -> Question:
    """The text is taken as it stands: it holds the options and its own instruction."""
    text = str(row["text"])
    options = options_in(text)
    return Question(
        benchmark="vstar",
        uid=uid,
        prompt=prompts.render(text, "choice", images=1),
        ground_truth=checked_letter(str(row["label"]).strip(), options),
        answer_type="choice",
        images=(encoded(row["image"], folder),),
        options=options,
        metadata={"question": text, "category": str(row["category"])},
    )


BENCHMARKS = (
    Benchmark(
        name="vstar",
        column="V*",
        group="perception",
        place=3,
        count=191,
        source=Source(
            repo="craigwu/vstar_bench",
            split="test",
            columns=("image", "text", "label", "question_id", "category"),
            annotations="test_questions.jsonl",
        ),
        to_question=to_question,
        grade=choice_grade,
        id_column="question_id",
        paper=paper_8b(grpo=(87.7, 96.9, 92.1), axpo=(87.8, 95.3, 99.0)),
    ),
)
