"""How a zygote is confined: what each backend needs, and its command line.

bubblewrap: new user, mount, process, network and IPC namespaces over a file system of only what `layout` lists. Run by
root, it first becomes `nobody`, for whom the kernel's limits and file permissions count. Each worker then enters nested
user, mount and process namespaces of its own.
sandlock: Landlock rules and a supervised seccomp filter around the zygote; each worker adds Landlock rules of its own.
Not as closed, so never chosen unless it is named.
Both: `inside.confine` and `inside.seccomp` on top.
"""

import importlib.util
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from verl_axpo.tools.sandbox import layout
from verl_axpo.tools.sandbox.limits import UNCONFINED

Settings = dict[str, Any]
NOBODY = 65534
SCRATCH_FOLDER = "scratch"  # of the pool's folder: what its workers write to, one folder each
INSTALL = (
    "apt install bubblewrap (needs user namespaces: `unshare -U true` must work), "
    "or pip install sandlock (needs Linux 6.12 or newer with Landlock)"
)
# Modules ask to be told of forks, to make new locks and seeds; a worker needs neither, and each first call paid for it
_BOOTSTRAP = """
import os, sys
os.register_at_fork = lambda **hooks: None
sys.path[:1] = sys.argv[2:]
from inside.zygote import main
main()
"""
_ENVIRONMENT = {
    "PATH": "/nowhere",
    "HOME": layout.SCRATCH,
    "TMPDIR": layout.SCRATCH,
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",  # sets iterate in the same order in every sandbox
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": layout.SCRATCH,
    # a forked worker has one thread, and processors are shared by many workers
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One way to confine.

    Attributes:
        name: for the configuration and the log.
        missing: why it cannot even be tried here; None if it can.
        command: (settings for the zygote, folder for the pool's files) -> argument vector.
        keeps_scratch: whether workers write below the pool's folder on the host, which then has to clean up.
        leaves_open: what it does not keep from a model's code; only a configuration that names it then gets it.
    """

    name: str
    missing: Callable[[], str | None]
    command: Callable[[Settings, Path], list[str]]
    keeps_scratch: bool
    leaves_open: str = ""


def _python_arguments(python: str, settings: Settings, *folders: str) -> list[str]:
    return [python, "-s", "-S", "-B", "-c", _BOOTSTRAP, json.dumps(settings), *folders]


# ------------------------------ bubblewrap ------------------------------


def _bubblewrap_command(settings: Settings, folder: Path) -> list[str]:
    files = layout.find()
    settings = {**settings, "backend": "bubblewrap", "scratch": layout.SCRATCH, "readable": []}
    python = _python_arguments(files.python.target, settings, f"{layout.ROOT}/code", f"{layout.ROOT}/site")
    if os.geteuid() != 0:
        return [*_bubblewrap(files.mounts), *python]
    # Inside the first one everything already is where it belongs; the second finds it there and does the confining.
    moved = tuple(replace(mount, source=mount.target) for mount in files.mounts)
    return [*_become_nobody(files.mounts), *_bubblewrap(moved), *python]


def _bubblewrap(mounts: tuple[layout.Mount, ...]) -> list[str]:
    """The command line up to the program."""
    variables = _ENVIRONMENT | {"LD_LIBRARY_PATH": f"{layout.ROOT}/python/lib"}
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--cap-add", "CAP_SYS_ADMIN"]  # in this namespace alone: for the workers' process namespaces
    command += [part for name, value in variables.items() for part in ("--setenv", name, value)]
    command += [*_file_system(mounts), "--proc", "/proc", "--tmpfs", layout.SCRATCH]
    return [*command, "--remount-ro", "/", "--chdir", "/", "--"]


def _file_system(mounts: tuple[layout.Mount, ...]) -> list[str]:
    parents = {str(parent) for mount in mounts for parent in Path(mount.target).parents} - {"/"}
    # named first: the parents that bwrap makes on its own are for their owner only
    command = [part for parent in sorted(parents | {"/dev"}) for part in ("--dir", parent)]
    for mount in mounts:
        if mount.link is not None:
            command += ["--symlink", mount.link, mount.target]
        else:
            command += ["--ro-bind", mount.source, mount.target]
    for hidden in layout.hidden_folders():
        command += ["--tmpfs", hidden]
    return command + [part for device in layout.DEVICES for part in ("--dev-bind", device, device)]


def _become_nobody(mounts: tuple[layout.Mount, ...]) -> list[str]:
    """Prefix for root: the same file system, readable for everybody, then the unprivileged user."""
    paths = [os.path.realpath(path) for name in ("bwrap", "setpriv") if (path := shutil.which(name))]
    tools = tuple(layout.Mount(source=path, target=f"/usr/bin/{Path(path).name}") for path in paths)
    return [
        # A process namespace that root owns: the kernel empties it when the host is gone. Across the change of user no
        # process gets the signal that would end it with its parent.
        *("bwrap", "--unshare-pid", "--die-with-parent", "--clearenv", "--setenv", "PATH", "/usr/bin"),
        *_file_system((*mounts, *tools)),
        *("--bind", "/proc", "/proc", "--dir", layout.SCRATCH),
        *("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--"),
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"),
    ]


# ------------------------------ sandlock ------------------------------


def _sandlock_command(settings: Settings, folder: Path) -> list[str]:
    files = layout.find()
    site = _link_packages(files.packages, folder)
    libraries = [mount.source for mount in files.mounts if not mount.target.startswith(f"{layout.ROOT}/site/")]
    readable = [*libraries, *files.packages, str(site), *layout.DEVICES]
    settings = {**settings, "backend": "sandlock", "scratch": None, "readable": readable}
    plan = {
        "command": _python_arguments(files.python.source, settings, str(site)),
        "readable": readable,
        "writable": [str(folder / SCRATCH_FOLDER)],
        "env": _environment(folder),
        "folder": str(folder),
        "owner": os.getpid(),
        "name": f"python-{secrets.token_hex(8)}",  # sandlock wants each to be unique; what runs inside can read it
    }
    return [sys.executable, "-c", _SUPERVISOR, json.dumps(plan)]


# The supervisor's threads live in a process of their own, so that they end with the sandbox and not with the trainer.
# It removes the pool's files as well: the trainer's process may have been killed.
# Without its owner it kills a stopped parent, which cannot notice by itself; the workers go with that.
_SUPERVISOR = """
import json, os, pathlib, signal, subprocess, sys, threading, time
from sandlock import Sandbox
plan = json.loads(sys.argv[1])
def end_with_the_owner():
    while os.getppid() == plan["owner"]:
        time.sleep(1)
    time.sleep(3)
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                os.kill(int(status.parent.name), signal.SIGKILL)
        except OSError:
            pass
threading.Thread(target=end_with_the_owner, daemon=True).start()
paths = {"fs_readable": plan["readable"], "fs_writable": plan["writable"]}
box = Sandbox(**paths, clean_env=True, env=plan["env"], name=plan["name"])
try:
    sys.exit(box.run_interactive(plan["command"]))
finally:
    subprocess.run(["rm", "-rf", plan["folder"]])
"""


def _link_packages(packages: tuple[str, ...], folder: Path) -> Path:
    """A folder of links to our files and just these packages: Python has to list the folder that it imports from."""
    site = folder / "site"
    site.mkdir()
    for path in (str(layout.INSIDE), *packages):
        (site / Path(path).name).symlink_to(path)
    return site


def _environment(folder: Path) -> dict[str, str]:
    scratch = str(folder / SCRATCH_FOLDER)
    return _ENVIRONMENT | {"HOME": scratch, "TMPDIR": scratch, "MPLCONFIGDIR": scratch}


# ------------------------------ neither ------------------------------


def _unconfined_command(settings: Settings, folder: Path) -> list[str]:
    files = layout.find()
    site = _link_packages(files.packages, folder)
    settings = {**settings, "backend": UNCONFINED, "scratch": None, "readable": []}
    variables = [f"{name}={value}" for name, value in _environment(folder).items()]
    return ["env", "-i", *variables, *_python_arguments(files.python.source, settings, str(site))]


BACKENDS = {
    "bubblewrap": Backend(
        name="bubblewrap",
        missing=lambda: None if shutil.which("bwrap") else "bwrap is not installed",
        command=_bubblewrap_command,
        keeps_scratch=False,
    ),
    "sandlock": Backend(
        name="sandlock",
        missing=lambda: None if importlib.util.find_spec("sandlock") else "sandlock is not installed",
        command=_sandlock_command,
        keeps_scratch=True,
        leaves_open="code can fill the disk and the table of processes of this machine, and sees which files exist",
    ),
    UNCONFINED: Backend(name=UNCONFINED, missing=lambda: None, command=_unconfined_command, keeps_scratch=True),
}
