"""What stages talk to: stages -> keys, servers, programs, and the tools themselves, started once."""

import contextlib
import io
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence

from omegaconf import OmegaConf

from verl_axpo.preflight.check import Report
from verl_axpo.preflight.problems import Finding, fine, problem
from verl_axpo.preflight.served import SERVE
from verl_axpo.preflight.stages import Stage
from verl_axpo.tools.configs import config_path

SERVER_TIMEOUT_S = 3.0
TOOLS = "actor_rollout_ref.rollout.multi_turn.tool_config_path"


def check_environment(stages: Sequence[Stage], environment: Mapping[str, str]) -> Iterator[Finding]:
    """Keys are set; their values are never shown."""
    for name in dict.fromkeys(name for stage in stages for name in stage.env):
        if environment.get(name):
            yield fine("key", f"{name} is set")
        else:
            yield problem(
                "key", f"{name} is not set", f"export {name}=..., or see the head of the recipe for doing without"
            )


def check_servers(stages: Sequence[Stage]) -> Iterator[Finding]:
    """Servers that stages talk to answer; an HTTP error is an answer too, a missing key is found by the stage."""
    for url in dict.fromkeys(url for stage in stages for url in stage.servers):
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/models", timeout=SERVER_TIMEOUT_S):
                yield fine("server", f"{url} answers")
        except urllib.error.HTTPError as error:
            yield fine("server", f"{url} answers ({error.code})")
        except (OSError, ValueError) as error:
            yield problem("server", f"{url}: {error}", "start it, or correct the URL (it ends in /v1)")


def check_programs(stages: Sequence[Stage]) -> Iterator[Finding]:
    """The program of every command can be found."""
    programs = {program for stage in stages for program in programs_of(stage.argv)}
    missing = sorted(name for name in programs if shutil.which(name) is None)
    if missing:
        yield problem("programs", f"not found: {missing}", "bash recipes/setup_env.sh, and start from its environment")
    else:
        yield fine("programs", ", ".join(sorted(programs)))


def programs_of(argv: Sequence[str]) -> set[str]:
    """What a command line starts; behind recipes/serve.sh also the server and the command that it is for."""
    if SERVE in argv and "--" in argv:
        return {"bash", "curl", "python", *programs_of(argv[argv.index("--") + 1 :])}
    words = [word for word in argv if word != "env" and "=" not in word]
    return set(words[:1])


def check_tools_start(ahead: Sequence[Report]) -> Iterator[Finding]:
    """Every tool that a training or an evaluation offers can be built here: a sandbox is found, a search can search."""
    paths = (_tools_of(report) for report in ahead)
    for path in dict.fromkeys(path for path in paths if path and os.path.isfile(path)):
        from verl.tools.tool_registry import initialize_tools_from_config

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                tools = initialize_tools_from_config(path)
        except Exception as error:  # whatever a tool's constructor raises is what a worker would have raised
            yield problem("tools", f"{path}: {error}", "change what the message names")
        else:
            yield fine("tools", ", ".join(tool.name for tool in tools))


def _tools_of(report: Report) -> str:
    """The tool config of an RL stage or of `verl-axpo eval run`; empty where there is none, or none yet."""
    if report.stage.kind == "rl":
        return str(OmegaConf.select(report.config, TOOLS) or "") if report.config is not None else ""
    argv = report.stage.argv
    if "eval" not in argv or "--tools" not in argv:
        return ""
    try:
        return str(config_path(argv[argv.index("--tools") + 1]))
    except ValueError:  # a file that an earlier stage makes; or none at all, which `verl-axpo eval run` tells
        return ""
