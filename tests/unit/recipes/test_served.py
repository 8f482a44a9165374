"""Models that a stage serves for itself, and the web searches it pays for: told in the plan, before anything starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.recipes.test_machine import EIGHT, offering, red
from verl_axpo.agent.toolbox import load_tools
from verl_axpo.preflight import machine, services
from verl_axpo.preflight.check import Report
from verl_axpo.preflight.search import check_searches
from verl_axpo.preflight.served import Served, check_served, served_of
from verl_axpo.preflight.sizes import Sizes
from verl_axpo.preflight.stages import Stage
from verl_axpo.tools.configs import settings_of

TEACHER = "Qwen/Qwen3-VL-32B-Thinking"


def serving(model: str = TEACHER, *, gpus: int = 8, replica: int = 2, **values: object) -> Stage:
    words = ("env", f"GPUS={gpus}", f"TP={replica}", "LENGTH=65536", "LOG=a b", "bash", "recipes/serve.sh", model, "--")
    argv = (*words, "verl-axpo", "eval", "run", "--tools", "no_search")
    return Stage(name="attempts", kind="command", argv=argv, **values)  # type: ignore[arg-type]


def test_what_is_served_stands_in_the_command() -> None:
    assert served_of(serving()) == Served(model=TEACHER, gpus=8, replica=2, length=65_536)
    assert served_of(Stage(name="a", kind="command", argv=("true",))) is None


def test_a_replica_needs_its_gpus() -> None:
    ((found, fix),) = red(check_served(serving(gpus=1)))
    assert found == f"{TEACHER} on 2 GPUs, there are GPUS=1"
    assert "TEACHER_URL" in fix
    assert "TEACHER_TP" in fix


def test_the_teacher_fits_on_two_gpus_of_80_gb_and_not_on_one() -> None:
    # 33.36e9 parameters x 2 bytes are 62 GiB; 65,536 tokens x 2 x 64 layers x 8 x 128 x 2 bytes are 16; 4 for vLLM
    (finding,) = check_served(serving(gpu_gib=79.0))
    assert (finding.ok, "about 43 of 71 GiB" in finding.found) == (True, True)  # (62 + 16) / 2 + 4; 0.9 x 79
    ((found, fix),) = red(check_served(serving(replica=1, gpu_gib=79.0)))
    assert "about 82 of 71 GiB on each of 1 GPUs (62 of weights, 16 for one conversation" in found
    assert "TEACHER_TP" in fix


def test_a_checkpoint_that_is_not_there_yet_is_as_large_as_what_it_is_trained_from() -> None:
    stage = serving("/not/yet", replica=1, gpu_gib=79.0, base="Qwen/Qwen3-VL-8B-Thinking")
    (finding,) = check_served(stage)
    assert "(16 of weights, 9 for one" in finding.found  # 8.77e9 x 2 bytes; 65,536 x 147,456
    assert list(check_served(serving("some/other-model", gpu_gib=79.0))) == []


def test_gpus_of_a_served_model_are_counted_on_this_machine() -> None:
    report = Report(stage=serving(gpu_gib=79.0))
    assert red(machine.check_gpus([report], EIGHT)) == []
    ((found, _),) = red(machine.check_gpus([report], EIGHT[:4]))
    assert found == "4 here, 8 wanted on this node"
    assert list(machine.check_gpus([Report(stage=serving())], [])) == []  # the tiny model, on a CPU


def test_tools_of_an_evaluation_are_started_once(tmp_path: Path) -> None:
    (finding,) = services.check_tools_start([Report(stage=serving())])
    assert (finding.ok, finding.found) == (True, "python, image_zoom_in")
    own = offering(tmp_path / "tools.yaml", "tools: []")
    later = Stage(name="e", kind="command", argv=("verl-axpo", "eval", "run", "--tools", "/not/there/yet.yaml"))
    assert [one.ok for one in services.check_tools_start([own, Report(stage=later)])] == [True]


def test_a_search_budget_that_will_be_spent_is_told() -> None:
    stage = serving(search_calls=14_079, search_percent=4.0, search_attempts=352_000)
    ((found, fix),) = red(check_searches(stage))  # 4 % are 14,080
    assert (
        "about 14,080 paid searches (estimated: one for 4 % of 352,000 attempts), at most SEARCH_CALLS=14,079" in found
    )
    assert fix.startswith("SEARCH_CALLS=28160 or more")
    assert red(check_searches(replace(stage, search_calls=14_080))) == []
    assert list(check_searches(serving())) == []


def test_attempts_of_a_training_are_counted_with_its_continuations() -> None:
    sizes = Sizes(
        rows=0, counted=False, steps=145, tokens_per_step=0, rollouts_per_step=2048, continuations_per_step=512
    )
    stage = serving(search_calls=1, search_percent=9.0)
    ((found, _),) = red(check_searches(stage, sizes))
    assert "one for 9 % of 371,200 attempts" in found  # 145 x 2,560


def test_an_evaluation_goes_on_with_a_larger_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder is held to its settings, of which what may be spent is none."""
    before = settings_of("paper")
    monkeypatch.setenv("SEARCH_CALLS", "70000")
    monkeypatch.setenv("SEARCH_RUN", "other")
    assert settings_of("paper") == before


def test_the_recipes_variables_reach_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TAVILY_API_KEY", "not-used")
    monkeypatch.setenv("SEARCH_CALLS", "70000")
    monkeypatch.setenv("SEARCH_RUN", "/data/marks/attempts_teacher")
    config = next(tool.search.config for tool in load_tools("paper") if hasattr(tool, "search"))
    assert (config.run, config.max_paid_calls) == ("/data/marks/attempts_teacher", 70_000)
    monkeypatch.delenv("SEARCH_CALLS")
    monkeypatch.delenv("SEARCH_RUN")
    config = next(tool.search.config for tool in load_tools("paper") if hasattr(tool, "search"))
    assert (config.run, config.max_paid_calls) == ("default", 1000)
