"""The stages between raw files and the two parquet sets; each is skipped while what it is made from stays the same.

raw/<source> -> ingest_source()   -> problems/<source> -.
benchmarks   -> entries.note_benchmarks()               -+-> dedup_sources() -> dedup/
dedup/ + teacher's trajectories                          -> make_sft()     -> sft/
dedup/ + sft/ + both models' rollouts + the hard set     -> make_rl()      -> rl/
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import orjson

from verl_axpo import prompts
from verl_axpo.data import card, parquet, select_rl, select_sft
from verl_axpo.data.dedup import MOST_BITS, Drop, find_drops
from verl_axpo.data.entries import entry_of, read_references
from verl_axpo.data.images import ImageStore
from verl_axpo.data.ingest import Progress, ingest
from verl_axpo.data.parquet import Row
from verl_axpo.data.problem import Problem, read_problems, write_problems
from verl_axpo.data.reading import tables
from verl_axpo.data.rollouts import Attempt, RolloutFiles, solve_counts
from verl_axpo.data.rows import rl_row, rl_schema, sft_row, sft_schema
from verl_axpo.data.select_rl import RlConfig
from verl_axpo.data.select_sft import SftConfig
from verl_axpo.data.sources import HARD, Source
from verl_axpo.data.stage import RECORD, Numbers, Stage, examples, hashes, read_record, run
from verl_axpo.data.workspace import Workspace
from verl_axpo.files import sha256_of, write_lines
from verl_axpo.prompts import ToolPrompt

RULES = ("data", "images", "rewards")  # what a problem rests on: hashes of pictures, types of answers
ROW_RULES = (*RULES, "prompts")


def ingest_source(
    work: Workspace,
    source: Source,
    root: Path,
    max_bad: float,
    judge_above_words: int | None = None,
    progress: Progress = lambda done: None,
) -> tuple[Numbers, bool]:
    """A source's rows into problems; see `ingest`. Loose pictures count by name and size, archives by content."""
    store = work.store()
    stage = Stage(
        name=f"ingest {source.name}",
        out=work.problems(source.name),
        inputs=_source_hashes(root, source),
        settings={"max_bad": max_bad, "judge_above_words": judge_above_words, "limits": asdict(store.limits)},
        outputs=("problems.jsonl", "bad_rows.jsonl"),
        rests_on=RULES,
    )
    if read_record(stage.out) and not _images_whole(stage.out / "problems.jsonl", store):
        (stage.out / RECORD).unlink()
    return run(stage, lambda: ingest(source, root, stage.out, store, max_bad, judge_above_words, progress))


def _images_whole(problems: Path, store: ImageStore) -> bool:
    """Whether every image of a finished stage is still what it was: what was lost since then, ingesting stores anew."""
    try:
        return not store.damaged(image for problem in read_problems(problems) for image in problem.images)
    except (ValueError, FileNotFoundError):
        return False


def _source_hashes(root: Path, source: Source) -> dict[str, str]:
    whole = [*tables(root, source), *sorted(root.rglob("*.zip"))]
    found = {path.relative_to(root).as_posix(): sha256_of(path) for path in whole}
    if source.folders:
        loose = (path for path in sorted(root.rglob("*")) if path.is_file() and path not in whole)
        found["pictures"] = card.hash_of([(path.relative_to(root).as_posix(), path.stat().st_size) for path in loose])
    return found


def dedup_sources(
    work: Workspace, sources: Sequence[str], against: Sequence[Path], most_bits: int = MOST_BITS
) -> tuple[Numbers, bool]:
    """Drop repetitions inside the sources, and what the benchmarks have; of two equal problems the one of the source
    named first stays. With a card of all stages so far."""
    paths = [work.problems(name) / "problems.jsonl" for name in sources]
    stage = Stage(
        name="dedup",
        out=work.dedup,
        inputs=hashes([*paths, *against]),
        settings={"sources": list(sources), "most_bits": most_bits},
        outputs=("problems.jsonl", "hard.jsonl", "dropped.jsonl"),
        rests_on=RULES,
    )

    def work_it() -> Numbers:
        problems = [problem for path in paths for problem in read_problems(path)]
        references = [entry for path in against for entry in read_references(path)]
        records = work.store().records
        drops = find_drops([entry_of(problem, records) for problem in problems], references, most_bits)
        gone = {drop.id for drop in drops}
        kept = [problem for problem in problems if problem.id not in gone]
        write_problems(stage.out / "problems.jsonl", (problem for problem in kept if problem.source != HARD))
        write_problems(stage.out / "hard.jsonl", (problem for problem in kept if problem.source == HARD))
        write_lines(stage.out / "dropped.jsonl", (orjson.dumps(drop) for drop in drops))
        return _dedup_numbers(problems, drops, kept, sorted({entry.source for entry in references}))

    return _with_card(work, stage, work_it)


def _dedup_numbers(
    problems: Sequence[Problem], drops: Sequence[Drop], kept: Sequence[Problem], held_out_of: list[str]
) -> Numbers:
    reasons = [" | ".join((drop.source, drop.scope, drop.in_source, drop.by)) for drop in drops]
    return {
        "problems": len(problems),
        "dropped_inside": sum(drop.scope == "inside" for drop in drops),
        "dropped_against": sum(drop.scope == "against" for drop in drops),
        "kept": len(kept),
        "kept_by_source": dict(Counter(problem.source for problem in kept)),
        "dropped_by": dict(sorted(Counter(reasons).items())),
        "benchmarks": held_out_of,
        "examples": examples((reason, drop.id) for reason, drop in zip(reasons, drops, strict=True)),
    }


def make_sft(
    work: Workspace,
    rollouts: Sequence[Path],
    teacher: str,
    tools: Sequence[ToolPrompt],
    config: SftConfig,
    embed: bool,
) -> tuple[Numbers, bool]:
    """Choose the teacher's trajectories and write them in verl's SFT schema, with their data card."""
    problems_path = work.dedup / "problems.jsonl"
    stage = Stage(
        name="sft",
        out=work.sft,
        inputs=hashes([problems_path, *rollouts]),
        settings={**asdict(config), "teacher": teacher, **_row_settings(work, tools, embed)},
        outputs=("train.parquet", "val.parquet", "selected.jsonl"),
        rests_on=ROW_RULES,
    )

    def work_it() -> Numbers:
        problems, store = {problem.id: problem for problem in read_problems(problems_path)}, work.store()
        files = RolloutFiles(rollouts)
        known = (attempt for attempt in files.attempts() if attempt.model == teacher and attempt.problem_id in problems)
        chosen = select_sft.select(known, config)

        def rows(part: Sequence[Attempt]) -> Iterable[Row]:
            return (sft_row(problems[each.problem_id], each, tools, store, embed) for each in files.read(part))

        for split, part in (("train", chosen.train), ("val", chosen.val)):
            parquet.write(stage.out / f"{split}.parquet", rows(part), sft_schema(embed))
        picked = (orjson.dumps(attempt.model_dump()) for attempt in (*chosen.train, *chosen.val))
        write_lines(stage.out / "selected.jsonl", picked)
        return {**chosen.numbers, "examples": chosen.examples}

    return _with_card(work, stage, work_it)


def make_rl(
    work: Workspace,
    rollouts: Sequence[Path],
    teacher: str,
    student: str,
    tools: Sequence[ToolPrompt],
    config: RlConfig,
    embed: bool,
) -> tuple[Numbers, bool]:
    """Filter by solve counts, add the hard set, and write verl's RL schema, with its data card."""
    names = (work.dedup / "problems.jsonl", work.dedup / "hard.jsonl", work.sft / "selected.jsonl")
    stage = Stage(
        name="rl",
        out=work.rl,
        inputs=hashes([*names, *rollouts]),
        settings={**asdict(config), "teacher": teacher, "student": student, **_row_settings(work, tools, embed)},
        outputs=("train.parquet", "val.parquet"),
        rests_on=ROW_RULES,
    )

    def work_it() -> Numbers:
        attempts, store = list(RolloutFiles(rollouts).attempts()), work.store()
        chosen = select_rl.select(
            list(read_problems(names[0])),
            list(read_problems(names[1])),
            {attempt.problem_id for attempt in RolloutFiles([names[2]]).attempts()},
            solve_counts(attempts, teacher),
            solve_counts(attempts, student),
            config,
        )
        for split, part in (("train", chosen.train), ("val", chosen.val)):
            rows = (rl_row(problem, index, split, tools, store, embed) for index, problem in enumerate(part))
            parquet.write(stage.out / f"{split}.parquet", rows, rl_schema(embed))
        return {**chosen.numbers, "examples": chosen.examples}

    return _with_card(work, stage, work_it)


def _with_card(work: Workspace, stage: Stage, work_it: Callable[[], Numbers]) -> tuple[Numbers, bool]:
    result = run(stage, work_it)
    card.write(work, stage.out)
    return result


def _row_settings(work: Workspace, tools: Sequence[ToolPrompt], embed: bool) -> Numbers:
    """What else is in the rows: the words of `verl_axpo.prompts`, and the images or where they lie."""
    systems = [prompts.system_prompt(tools, images=images) for images in (True, False)]
    words = [*systems, prompts.tool_schemas(tools)]
    images = "embedded" if embed else str(work.store().folder.resolve())
    return {"tools": [tool.name for tool in tools], "prompt_sha256": card.hash_of(words), "images": images}
