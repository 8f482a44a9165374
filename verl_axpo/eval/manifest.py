"""The settings of an evaluation on disk: what may not change between two runs into the same folder.

    settings of this run -> open_manifest(folder) -> written, or compared with what is there: differences by name

Benchmarks may be added later; each is held to the questions that it was first sampled with. A judge may come later
where there was none: what the rules alone called wrong is scored again. Where the server listens and how many requests
it gets at a time may change freely.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from verl_axpo import prompts
from verl_axpo.eval import versions
from verl_axpo.eval.store import MANIFEST, QUESTIONS, ROLLOUTS, drop_report
from verl_axpo.eval.types import Question, bytes_hash, loads, questions_file
from verl_axpo.files import read_lines, write_atomically

JUDGE = "judge"  # the setting that may come later
PROMPT_CHARACTERS = 16  # of the hash of the system prompt and the schemas
NOT_SENT = "not sent"  # of a field of `sampling`: the server samples by its own value


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a folder's numbers were made with.

    Attributes:
        settings: nested values by name.
        benchmarks: name -> how many questions, the hash of their file, the commit they were read at, and the
            benchmark's place in the report.
        prompt: once something was sampled: the system turn of a question with images, a hash of both system turns with
            the tools' schemas, and the versions that rollouts rest on.
        tool_data: of each tool that answers from stored data (recorded searches, a local index), the hash of it after
            the last run.
    """

    settings: Mapping[str, Any]
    benchmarks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prompt: Mapping[str, str] | None = None
    tool_data: Mapping[str, str] = field(default_factory=dict)


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of an evaluation.

    Raises:
        ValueError: the folder holds no evaluation, or a damaged one.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise ValueError(f"{folder}: no {MANIFEST} there; expected the --out folder of `verl-axpo eval run`")
    try:
        manifest = Manifest(**orjson.loads(path.read_bytes()))
        _check(manifest)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {error}; restore it, or use another --out") from error
    sampling = manifest.settings.get("sampling", {})  # null in the manifests of earlier versions
    return replace(manifest, settings={**manifest.settings, "sampling": in_words(sampling)})


def _check(manifest: Manifest) -> None:
    """Raises ValueError or AttributeError for what a reader could not go on with."""
    manifest.settings.items()
    for name, entries in manifest.benchmarks.items():
        if not name or "/" in name or "\0" in name:
            raise ValueError(f"{name!r} is no name of a benchmark: a file in {QUESTIONS}/ is named after it")
        entries.items()


def in_words(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """`NOT_SENT` in place of None."""
    return {name: NOT_SENT if value is None else value for name, value in sampling.items()}


def open_manifest(
    folder: Path,
    settings: Mapping[str, Any],
    questions: Mapping[str, Sequence[Question]],
    about: Mapping[str, Mapping[str, Any]],
) -> Manifest:
    """Write the manifest, or hold this run to the one that is there; before the first rollout there is nothing to hold.

    Args:
        folder: of the evaluation.
        settings: what may not change.
        questions: of each benchmark of this run.
        about: of each benchmark what the report says of it (`column`, `group`, `place`, `paper`, `revision`, `judged`).

    Raises:
        ValueError: it was made with other settings or questions, each difference named, or nobody knows with which.
    """
    plain = orjson.loads(orjson.dumps(settings))
    ours = {
        name: {**about.get(name, {}), "questions": len(asked), "file": bytes_hash(questions_file(asked))}
        for name, asked in questions.items()
    }
    there = Manifest(settings=plain)
    fixed = _sampled(folder)
    if fixed:
        there = read_manifest(folder)
        before = dict(there.settings)
        if before.get(JUDGE) is None:  # it may come later
            before[JUDGE] = plain.get(JUDGE)
        held = {name: there.benchmarks[name] for name in ours if name in fixed and name in there.benchmarks}
        problems = [*differences(before, plain), *_changed(held, ours)]
        if problems:
            told = "\n".join(f"- {problem}" for problem in problems)
            raise ValueError(f"{folder} was made with other settings; set them back or use another --out:\n{told}")
    manifest = replace(there, settings=plain, benchmarks={**there.benchmarks, **ours})
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, manifest)
    return manifest


def _sampled(folder: Path) -> set[str]:
    """Benchmarks with a rollout on disk; "" for a line that does not say.

    A run that ended on a missing key or a wrong option leaves none, and nothing to hold to.
    """
    path, damaged = folder / ROLLOUTS, list[str]()
    lines = read_lines(path, lambda line: str(loads(line)["benchmark"]), damaged) if path.exists() else ()
    return {line.value for line in lines} | ({""} if damaged else set())


def pin_prompt(folder: Path, tools: Sequence[prompts.ToolPrompt]) -> None:
    """Hold every rollout of the folder to one system prompt and one set of tool schemas, and note their versions.

    Raises:
        ValueError: they are not those of the rollouts that are there.
    """
    system, text_only = (prompts.system_prompt(tools, images=images) for images in (True, False))
    schemas = orjson.dumps(prompts.tool_schemas(tools), option=orjson.OPT_SORT_KEYS)
    digest = bytes_hash((system + text_only).encode() + schemas)[:PROMPT_CHARACTERS]
    there = read_manifest(folder)
    if there.prompt is None:
        _write(folder, replace(there, prompt={"system": system, "sha256": digest, "versions": versions.sampling()}))
    elif there.prompt["sha256"] != digest:
        raise ValueError(
            f"{folder} was made with another system prompt or other tool schemas ({there.prompt['sha256']}, now "
            f"{digest}); use another --out"
        )


def of_other_versions(folder: Path) -> str | None:
    """Why nothing may be added to the rollouts of the folder, where they rest on other rules than today's."""
    prompt, now = read_manifest(folder).prompt, versions.sampling()
    before = now if prompt is None else prompt.get("versions", versions.FIRST_SAMPLING)
    if before == now:
        return None
    return (
        f"{folder}: its rollouts were sampled with {before}, this is {now}, and the two are not mixed; use another "
        f"--out for all of them. What is there is scored; `verl-axpo eval report {folder}` reports it"
    )


def note_tool_data(folder: Path, hashes: Mapping[str, str]) -> None:
    """Keep what the tools answered from. A recording grows, so the last run's hash is the one to name."""
    there = read_manifest(folder)
    _write(folder, replace(there, tool_data={**there.tool_data, **hashes}))


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """One line for each setting that differs, by its dotted name."""
    before, now = dict(_flat(there)), dict(_flat(here))
    return [
        f"{name}: there {_shown(before, name)}, this run {_shown(now, name)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name) or (name in before) != (name in now)
    ]


def _write(folder: Path, manifest: Manifest) -> None:
    path, content = folder / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n"
    if not path.exists() or path.read_bytes() != content:
        drop_report(folder)
        write_atomically(path, content)


def _changed(there: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    return [
        f"questions of {name}: there {before['questions']} ({before['file']}), "
        f"this run {ours[name]['questions']} ({ours[name]['file']})"
        for name, before in there.items()
        if before["file"] != ours[name]["file"]
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(values: Mapping[str, Any], name: str) -> str:
    return f"{values[name]!r}" if name in values else "nothing"
