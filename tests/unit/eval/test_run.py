"""Evaluations against a real server process: which work is done, kept, resumed, retried or refused."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from tests.unit.agent.scripted import MODEL, ZOOM_TOOLS, ScriptedServer
from tests.unit.eval import colours
from tests.unit.eval.conftest import evaluate
from verl_axpo.agent import loop
from verl_axpo.core.types import Status
from verl_axpo.eval.prompts import prompt_hash
from verl_axpo.eval.runner import STOP_AFTER, ServerLost
from verl_axpo.eval.sampling import Limits, Sampling
from verl_axpo.eval.store import Store
from verl_axpo.report.compare import compare
from verl_axpo.report.evaluation import build_report
from verl_axpo.report.results import load_evaluation
from verl_axpo.tools.search.service import Search
from verl_axpo.view.evaluation import EvaluationSource

Serve = Callable[..., ScriptedServer]
REPO = Path(__file__).parents[3]
MAIN = [sys.executable, "-c", "from verl_axpo.cli import main; main()", "eval"]
# `colours` by its own folder: "tests" may also be the name of an installed package
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), str(REPO)))}


def test_every_rollout_is_sampled_scored_and_kept(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    assert evaluate(server.url, tmp_path / "out")
    store = Store(tmp_path / "out").load()
    scores = {key: score.correct for key, score in store.scores.items()}
    assert scores == {
        ("warm", "red", 0): True, ("warm", "red", 1): True, ("cold", "green", 0): True, ("cold", "green", 1): True,
        ("cold", "blue", 0): False, ("cold", "blue", 1): False,
    }  # fmt: skip
    green = next(rollout for rollout in store.rollouts() if rollout.uid == "green")
    assert (green.status, green.answer, green.uses_tool, len(green.turns)) == (Status.OK, "green", True, 2)
    assert (tmp_path / "out" / green.turns[0].responses[0].images[0]).exists()
    (question,) = store.questions("warm")
    assert (tmp_path / "out" / question.image_paths[0]).read_bytes() == colours.question("warm", "red").images[0]
    assert len(server.requests()) == 2 + 2 * 2 + 2  # red once, green twice, blue once; two rollouts each


def test_a_finished_evaluation_asks_for_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    evaluate(server.url, tmp_path / "out")
    asked = len(server.requests())
    server.kill()  # nobody is there to be asked
    assert evaluate(server.url, tmp_path / "out")
    assert len(server.requests()) == asked


def command(url: str, out: Path, *options: str) -> list[str]:
    """`verl-axpo eval run` in a process of its own, on the colours."""
    fixed = ["--model", MODEL, "--base-url", url, "--out", str(out), "--registry", "colours", "--tools", ZOOM_TOOLS]
    return [*MAIN, "run", *fixed, "--response-tokens", "1000", *options]


def run_cli(line: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_a_finished_evaluation_imports_neither_verl_nor_torch(serve: Serve, tmp_path: Path) -> None:
    server, out = serve(), tmp_path / "out"
    evaluate(server.url, out, benchmarks=("warm",))
    server.kill()
    line = command(server.url, out, "--benchmark", "warm", "--rollouts", "2")
    done = run_cli([line[0], "-X", "importtime", *line[1:]])
    assert done.returncode == 0, done.stdout
    assert "wrote" in done.stdout  # the report, which the run in this process has not made
    again = run_cli(line)
    assert again.returncode == 0
    assert "nothing to do; the report is" in again.stdout
    imported = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert "verl_axpo.eval.evaluate" in imported
    assert not imported & {"verl", "torch", "transformers"}


def test_a_killed_run_continues_where_it_was(serve: Serve, tmp_path: Path) -> None:
    """SIGKILL in the middle of 24 slow rollouts, a torn line on top; then every rollout exactly once."""
    slow = {name: [{**steps[0], "sleep": 0.15}, *steps[1:]] for name, steps in colours.SCRIPTS.items()}
    server, out = serve(**slow), tmp_path / "out"
    line = command(server.url, out, "--benchmark", "cold", "--source", "cold=3", "--concurrency", "2")
    process = subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for_lines(out / "rollouts.jsonl", 5, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with (out / "rollouts.jsonl").open("ab") as file:
        file.write(b'{"benchmark": "cold", "uid": "gre')
    before = [json.loads(line) for line in (out / "rollouts.jsonl").read_bytes().splitlines()[:-1]]
    assert 5 <= len(before) < 24

    done = run_cli(line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(before)} on disk, {24 - len(before)} to sample" in done.stdout
    lines = [json.loads(line) for line in (out / "rollouts.jsonl").read_bytes().splitlines()]
    keys = [(line["uid"], line["rollout"]) for line in lines]
    assert lines[: len(before)] == before
    assert len(keys) == len(set(keys)) == 24
    assert len(Store(out).load().scores) == 24
    assert "50.0" in (out / "report.md").read_text()  # green right, blue wrong


def wait_for_lines(path: Path, count: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120  # importing verl takes its time on a busy machine
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.05)
    pytest.fail(f"{path} has not {count} lines")


def test_infra_failures_are_marked_and_tried_again(serve: Serve, tmp_path: Path) -> None:
    refused = {"status": 400, "error": "too many images", "times": 2, "text": colours.says("blue")}
    server, out = serve(blue=[refused]), tmp_path / "out"
    assert not evaluate(server.url, out)
    store = Store(out).load()
    assert store.statuses["cold", "blue", 0] is Status.INFRA_FAILURE
    assert ("cold", "blue", 0) not in store.scores
    (error, _) = [rollout.error for rollout in store.rollouts() if rollout.uid == "blue"]
    assert "too many images" in str(error)
    asked = len(server.requests())
    assert evaluate(server.url, out)  # the server has recovered
    assert len(server.requests()) == asked + 2  # the two that failed, and no other
    again = Store(out).load()
    assert again.statuses["cold", "blue", 0] is Status.OK
    assert again.scores["cold", "blue", 0].correct is True


def test_a_lost_server_stops_the_run_and_keeps_what_is_finished(serve: Serve, tmp_path: Path) -> None:
    gone = [{"drop": True}]
    server, out = serve(green=gone, blue=gone), tmp_path / "out"
    with pytest.raises(ServerLost, match=r"16 rollouts in a row failed.*run the same command again"):
        evaluate(server.url, out, source=20, concurrency=1, benchmarks=("warm", "cold"))
    statuses = list(Store(out).load().statuses.values())
    assert statuses.count(Status.OK) == 40  # the warm ones came first
    assert statuses.count(Status.INFRA_FAILURE) == STOP_AFTER  # of 80: the rest was not tried in vain
    back = serve()
    assert evaluate(back.url, out, source=20, concurrency=8)  # on another port, which is no setting
    assert len(back.requests()) == 40 * 2 + 40  # green asks twice


def test_rollouts_that_failed_before_do_not_count_as_a_lost_server(serve: Serve, tmp_path: Path) -> None:
    """20 rollouts that always fail, more than may fail in a row; in the first run other rollouts are between them."""
    server, out = serve(blue=[{"status": 400, "error": "too many images"}]), tmp_path / "out"
    assert STOP_AFTER < 20
    found = colours.load("cold", 20)  # twenty green ones, then twenty blue ones
    order = [number for pair in zip(found[:20], found[20:], strict=True) for number in pair]
    assert not evaluate(server.url, out, questions={"cold": order}, rollouts=1, concurrency=1)
    assert not evaluate(server.url, out, questions={"cold": order}, rollouts=1, concurrency=1)
    statuses = list(Store(out).load().statuses.values())
    assert (statuses.count(Status.OK), statuses.count(Status.INFRA_FAILURE)) == (20, 20)


def test_a_judges_failure_is_unscored_and_scored_again_without_sampling(serve: Serve, tmp_path: Path) -> None:
    server, out = serve(), tmp_path / "out"
    assert not evaluate(server.url, out, benchmarks=("warm",), judge=colours.BrokenJudge())
    score = Store(out).load().scores["warm", "red", 0]
    assert (score.correct, score.by) == (None, "nobody")
    assert "asleep" in score.reason
    asked = len(server.requests())
    assert evaluate(server.url, out, benchmarks=("warm",), judge=colours.KindJudge())
    assert len(server.requests()) == asked
    assert Store(out).load().scores["warm", "red", 0].by == "judge"


def test_a_judge_that_comes_later_decides_what_the_rules_found_wrong(serve: Serve, tmp_path: Path) -> None:
    server, out = serve(green=[{"text": "no answer at all"}]), tmp_path / "out"
    assert evaluate(server.url, out)
    assert verdicts(out) == {"red": (True, "rule"), "green": (False, "rule"), "blue": (False, "rule")}
    server.kill()  # nothing is sampled again

    kind = colours.KindJudge()
    assert evaluate(server.url, out, judge=kind, judge_name="kind")
    assert verdicts(out) == {"red": (True, "rule"), "green": (False, "rule"), "blue": (True, "judge")}
    assert kind.asked == ["blue", "blue"]  # two rollouts; right is right, and no answer is none
    assert json.loads((out / "manifest.json").read_text())["settings"]["judge"] == "kind"

    lines = (out / "scores.jsonl").read_bytes()
    assert evaluate(server.url, out, judge=kind, judge_name="kind")
    assert (out / "scores.jsonl").read_bytes() == lines  # not even the rollouts without an answer
    for other in ("strict", None):
        with pytest.raises(ValueError, match=rf"judge: there 'kind', this run {other!r}"):
            evaluate(server.url, out, judge=other and kind, judge_name=other)


def verdicts(out: Path) -> dict[str, tuple[bool | None, str]]:
    """By question; its rollouts have the same."""
    return {uid: (score.correct, score.by) for (_, uid, _), score in Store(out).load().scores.items()}


def test_a_later_judge_that_fails_leaves_what_the_rules_said_and_is_asked_again(serve: Serve, tmp_path: Path) -> None:
    server, out = serve(), tmp_path / "out"
    assert evaluate(server.url, out)
    assert not evaluate(server.url, out, judge=colours.BrokenJudge(), judge_name="j")
    assert verdicts(out) == {"red": (True, "rule"), "green": (True, "rule"), "blue": (False, "rule")}
    page, name = EvaluationSource(out), next(name for name, uid, _ in Store(out).load().scores if uid == "blue")
    page.run()
    shown = page.question(name, "blue")["trajectories"][0]
    assert (shown["correct"], "wrong by rule" in shown["reason"]) == (None, True)  # no judge has decided
    assert all(chapter["metrics"].get("pass@1", 1.0) == 1.0 for chapter in page.run()["chapters"])
    assert evaluate(server.url, out, judge=colours.KindJudge(), judge_name="j")
    assert verdicts(out)["blue"] == (True, "judge")


def test_a_benchmark_that_was_left_out_when_the_judge_came_is_judged_when_it_is_in(
    serve: Serve, tmp_path: Path
) -> None:
    server, out, kind = serve(red=[{"text": colours.says("rose")}]), tmp_path / "out", colours.KindJudge()
    evaluate(server.url, out)
    evaluate(server.url, out, benchmarks=("warm",), judge=kind, judge_name="kind")
    assert verdicts(out) == {"red": (True, "judge"), "green": (True, "rule"), "blue": (False, "rule")}
    evaluate(server.url, out, judge=kind, judge_name="kind")
    assert verdicts(out)["blue"] == (True, "judge")


def test_only_what_a_judge_decides_is_scored_again(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, out, kind = serve(red=[{"text": colours.says("rose")}]), tmp_path / "out", colours.KindJudge()
    monkeypatch.setattr(colours, "judged", lambda question: question.benchmark == "cold", raising=False)
    text = io.StringIO()
    evaluate(server.url, out, console=Console(file=text))
    assert "no judge: rules alone decide on 2 of 2 questions of cold; these columns are lower bounds" in text.getvalue()
    (note,) = build_report(out).notes  # green is right
    assert note.startswith("Cold (2 verdicts) are lower bounds")
    text = io.StringIO()
    evaluate(server.url, out, judge=kind, judge_name="kind", console=Console(file=text))
    assert verdicts(out) == {"red": (False, "rule"), "green": (True, "rule"), "blue": (True, "judge")}
    assert "6 rollouts: 6 on disk, 0 to sample, 2 to score again" in text.getvalue()
    assert "lower bounds" not in text.getvalue()
    assert build_report(out).notes == []


def test_older_verdicts_of_a_judge_without_the_mark_are_kept(serve: Serve, tmp_path: Path) -> None:
    server, out = serve(), tmp_path / "out"
    strict = colours.StrictJudge()
    evaluate(server.url, out, judge=strict, judge_name="strict")
    scores = out / "scores.jsonl"
    scores.write_bytes(scores.read_bytes().replace(b',"judge":true', b""))
    assert b'"judge":true' not in scores.read_bytes()
    asked = len(strict.asked)
    assert evaluate(server.url, out, judge=strict, judge_name="strict")
    assert len(strict.asked) == asked


def test_a_run_killed_while_a_later_judge_decides_continues_there(serve: Serve, tmp_path: Path) -> None:
    """Twelve wrong answers for a slow judge, twelve rollouts without one; SIGKILL after a few verdicts, a torn line."""
    verdict = {"text": '{"reason": "the same colour", "correct": true}', "sleep": 0.3}
    mute, wrong = [{"text": "no answer at all"}], [{"text": colours.says("azure script:verdict")}]
    server, out = serve(verdict=[verdict], green=mute, blue=wrong), tmp_path / "out"
    assert evaluate(server.url, out, source=12, benchmarks=("cold",), rollouts=1)
    options = ["--benchmark", "cold", "--source", "cold=12", "--rollouts", "1", "--concurrency", "2"]
    judge = ["--judge-model", MODEL, "--judge-url", server.url, "--judge-key-env", ""]
    line = command(server.url, out, *options, *judge)
    process = subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for_lines(out / "scores.jsonl", 24 + 12 + 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with (out / "scores.jsonl").open("ab") as file:
        file.write(b'{"benchmark":"cold","uid":"bl')
    judged = [json.loads(line) for line in (out / "scores.jsonl").read_bytes().splitlines()[24:-1]]
    assert all(line["judge"] for line in judged)
    assert 15 <= len(judged) < 24
    assert json.loads((out / "manifest.json").read_text())["settings"]["judge"] == MODEL

    with pytest.raises(ValueError, match="judge: there 'scripted', this run None"):
        evaluate(server.url, out, source=12, benchmarks=("cold",), rollouts=1)
    done = run_cli(line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"24 rollouts: 24 on disk, 0 to sample, {24 - len(judged)} to score again" in done.stdout
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_bytes().splitlines()]
    assert lines[24 : 24 + len(judged)] == judged
    assert sorted(line["uid"] for line in lines[24:]) == sorted(line["uid"] for line in lines[:24])  # each once
    assert {uid[:4]: score for uid, score in verdicts(out).items()} == {
        "gree": (False, "rule"),
        "blue": (True, "judge"),
    }
    sampled = [request for request in server.requests() if "response_format" not in request]
    assert len(sampled) == 24


def test_other_settings_are_refused_by_name(serve: Serve, tmp_path: Path) -> None:
    url, out = serve().url, tmp_path / "out"
    evaluate(url, out, benchmarks=("warm",))
    with pytest.raises(ValueError, match=r"sampling.temperature: there 0.7, this run 1.0"):
        evaluate(url, out, benchmarks=("warm",), sampling=Sampling(temperature=1.0))
    with pytest.raises(ValueError, match=r"rollouts: there 2, this run 4"):
        evaluate(url, out, benchmarks=("warm",), rollouts=4)
    with pytest.raises(ValueError, match=r"questions of warm: there 1 .*, this run 2 "):
        evaluate(url, out, benchmarks=("warm",), source=2)
    assert evaluate(url, out, benchmarks=("warm", "cold"))  # another benchmark may come later


def test_another_prompt_is_refused_before_anything_is_sampled(serve: Serve, tmp_path: Path) -> None:
    server, out = serve(), tmp_path / "out"
    evaluate(server.url, out, benchmarks=("warm",))
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["prompt"]["sha256"] = "another"
    (out / "manifest.json").write_text(json.dumps(manifest))
    asked = len(server.requests())
    with pytest.raises(ValueError, match="another system prompt"):
        evaluate(server.url, out, benchmarks=("warm", "cold"))
    assert len(server.requests()) == asked


def test_the_report_names_what_the_search_answered_from(serve: Serve, tmp_path: Path) -> None:
    url = serve().url
    for run in ("one", "two"):
        corpus = tmp_path / run / "corpus"
        corpus.mkdir(parents=True)
        (corpus / "all.jsonl").write_text(json.dumps({"title": run, "url": "a://b/", "content": run}))
        options = {"type": "native", "documents": str(corpus), "cache_dir": str(tmp_path / run / "index")}
        tools = {"tools": [{"class_name": "verl_axpo.tools.search.tool.TavilySearch", "config": options}]}
        (tmp_path / run / "tools.yaml").write_text(yaml.safe_dump(tools))
        out = tmp_path / run / "out"
        evaluate(url, out, benchmarks=("warm",), tools=str(tmp_path / run / "tools.yaml"))
        build_report(out)
        report = json.loads((out / "report.json").read_text())
        (digest,) = report["tool_data"].values()
        assert digest == Search(options).content_hash()
        assert f"| data of tavily-search | SHA-256 {digest} |" in (out / "report.md").read_text()
        assert report["settings"]["prompts"] == prompt_hash()
    changed = compare(load_evaluation(tmp_path / "one/out"), load_evaluation(tmp_path / "two/out")).settings
    assert [line for line in changed if line.startswith("data of tavily-search: there ")]


def test_a_context_that_is_too_short_is_refused_at_once(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with pytest.raises(ValueError, match=r"context is 4096 tokens.*--max-model-len"):
        evaluate(server.url, tmp_path / "out", limits=Limits())
    assert server.requests() == []


def test_a_corrupt_picture_fails_its_question_alone(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = colours.question
    broken = {"green": b"\x89PNG no more"}

    def torn(benchmark: str, colour: str, uid: str | None = None) -> Any:
        one = whole(benchmark, colour, uid)
        return replace(one, images=(broken.get(colour, one.images[0]),))

    monkeypatch.setattr(colours, "question", torn)
    assert not evaluate(serve().url, tmp_path / "out", benchmarks=("cold",))
    store = Store(tmp_path / "out").load()
    assert {key[1]: status for key, status in store.statuses.items()} == {
        "green": Status.INFRA_FAILURE,
        "blue": Status.OK,
    }
    assert "cannot be read" in str(next(rollout.error for rollout in store.rollouts() if rollout.uid == "green"))


def test_a_question_without_its_picture_is_refused_by_name(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, whole = serve(), colours.question
    monkeypatch.setattr(colours, "question", lambda *some: replace(whole(*some), images=()))
    with pytest.raises(ValueError, match=r"question red of warm: got 0 images for 1 <image>"):
        evaluate(server.url, tmp_path / "out")
    assert server.requests() == []


def test_progress_says_what_is_left_and_how_fast_it_goes(serve: Serve, tmp_path: Path) -> None:
    server, out = serve(), tmp_path / "out"
    evaluate(server.url, out, benchmarks=("warm",))
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=160, color_system=None)
    evaluate(server.url, out, console=console)
    assert "6 rollouts: 2 on disk, 4 to sample" in text.getvalue()
    last = text.getvalue()[text.getvalue().rindex("6/6") :]
    assert "50.0 % correct" in last  # of the four of this run: green right, blue wrong
    assert "tokens/s" in last


def test_rollouts_run_side_by_side_and_nobody_waits_for_a_slow_one(serve: Serve, tmp_path: Path) -> None:
    slow = [{"text": colours.says("blue"), "sleep": 3.0}]
    server, out = serve(blue=slow), tmp_path / "out"
    evaluate(server.url, out, source=10, rollouts=1, benchmarks=("cold", "warm"), concurrency=12)
    finished = {rollout.uid: rollout.finished - rollout.started for rollout in Store(out).load().rollouts()}
    lines = [json.loads(line)["uid"] for line in (out / "rollouts.jsonl").read_text().splitlines()]
    slow_ones = [at for at, uid in enumerate(lines) if uid.startswith("blue")]
    # ten slow ones occupy ten of twelve workers; the warm questions, which come after them, are finished first
    assert min(slow_ones) >= 18
    assert finished["blue"] >= 3.0


def test_a_lost_connection_of_a_tool_costs_its_rollout_and_a_folder_that_takes_no_picture_the_run(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, whole = serve(), loop.Agent.run
    raised: list[OSError] = [ConnectionResetError("gone")]

    async def broken(self: loop.Agent, question: str, *rest: Any) -> Any:
        if "green" in question:
            raise raised[0]
        return await whole(self, question, *rest)

    monkeypatch.setattr(loop.Agent, "run", broken)
    assert not evaluate(server.url, tmp_path / "out")
    statuses = {key[1]: status for key, status in Store(tmp_path / "out").load().statuses.items()}
    assert statuses == {"red": Status.OK, "green": Status.INFRA_FAILURE, "blue": Status.OK}
    raised[0] = OSError(28, "No space left on device", str(tmp_path / "out/images/x.png"))
    with pytest.raises(OSError, match=r"No space left on device.*x\.png"):
        evaluate(server.url, tmp_path / "out")


def test_a_full_disk_is_reported_and_finished_rollouts_are_kept(serve: Serve, tmp_path: Path) -> None:
    """The rollouts' file reaches the limit in the middle of a line; the same command goes on with more room."""
    server, out = serve(), tmp_path / "out"
    line = command(server.url, out, "--benchmark", "warm", "--source", "warm=40", "--rollouts", "1", "--no-agent")
    limit = 10_000  # bytes a file may have: some twenty of forty lines

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    full = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False, preexec_fn=small_files)
    told = " ".join(full.stdout.split())
    assert full.returncode == 2, full.stdout + full.stderr
    assert "File too large: " in told
    assert "rollouts.jsonl" in told
    assert "Traceback" not in full.stderr
    kept = (out / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    assert 5 <= len(kept) < 40
    assert kept[-1].endswith(b"\n")  # what was written of the next line is cut back
    done = run_cli(line)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (out / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    assert lines[: len(kept)] == kept
    assert sorted(json.loads(line)["uid"] for line in lines) == sorted({"red", *(f"red{at}" for at in range(1, 40))})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="flock")
def test_two_runs_cannot_write_into_one_folder(tmp_path: Path) -> None:
    with (
        Store(tmp_path / "out"),
        pytest.raises(ValueError, match="another evaluation is writing there"),
        Store(tmp_path / "out"),
    ):
        pass
