"""The stages between raw files and the two parquet sets; each is skipped while what it is made from stays the same.

raw/<source> -> ingest_source()   -> problems/<source> -.
benchmarks   -> note_benchmarks() -> their entries      -+-> dedup_sources() -> dedup/
dedup/ + teacher's trajectories                          -> make_sft()     -> sft/
dedup/ + sft/ + both models' rollouts + the hard set     -> make_rl()      -> rl/
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from verl_axpo import prompts
from verl_axpo.data import card, parquet, select_rl, select_sft
from verl_axpo.data.dedup import DedupConfig, Drop, entry_of, find_drops, read_references, refresh_references
from verl_axpo.data.images import ImageStore
from verl_axpo.data.ingest import Progress, ingest
from verl_axpo.data.parquet import Row
from verl_axpo.data.problem import Problem, read_problems, write_problems
from verl_axpo.data.reading import tables
from verl_axpo.data.rollouts import RolloutFiles, solve_counts
from verl_axpo.data.rows import rl_row, rl_schema, sft_row, sft_schema
from verl_axpo.data.select_rl import RlConfig
from verl_axpo.data.select_sft import SftConfig
from verl_axpo.data.sources import HARD, Source
from verl_axpo.data.stage import RECORD, Numbers, Stage, examples, hashes, read_record, run
from verl_axpo.data.workspace import Workspace
from verl_axpo.eval import benchmarks
from verl_axpo.eval.registry import load, pairs
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


def note_benchmarks(
    work: Workspace, registry: Any, chosen: Sequence[str] | None, sources: Sequence[str], revisions: Sequence[str]
) -> tuple[int, dict[str, str | None]]:
    """Note what the benchmarks ask and show, for `dedup_sources`; one benchmark's images are in memory at a time.

    Each benchmark takes the place of its own earlier entries as soon as it is read; the others' stay.

    Args:
        work: where to.
        registry: a module with `names` and `load`.
        chosen: the benchmarks; None for all of them.
        sources, revisions: NAME=PATH of local copies, NAME=COMMIT on the hub.

    Returns:
        how many questions, and of each benchmark the commit that was read, `local`, or None.

    Raises:
        ValueError: an unknown benchmark, or what loading refuses.
    """
    names = chosen or list(registry.names())
    unknown = sorted(set(names) - set(registry.names()))
    if unknown:
        raise ValueError(f"benchmarks: got {unknown}, expected NAME of {list(registry.names())}")
    copies, commits = pairs(sources, names, "source"), pairs(revisions, names, "revision")
    read: dict[str, str | None] = {}
    count = 0
    for name in names:
        loaded = load(registry, name, copies.get(name), commits.get(name))
        count += refresh_references(work.benchmarks, name, loaded.questions)
        read[name] = loaded.revision
    return count, read


def held_out(work: Workspace, added: Sequence[Path], without: Collection[str]) -> list[Path]:
    """The files of entries that must not be trained on: the benchmarks', and `added` ones.

    Args:
        work: has the benchmarks' entries.
        added: further files of entries.
        without: names of benchmarks that need not be noted.

    Raises:
        ValueError: a benchmark is neither noted nor in `without`, or a name there is none.
    """
    official = list(benchmarks.names())
    unknown = sorted(set(without) - set(official))
    if unknown:
        raise ValueError(f"without-benchmark: got {unknown}, expected NAME of {official}")
    files = [*([work.benchmarks] if work.benchmarks.exists() else []), *added]
    noted = {entry.source for path in files for entry in read_references(path)}
    missing = [name for name in official if name not in noted and name not in without]
    if missing:
        named = " ".join(f"--benchmark {name}" for name in missing)
        left_out = " ".join(f"--without-benchmark {name}" for name in missing)
        raise ValueError(
            f"dedup: got no benchmark entries of {', '.join(missing)}, expected them in {work.benchmarks}; run "
            f"`verl-axpo data benchmarks {named}`. Training on the test makes every result void; for what you will "
            f"never report: {left_out}"
        )
    return files


def dedup_sources(
    work: Workspace, sources: Sequence[str], against: Sequence[Path], config: DedupConfig
) -> tuple[Numbers, bool]:
    """Drop repetitions inside the sources, and what the benchmarks have; of two equal problems the one of the source
    named first stays."""
    paths = [work.problems(name) / "problems.jsonl" for name in sources]
    stage = Stage(
        name="dedup",
        out=work.dedup,
        inputs=hashes([*paths, *against]),
        settings={"sources": list(sources), **asdict(config)},
        outputs=("problems.jsonl", "hard.jsonl", "dropped.jsonl", "report.md"),
        rests_on=RULES,
    )

    def work_it() -> Numbers:
        problems = [problem for path in paths for problem in read_problems(path)]
        references = [entry for path in against for entry in read_references(path)]
        records = work.store().records
        drops = find_drops([entry_of(problem, records) for problem in problems], references, config)
        gone = {drop.id for drop in drops}
        kept = [problem for problem in problems if problem.id not in gone]
        write_problems(stage.out / "problems.jsonl", (problem for problem in kept if problem.source != HARD))
        write_problems(stage.out / "hard.jsonl", (problem for problem in kept if problem.source == HARD))
        write_lines(stage.out / "dropped.jsonl", (orjson.dumps(drop) for drop in drops))
        numbers = _dedup_numbers(problems, drops, kept, sorted({entry.source for entry in references}))
        write_lines(stage.out / "report.md", card.dedup_report(numbers, drops, config).encode().splitlines())
        return numbers

    return run(stage, work_it)


def _dedup_numbers(
    problems: Sequence[Problem], drops: Sequence[Drop], kept: Sequence[Problem], held_out_of: list[str]
) -> Numbers:
    return {
        "problems": len(problems),
        "dropped_inside": sum(drop.scope == "inside" for drop in drops),
        "dropped_against": sum(drop.scope == "against" for drop in drops),
        "kept": len(kept),
        "kept_by_source": dict(Counter(problem.source for problem in kept)),
        "dropped_by": {" | ".join(key): count for key, count in sorted(Counter(map(_reason, drops)).items())},
        "benchmarks": held_out_of,
        "examples": examples((" | ".join(_reason(drop)), drop.id) for drop in drops),
    }


def _reason(drop: Drop) -> tuple[str, str, str, str]:
    return drop.source, drop.scope, drop.in_source, drop.by


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
        for split, part in (("train", chosen.train), ("val", chosen.val)):
            made = (sft_row(problems[rollout.problem_id], rollout, tools, store, embed) for rollout in files.read(part))
            parquet.write(stage.out / f"{split}.parquet", made, sft_schema(embed))
        picked = (orjson.dumps(attempt.model_dump()) for attempt in (*chosen.train, *chosen.val))
        write_lines(stage.out / "selected.jsonl", picked)
        return {**chosen.numbers, "examples": chosen.examples}

    result = run(stage, work_it)
    card.write(work, stage.out)
    return result


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
        attempts = list(RolloutFiles(rollouts).attempts())
        chosen = select_rl.select(
            list(read_problems(names[0])),
            list(read_problems(names[1])),
            {attempt.problem_id for attempt in RolloutFiles([names[2]]).attempts()},
            solve_counts(attempts, teacher),
            solve_counts(attempts, student),
            config,
        )
        store = work.store()
        for split, part in (("train", chosen.train), ("val", chosen.val)):
            parquet.write(stage.out / f"{split}.parquet", _rl_rows(part, split, tools, store, embed), rl_schema(embed))
        return {**chosen.numbers, "examples": chosen.examples}

    result = run(stage, work_it)
    card.write(work, stage.out)
    return result


def _rl_rows(
    problems: Sequence[Problem], split: str, tools: Sequence[ToolPrompt], store: ImageStore, embed: bool
) -> Iterator[Row]:
    for index, problem in enumerate(problems):
        yield rl_row(problem, index, split, tools, store, embed)


def _row_settings(work: Workspace, tools: Sequence[ToolPrompt], embed: bool) -> Numbers:
    """What else is in the rows: the words of `verl_axpo.prompts`, and the images or where they lie."""
    systems = [prompts.system_prompt(tools, images=images) for images in (True, False)]
    words = [*systems, prompts.tool_schemas(tools)]
    images = "embedded" if embed else str(work.store().folder.resolve())
    return {"tools": [tool.name for tool in tools], "prompt_sha256": card.hash_of(words), "images": images}
