"""What the sandbox may read: the interpreter, the C library, the scientific packages, our few files; nothing else.

    installed distributions -> their requirements -> top-level folders -> Mount(host path, path inside)

Other packages of the environment (verl, our rewards, a benchmark's answers) are not among them.
"""

import importlib.util
import logging
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

logger = logging.getLogger(__name__)

INSIDE = Path(__file__).parent / "inside"
ROOT = "/sandbox"  # where everything of ours is, inside
SCRATCH = "/tmp"  # the private scratch space, inside
DISTRIBUTIONS = ("numpy", "scipy", "sympy", "matplotlib", "pillow")
# What the parent imports once for all workers: the packages, and those of their modules that import slowly
PRELOAD = (
    "numpy",
    "scipy.integrate",
    "scipy.linalg",
    "scipy.optimize",
    "scipy.special",
    "scipy.stats",
    "sympy",
    "matplotlib.pyplot",
    "PIL.Image",
    "PIL.ImageDraw",
    "PIL.ImageFont",
)
# Run by the parent after the imports: what is slow only the first time (fonts, tables, lazy imports)
WARM_UP = """
import io
import logging
import warnings
import matplotlib.font_manager
import matplotlib.pyplot as plt
import sympy
# There is one font here. A character or a family that it lacks is no news to the policy, and took a line for each
warnings.filterwarnings("ignore", r"Glyph \\d+ .*missing from")
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
figure = plt.figure()
plt.plot([0, 1])
plt.title("$x$")
figure.savefig(io.BytesIO(), bbox_inches="tight")
plt.close("all")
matplotlib.font_manager._get_font.cache_clear()  # each worker would do that, for these hold open files
x = sympy.Symbol("x")
sympy.integrate(x**2, x), sympy.solve(x**2 - 1, x), sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2)
"""
_SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64", "/etc/ld.so.cache")  # shared libraries
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or folder of the host and where it is inside; `link` instead makes `target` a symbolic link to it."""

    source: str
    target: str
    link: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All that can be read inside, and how the interpreter is started there.

    Attributes:
        mounts: system libraries, the interpreter, our files and the packages, in this order.
        python: the interpreter, as a path inside.
        packages: top-level folders and modules of the packages (host paths).
    """

    mounts: tuple[Mount, ...]
    python: Mount
    packages: tuple[str, ...]


def find() -> Layout:
    """The layout for the running interpreter.

    Raises:
        RuntimeError: a package that the tool promises to the model is not installed.
    """
    python, libraries = _interpreter()
    packages = tuple(sorted({str(path) for name in DISTRIBUTIONS for path in _package_paths(name, set())}))
    mounts = [
        Mount(source=path, target=path, link=os.readlink(path) if os.path.islink(path) else None)
        for path in _SYSTEM
        if os.path.exists(path)
    ]
    mounts += [*libraries, python, Mount(source=str(INSIDE), target=f"{ROOT}/code/inside")]
    mounts += [Mount(source=path, target=f"{ROOT}/site/{Path(path).name}") for path in packages]
    return Layout(mounts=tuple(mounts), python=python, packages=packages)


def _interpreter() -> tuple[Mount, list[Mount]]:
    """The interpreter itself and its own libraries; one outside /usr is moved, so that no home is named inside."""
    executable, prefix = os.path.realpath(sys.executable), Path(sys.base_prefix)
    if str(prefix) == "/usr":
        return Mount(source=executable, target=executable), []
    inside = f"{ROOT}/python"
    folders = [name for name in ("lib", "lib64") if (prefix / name).is_dir()]
    libraries = [Mount(source=str(prefix / name), target=f"{inside}/{name}") for name in folders]
    return Mount(source=executable, target=f"{inside}/bin/{Path(executable).name}"), libraries


def hidden_folders() -> list[str]:
    """Folders under the interpreter's libraries, inside, that hold other people's packages."""
    stdlib = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}))
    prefix = "/usr" if sys.base_prefix == "/usr" else f"{ROOT}/python"
    folders = [stdlib / "site-packages", stdlib / "dist-packages", stdlib.parent / "python3" / "dist-packages"]
    return [str(prefix / path.relative_to(sys.base_prefix)) for path in folders if path.is_dir()]


def keep_bytecode(preload: Sequence[str]) -> None:
    """Import `preload` once outside, if that was never done, so that Python keeps the compiled modules.

    The inside is read-only: without them every parent would compile thousands of modules anew.
    """
    folders = {Path(path).name: Path(path).parent for path in find().packages}
    if not all(_is_compiled(folders[name.split(".")[0]] / name.replace(".", "/")) for name in preload):
        logger.info("python sandbox: compiling %s, once", ", ".join(DISTRIBUTIONS))
        writing = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}  # empty is unset
        command = [sys.executable, "-c", f"import {', '.join(preload)}"]
        subprocess.run(command, env=writing, check=False, capture_output=True)


def _is_compiled(module: Path) -> bool:
    source = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    return Path(importlib.util.cache_from_source(str(source))).exists()


def _package_paths(name: str, seen: set[str]) -> Iterator[Path]:
    """Folders and modules of a distribution and of what it requires."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return
    seen.add(key)
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise RuntimeError(
            f"python tool: the package {name}, which its description promises, is not installed; pip install {name}"
        ) from None
    for file in distribution.files or ():
        top = file.parts[0]
        if top not in ("..", "__pycache__") and not top.endswith((".dist-info", ".egg-info")):
            yield Path(str(distribution.locate_file(top)))
    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from _package_paths(requirement.name, seen)
