"""`verl-axpo eval`: what it prints, writes and refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from examples.benchmark_rows import registry
from tests.unit.agent.scripted import MODEL, ZOOM_TOOLS, ScriptedServer
from tests.unit.eval import colours
from verl_axpo.eval.cli import app

Serve = Callable[..., ScriptedServer]
REGISTRY = colours.__name__


def cli(*arguments: str, **kwargs: Any) -> tuple[int, str]:
    """(exit status, output); what the command raises is raised."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "200"}, **kwargs)
    return done.exit_code, done.output


def run(url: str, out: Path, *options: str) -> tuple[int, str]:
    fixed = ["--model", MODEL, "--base-url", url, "--out", str(out), "--registry", REGISTRY, "--retries", "0"]
    return cli("run", *fixed, "--response-tokens", "1000", *options)


def test_run_report_compare(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    before, after = tmp_path / "before", tmp_path / "after"
    status, output = run(server.url, before, "--no-agent", "--rollouts", "1")
    assert status == 0
    assert "Pass@1" in output
    assert "report.html" in output
    # without tools green never answers: its script begins with a call
    assert "| Pass@1 | 0.0 [0.0, 0.0] | 100.0 [100.0, 100.0] |" in (before / "report.md").read_text()
    status, _ = run(server.url, after, "--tools", ZOOM_TOOLS, "--rollouts", "1")
    assert status == 0
    assert "| Pass@1 | 50.0 [0.0, 100.0] | 100.0 [100.0, 100.0] |" in (after / "report.md").read_text()

    (before / "report.html").unlink()
    status, output = cli("report", str(before), "--paper", "--title", "Mine")
    assert status == 0
    assert "paper's SFT+AXPO" in output
    assert "<title>Mine</title>" in (before / "report.html").read_text()

    status, output = cli("compare", str(before), str(after), "--out", str(tmp_path / "both"))
    assert status == 0
    assert "+50.0" in output
    assert "agent: there False, this run True" in output
    assert (tmp_path / "both" / "compare.md").exists()


def test_all_nine_benchmarks_end_to_end_on_their_fixtures(serve: Serve, tmp_path: Path) -> None:
    server = serve(any=[{"text": colours.THINKS + colours.ZOOM}, {"text": colours.says("A")}])
    fixed = ["--model", MODEL, "--base-url", server.url, "--out", str(tmp_path), "--response-tokens", "1000"]
    options = ["--registry", "examples.benchmark_rows.registry", "--tools", ZOOM_TOOLS, "--rollouts", "4", "--paper"]
    status, output = cli("run", *fixed, *options)
    assert status == 0, output
    text = (tmp_path / "report.md").read_text()
    columns = "MathVision | DynaMath | Math-VR | V* | VisualProbe | HR-4K | HR-8K | HR-MMSearch | MMSearch"
    assert f"| % | {columns} | math average | perception average | search average | average |" in text
    assert "| Pass@4, paper's SFT+AXPO (8B) | 75.7 | 87.0 | 74.1 | 95.3 |" in text
    measured = json.loads((tmp_path / "report.json").read_text())["measures"]
    assert len(measured["pass_1"]) == 9 + 3 + 1
    # every rollout calls the tool; where a question has no picture, that is the policy's mistake, and a call still
    assert measured["tool_use"]["average"]["value"] == 1.0
    assert 0 < measured["pass_1"]["average"]["value"] < 1


def test_the_columns_that_a_judge_would_raise_are_named_and_a_later_judge_raises_them(
    serve: Serve, tmp_path: Path
) -> None:
    """Each fixture question once, all answered "maybe": wrong by every rule, right for this judge."""
    verdict = {"text": '{"reason": "close enough", "correct": true}'}
    server = serve(any=[{"text": colours.says("maybe script:verdict")}], verdict=[verdict])
    fixed = ["--model", MODEL, "--base-url", server.url, "--out", str(tmp_path), "--response-tokens", "1000"]
    options = ["--registry", "examples.benchmark_rows.registry", "--no-agent", "--rollouts", "1"]
    names = ("math_vr", "visualprobe", "hr_mmsearch", "mmsearch")
    status, output = cli("run", *fixed, *options)
    assert status == 0, output
    counts = {name: len(registry.load(name)) for name in names}
    asked = ", ".join(f"{count} of {count} questions of {name}" for name, count in counts.items())
    assert f"no judge: rules alone decide on {asked}; these columns are lower bounds." in output
    verdicts = [f"{registry.get(name).column} ({count} verdicts)" for name, count in counts.items()]
    assert f"{', '.join(verdicts)} are lower bounds" in (tmp_path / "report.md").read_text()

    sampled = len(server.requests())
    judge = ["--judge-model", MODEL, "--judge-url", server.url, "--judge-key-env", ""]
    status, output = cli("run", *fixed, *options, *judge)
    assert status == 0, output
    assert f"0 to sample, {sum(counts.values())} to score again" in output
    assert all("response_format" in request for request in server.requests()[sampled:])
    report = json.loads((tmp_path / "report.json").read_text())
    judged = {name: benchmark["scored_by"]["judge"] for name, benchmark in report["benchmarks"].items()}
    assert judged == dict.fromkeys(registry.names(), 0) | counts
    assert "lower bounds" not in (tmp_path / "report.md").read_text()


def test_a_judge_with_nothing_to_decide_is_in_the_report(serve: Serve, tmp_path: Path) -> None:
    server, options = serve(), ["--no-agent", "--benchmark", "warm", "--rollouts", "1"]
    judge = ["--judge-model", MODEL, "--judge-url", server.url, "--judge-key-env", ""]
    run(server.url, tmp_path, *options)
    assert run(server.url, tmp_path, *options, *judge)[0] == 0
    assert json.loads((tmp_path / "report.json").read_text())["settings"]["judge"] == MODEL
    assert len(server.requests()) == 1


def test_a_run_with_failures_says_so_and_exits_with_1(serve: Serve, tmp_path: Path) -> None:
    broken = serve(blue=[{"status": 400, "error": "no"}])
    status, output = run(broken.url, tmp_path / "out", "--tools", ZOOM_TOOLS, "--benchmark", "cold", "--rollouts", "1")
    assert status == 1
    assert "1 of 2 rollouts failed for no fault of the policy" in output


def test_a_few_rollouts_that_always_fail_do_not_hold_up_what_follows(serve: Serve, tmp_path: Path) -> None:
    """4 rollouts of `cold`, of which blue's two are refused every time: half of them."""
    server = serve(blue=[{"status": 400, "error": "the prompt has 5000 tokens"}])
    options = ["--tools", ZOOM_TOOLS, "--benchmark", "cold", "--rollouts", "2"]
    status, output = run(server.url, tmp_path / "out", *options, "--max-failed", "0.49")
    assert status == 1
    assert "2 of 4 rollouts failed, 0 have no verdict (50.00%)" in output
    assert "2 x " in output
    assert "the prompt has 5000 tokens" in output
    asked = len(server.requests())
    status, output = run(server.url, tmp_path / "out", *options, "--max-failed", "0.5")
    assert status == 0
    assert "finished: up to 50.00% may be left (--max-failed)" in output
    assert len(server.requests()) == asked + 2  # tried again, and nothing else
    assert "2 of 4 rollouts failed for no fault of the policy" in (tmp_path / "out" / "report.md").read_text()


def test_a_finished_evaluation_gets_the_report_that_is_asked_for(serve: Serve, tmp_path: Path) -> None:
    server, options = serve(), ["--no-agent", "--benchmark", "warm", "--rollouts", "1"]
    run(server.url, tmp_path, *options)
    assert "paper's SFT+AXPO" not in (tmp_path / "report.md").read_text()
    assert "nothing to do" in run(server.url, tmp_path, *options)[1]
    status, output = run(server.url, tmp_path, *options, "--paper")
    assert status == 0
    assert "wrote" in output
    assert "paper's SFT+AXPO" in (tmp_path / "report.md").read_text()
    made = (tmp_path / "report.html").stat().st_mtime_ns
    run(server.url, tmp_path, *options, "--paper")
    assert (tmp_path / "report.html").stat().st_mtime_ns > made
    assert len(server.requests()) == 1


def test_a_folder_stays_with_the_commit_that_it_began_with(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, asked, branch = colours.load, [], ["a" * 40]

    def load(name: str, source: Any = None, *, limit: int | None = None, revision: str | None = None) -> Any:
        asked.append(revision)
        return whole(name, source, limit=limit)

    monkeypatch.setattr(colours, "load", load)
    monkeypatch.setattr(colours, "commit_of", lambda name, revision: revision or branch[0], raising=False)
    server, options = serve(), ["--no-agent", "--benchmark", "warm", "--rollouts", "1"]
    assert run(server.url, tmp_path / "out", *options)[0] == 0
    branch[0] = "b" * 40  # the hub's branch moves on
    assert run(server.url, tmp_path / "out", *options)[0] == 0
    assert run(server.url, tmp_path / "other", *options)[0] == 0
    assert run(server.url, tmp_path / "pinned", *options, "--revision", f"warm={'c' * 40}")[0] == 0
    assert asked == ["a" * 40, "a" * 40, "b" * 40, "c" * 40]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["benchmarks"]["warm"]["revision"] == "a" * 40
    assert f", revision {'a' * 40})" in (tmp_path / "out" / "report.md").read_text()
    assert run(server.url, tmp_path / "copy", *options, "--source", "warm=1")[0] == 0
    assert json.loads((tmp_path / "copy" / "manifest.json").read_text())["benchmarks"]["warm"]["revision"] == "local"
    with pytest.raises(ValueError, match="got 'x' for warm, which is a local copy; drop --revision warm"):
        run(server.url, tmp_path / "copy", *options, "--source", "warm=1", "--revision", "warm=x")


def test_keys_go_where_they_are_named_for(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-judges")
    monkeypatch.setenv("MINE", "the-servers")
    server = serve()
    for at, options in enumerate(([], ["--key-env", "MINE"])):
        assert run(server.url, tmp_path / str(at), "--no-agent", "--benchmark", "warm", *options)[0] == 0
    assert {request["authorization"] for request in server.requests()[:4]} == {"Bearer none"}
    assert {request["authorization"] for request in server.requests()[4:]} == {"Bearer the-servers"}


@pytest.mark.parametrize(
    ("options", "temperature"),
    [
        ((), [0.0]),
        (("--judge-temperature", "0.5"), [0.5]),
        (("--judge-temperature", "-1"), []),
        (("--judge-temperature", "none"), []),
    ],
)
def test_the_rewards_judge_decides_and_its_reason_is_kept(
    serve: Serve, tmp_path: Path, options: tuple[str, ...], temperature: list[float]
) -> None:
    """The real judge's client against the scripted server, through the command line."""
    verdict = {"text": '{"reason": "the same colour", "correct": true}'}
    server = serve(verdict=[verdict], blue=[{"text": colours.says("azure script:verdict")}])
    cold = ["--benchmark", "cold", "--rollouts", "1", "--no-agent", "--limit", "2"]
    judge = ["--judge-model", MODEL, "--judge-url", server.url, "--judge-key-env", "", *options]
    status, output = run(server.url, tmp_path / "out", *cold, *judge)
    assert status == 0, output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["benchmarks"]["cold"]["scored_by"] == {"rule": 1, "judge": 1, "nobody": 0}
    assert report["settings"]["judge"] == MODEL
    assert "the same colour" in (tmp_path / "out" / "scores.jsonl").read_text()
    # the judge's: a verdict in a schema
    (asked,) = [request for request in server.requests() if "response_format" in request]
    assert [asked[name] for name in asked if name == "temperature"] == temperature


SAMPLING = ("temperature", "top_p", "top_k", "presence_penalty")


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ((), {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "presence_penalty": 1.5}),
        (("--temperature", "none"), {"top_p": 0.8, "top_k": 20, "presence_penalty": 1.5}),
        (("--top-p", "none", "--top-k", "none"), {"temperature": 0.7, "presence_penalty": 1.5}),
        (("--presence-penalty", "none", "--top-k", "0"), {"temperature": 0.7, "top_p": 0.8}),
        (("--presence-penalty", "-0.5"), {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "presence_penalty": -0.5}),
        (("--temperature", "0"), {"temperature": 0, "top_p": 0.8, "top_k": 20, "presence_penalty": 1.5}),
    ],
)
def test_what_is_none_is_not_sent_and_named_so(
    serve: Serve, tmp_path: Path, options: tuple[str, ...], sent: dict[str, float]
) -> None:
    server, out = serve(), tmp_path / "out"
    status, output = run(server.url, out, "--no-agent", "--benchmark", "warm", "--rollouts", "1", *options)
    assert status == 0, output
    (asked,) = server.requests()
    assert {name: asked[name] for name in SAMPLING if name in asked} == sent
    noted = {name: sent.get(name, "not sent") for name in SAMPLING} | {"seed": "not sent"}
    for file in ("manifest.json", "report.json"):
        assert json.loads((out / file).read_text())["settings"]["sampling"] == noted
    report = (out / "report.md").read_text()
    assert [f"| sampling.{name} | not sent |" in report for name in SAMPLING] == [name not in sent for name in SAMPLING]


@pytest.mark.parametrize("option", ["--temperature", "--top-p", "--top-k", "--presence-penalty", "--judge-temperature"])
def test_what_is_neither_a_number_nor_none_is_refused(tmp_path: Path, option: str) -> None:
    status, output = run("http://127.0.0.1:9/v1", tmp_path / "out", "--no-agent", option, "off")
    assert status == 2
    assert f"Invalid value for '{option}'" in output
    assert "or none: not sent" in output


def test_an_evaluation_that_was_begun_with_null_for_not_sent_continues(serve: Serve, tmp_path: Path) -> None:
    """As older manifests wrote it."""
    server, options = serve(), ["--no-agent", "--benchmark", "warm", "--rollouts", "1", "--top-k", "0"]
    assert run(server.url, tmp_path, *options)[0] == 0
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"not sent"', "null"))
    status, output = run(server.url, tmp_path, *options)
    assert (status, len(server.requests())) == (0, 1), output
    assert json.loads(path.read_text())["settings"]["sampling"]["top_k"] == "not sent"
    with pytest.raises(ValueError, match=r"sampling\.top_k: there 'not sent', this run 20"):
        run(server.url, tmp_path, *options[:-2])


def test_a_misspelt_tool_config_is_reported_before_anything_is_read(tmp_path: Path) -> None:
    missing = ["--source", f"warm={tmp_path}/nowhere"]  # reading it would be the first error
    with pytest.raises(ValueError, match="tools: got 'papre', expected a YAML file or one of"):
        run("http://127.0.0.1:9/v1", tmp_path / "out", "--tools", "papre", *missing)
    assert not (tmp_path / "out").exists()


def test_what_ended_before_the_first_rollout_pins_nothing(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    server, options = serve(), ["--benchmark", "warm", "--rollouts", "1"]
    with pytest.raises(ValueError, match="TAVILY_API_KEY"):
        run(server.url, tmp_path, "--tools", "paper", *options)
    assert (tmp_path / "manifest.json").exists()
    status, output = run(server.url, tmp_path, "--tools", ZOOM_TOOLS, *options)
    assert status == 0, output
    with pytest.raises(ValueError, match="was made with other settings"):  # now there is something to compare with
        run(server.url, tmp_path, "--no-agent", *options)


def test_no_server_at_all_exits_with_1_and_names_it(tmp_path: Path) -> None:
    status, output = run("http://127.0.0.1:9/v1", tmp_path / "out", "--tools", ZOOM_TOOLS)
    assert status == 1
    assert "stopped" in output
    assert "127.0.0.1:9" in output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--tools is missing"),
        (["--tools", "nothing"], "expected a YAML file or one of"),
        (["--no-agent", "--source", "hot=x"], r"source: got \['hot'\]"),
        (["--no-agent", "--registry", "no.such.module"], "cannot be imported"),
        (["--no-agent", "--registry", "json"], "json has no"),
        (["--no-agent", "--dialect", "french"], r"choose from \['server', 'text'\]"),
        (["--no-agent", "--revision", "warm=abc"], "revision: got 'abc' for warm, which is no data of a hub"),
        (["--no-agent", "--revision", "warm"], r"revision: got \['warm'\]; expected NAME=VALUE"),
        (["--no-agent", "--max-failed", "1"], "max-failed: got 1.0, expected a share"),
        (["--no-agent", "--rollouts", "0"], "rollouts: got 0"),
        (["--no-agent", "--temperature", "-1"], "temperature: got -1.0, expected at least 0, or none to leave it"),
        (["--no-agent", "--top-p", "-1"], "top_p: got -1.0"),
        (["--no-agent", "--presence-penalty", "-3"], "presence_penalty: got -3.0, expected at least -2"),
        (["--no-agent", "--concurrency", "0"], "concurrency: got 0"),
        (["--no-agent", "--key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY is not set"),
        (["--no-agent", "--judge-model", "j", "--judge-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY is not set"),
    ],
)
def test_mistakes_are_reported_with_what_was_expected(
    serve: Serve, tmp_path: Path, options: list[str], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        run(serve().url, tmp_path / "out", *options)


def test_a_folder_without_an_evaluation_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    line = [sys.executable, "-c", "from verl_axpo.cli import main; main()", "eval", "report", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected the --out folder" in done.stdout.replace("\n", " ")
    assert "Traceback" not in done.stderr
