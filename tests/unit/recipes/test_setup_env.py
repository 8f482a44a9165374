"""recipes/setup_env.sh in a checkout of its own, where small scripts replace the programs that install.

`Checkout` is a machine that meets all requirements but one, in most tests. Bash, coreutils and setup_env.sh are real.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.recipes.conftest import RECIPES
from verl_axpo import doctor

REAL = ("bash", "cat", "cp", "cut", "dirname", "mkdir", "realpath", "rm", "sha256sum")
AWK = shutil.which("awk")
GB = 1048576  # in units of 1024 bytes, which df -k and /proc/meminfo count

# A Python of some version, whose shared libraries are the files of the folder; `-m venv` makes a copy of it.
PYTHON = f"""#!/bin/sh
case "$*" in
  *version_info*) exec {sys.executable} -S -c "import sys; sys.version_info, sys.executable = {{version}}, '$0'; $2" ;;
  *ctypes*) exec {sys.executable} -S -c "import ctypes; ctypes.CDLL = open; $2" ;;
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  --version) echo Python ;;
  *torch*) exit 0 ;;
  *) echo "python: $*" >&2; exit 9 ;;
esac
"""
DF = f"""#!/bin/sh
echo "Filesystem 1024-blocks Used Available Capacity Mounted"
case "$2" in
  /dev/shm) echo "shm 0 0 $(({{shm_mb}} * 1024)) 0% /dev/shm" ;;
  *) echo "disk 0 0 $(({{disk_gb}} * {GB})) 0% /" ;;
esac
"""
AWK_OF = f"""#!/bin/sh
case "$*" in *MemTotal*) echo $(({{memory_gb}} * {GB})) ;; *) exec {AWK} "$@" ;; esac
"""


class Checkout:
    """A copy of the script with its requirements, and a PATH of only what is put there."""

    def __init__(self, root: Path) -> None:
        self.root, self.programs, self.log = root, root / "programs", root / "uv.log"
        for folder in ("programs", "recipes", "requirements"):
            (root / folder).mkdir()
        shutil.copy(RECIPES / "setup_env.sh", root / "recipes")
        for name in ("requirements/cpu.txt", "requirements/gpu.txt", "requirements/inspect.txt", "setup.py"):
            (root / name).write_text(f"# {name}\n")
        for name in REAL:
            (self.programs / name).symlink_to(str(shutil.which(name)))
        (root / "libnuma.so.1").touch()
        self.program("python3.11", PYTHON.format(version=(3, 11, 9)))
        self.program("uname", "#!/bin/sh\necho Linux x86_64\n")
        self.program("df", DF.format(shm_mb=2048, disk_gb=100))
        self.program("awk", AWK_OF.format(memory_gb=32))
        self.program("grep", "#!/bin/sh\nexit 0\n")  # of avx2 in /proc/cpuinfo
        self.program("uv", f'#!/bin/sh\necho "$*" >>{self.log}\n')

    def program(self, name: str, text: str) -> None:
        """Put a program on the PATH, or replace it."""
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def bash(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run bash at the top of the checkout with this PATH and these variables only."""
        environment = {"PATH": str(self.programs), "HOME": str(self.root), **variables}
        command = ["bash", *arguments]
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=60)

    def setup(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        return self.bash("recipes/setup_env.sh", **variables)

    def installed(self) -> list[str]:
        """What uv was told to install since the last time."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line.split()[-1] for line in lines if line.startswith("pip install")]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def failure(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """(what, fix) of a run that failed; the last two lines that it said."""
    assert done.returncode == 1, done.stderr
    what, fix = done.stderr.splitlines()[-2:]
    return what.removeprefix("[setup] failed: "), fix.removeprefix("[setup] fix:    ")


# ------------------------------ all is well ------------------------------


def test_packages_are_installed_once(checkout: Checkout) -> None:
    done = checkout.setup()
    assert (done.returncode, done.stdout) == (0, "")
    assert checkout.installed() == ["requirements/cpu.txt", "trl==1.16.0", "requirements/inspect.txt", "."]
    assert "[setup] .venv is ready (cpu stack" in done.stderr
    again = checkout.setup()
    assert (again.returncode, again.stderr) == (0, "[setup] .venv is up to date (cpu stack)\n")
    assert checkout.installed() == []


def test_an_environment_that_is_up_to_date_asks_nothing_of_the_machine(checkout: Checkout) -> None:
    checkout.setup()
    checkout.program("df", DF.format(shm_mb=1, disk_gb=0))
    (checkout.programs / "python3.11").unlink()
    assert checkout.setup().returncode == 0


@pytest.mark.parametrize("changed", ["requirements/cpu.txt", "setup.py"])
def test_a_new_dependency_is_installed_into_the_same_environment(checkout: Checkout, changed: str) -> None:
    checkout.setup()
    kept = checkout.root / ".venv/kept"
    kept.touch()
    checkout.installed()
    (checkout.root / changed).write_text("# another version\n")
    checkout.program("df", DF.format(shm_mb=2048, disk_gb=1))  # enough for an update
    assert checkout.setup().returncode == 0
    assert checkout.installed() == ["requirements/cpu.txt", "trl==1.16.0", "requirements/inspect.txt", "."]
    assert kept.exists()


def test_an_installation_that_broke_off_is_repeated(checkout: Checkout) -> None:
    checkout.program("uv", '#!/bin/sh\n[ "$1" != pip ]\n')
    what, fix = failure(checkout.setup())
    assert what == "uv could not install -r requirements/cpu.txt"
    assert "run again" in fix
    assert "making .venv" not in checkout.setup().stderr  # it is there, but not up to date
    assert not (checkout.root / ".venv/.axpo-stamp").exists()


def test_packages_that_cannot_be_imported_leave_no_stamp(checkout: Checkout) -> None:
    checkout.program("python3.11", PYTHON.format(version=(3, 11, 9)).replace("*torch*) exit 0", "*torch*) exit 4"))
    assert checkout.setup().returncode == 1
    assert not (checkout.root / ".venv/.axpo-stamp").exists()


def test_another_stack_is_another_environment(checkout: Checkout) -> None:
    checkout.setup()
    checkout.installed()
    assert checkout.setup(STACK="gpu").returncode == 0
    assert checkout.installed() == ["requirements/gpu.txt", "trl==1.16.0", "requirements/inspect.txt", "."]


@pytest.mark.parametrize(("listed", "stack"), [("GPU 0: NVIDIA H100", "gpu"), ("No devices were found", "cpu")])
def test_the_stack_is_what_nvidia_smi_sees(checkout: Checkout, listed: str, stack: str) -> None:
    (checkout.programs / "grep").unlink()
    (checkout.programs / "grep").symlink_to(str(shutil.which("grep")))
    checkout.program("nvidia-smi", f"#!/bin/sh\necho '{listed}'\n")
    done = checkout.bash("-c", "source recipes/setup_env.sh; axpo_stack")
    assert done.stdout == f"{stack}\n"


def test_a_shell_that_sources_it_uses_the_environment(checkout: Checkout) -> None:
    done = checkout.bash("-euc", 'source recipes/setup_env.sh; echo "$VIRTUAL_ENV"; command -v python')
    assert done.stdout.splitlines() == [f"{checkout.root}/.venv", f"{checkout.root}/.venv/bin/python"]


def test_a_shell_that_sources_it_caches_bytecode(checkout: Checkout) -> None:
    script = 'source recipes/setup_env.sh; echo "${PYTHONDONTWRITEBYTECODE-unset}"'
    assert checkout.bash("-euc", script, PYTHONDONTWRITEBYTECODE="1").stdout == "unset\n"


# ------------------------------ something is missing ------------------------------


def test_a_failure_ends_a_recipe_but_not_a_shell(checkout: Checkout) -> None:
    script = "source recipes/setup_env.sh; echo $?"
    assert checkout.bash("-c", script, STACK="nonsense").stdout == "1\n"
    recipe = checkout.bash("-euc", script, STACK="nonsense")
    assert (recipe.returncode, recipe.stdout) == (1, "")


def test_an_unknown_stack_is_refused(checkout: Checkout) -> None:
    what, fix = failure(checkout.setup(STACK="nonsense"))
    assert (what, fix) == ("STACK=nonsense", "use STACK=cpu or STACK=gpu")


def test_a_missing_python_is_reported_with_its_fix(checkout: Checkout) -> None:
    (checkout.programs / "python3.11").unlink()
    what, fix = failure(checkout.setup())
    assert what == ("no Python 3.10, 3.11 or 3.12 (looked for python3.11, python3.12, python3.10, python3, python)")
    assert "apt install python3.11" in fix
    assert "PYTHON=$(uv python find 3.11) bash recipes/setup_env.sh" in fix
    assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize("minor", [9, 10, 11, 12, 13])
def test_only_the_pythons_that_the_doctor_accepts(checkout: Checkout, minor: int) -> None:
    (checkout.programs / "python3.11").unlink()
    checkout.program("mine", PYTHON.format(version=(3, minor, 4)))
    done = checkout.setup(PYTHON="mine")
    assert (done.returncode == 0) == doctor.check_python(f"3.{minor}.4").ok
    assert ("(looked for mine)" in done.stderr) == (done.returncode != 0)


@pytest.mark.parametrize(
    ("program", "text", "what", "fix"),
    [
        ("uname", "#!/bin/sh\necho Darwin arm64\n", "this is Darwin arm64", "use Linux on x86_64"),
        ("df", DF.format(shm_mb=2048, disk_gb=11), "11 GB free in {root}", "free at least 12 GB"),
        ("df", DF.format(shm_mb=64, disk_gb=12), "64 MB free in /dev/shm", "docker run --shm-size=8g"),
        ("awk", AWK_OF.format(memory_gb=8), "8 GB of memory", "a machine with at least 12 GB"),
        ("grep", "#!/bin/sh\nexit 1\n", "the processor has no AVX2", "use another machine"),
        (
            "python3.11",
            PYTHON.format(version=(3, 11, 9)).replace("mkdir", "exit 1; mkdir"),
            "{root}/programs/python3.11 cannot make a virtual environment",
            "apt install python3-venv",
        ),
    ],
)
def test_a_machine_that_lacks_something(checkout: Checkout, program: str, text: str, what: str, fix: str) -> None:
    checkout.program(program, text)
    got, told = failure(checkout.setup())
    assert got == what.format(root=checkout.root)
    assert fix in told
    assert checkout.installed() == []
    assert not (checkout.root / ".venv").exists()


def test_missing_shared_memory_is_reported_with_its_fix(checkout: Checkout) -> None:
    checkout.program("df", DF.format(shm_mb=0, disk_gb=12).replace("/dev/shm)", "/dev/shm) exit 1 ;;\n  never)"))
    got, told = failure(checkout.setup())
    assert got == "0 MB free in /dev/shm"
    assert "docker run --shm-size=8g" in told


@pytest.mark.parametrize("shim", [False, True])
def test_without_a_uv_that_runs_pip_has_to_install_one(checkout: Checkout, shim: bool) -> None:
    (checkout.programs / "uv").unlink()
    if shim:  # pyenv's: on the PATH, whether or not its Python has a uv
        checkout.program("uv", "#!/bin/sh\nexit 127\n")
    done = checkout.setup()
    assert "python: -m pip install -q uv\n" in done.stderr  # which this Python refuses
    assert failure(done) == ("pip could not install uv", "check the network and pip's settings")


def test_a_missing_libnuma_is_reported_with_its_fix(checkout: Checkout) -> None:
    (checkout.root / "libnuma.so.1").unlink()
    what, fix = failure(checkout.setup())
    assert what == "libnuma.so.1, which vLLM's CPU build loads, is missing"
    assert "apt install libnuma1" in fix
    assert checkout.setup(STACK="gpu").returncode == 0  # which does without


# ------------------------------ and the recipe that calls it ------------------------------


def test_a_missing_sandbox_is_reported_before_anything_is_made(checkout: Checkout) -> None:
    checkout.setup()
    for name in ("run_tiny_axpo.sh", "env.sh"):
        shutil.copy(RECIPES / name, checkout.root / "recipes")
    broken = checkout.root / "broken/sandlock/__init__.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("raise ImportError('no Landlock in this kernel')\n")  # and no bwrap on the PATH
    (checkout.root / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    path = os.pathsep.join((str(broken.parents[1]), str(RECIPES.parent)))
    done = checkout.bash("recipes/run_tiny_axpo.sh", PYTHONPATH=path)
    assert done.returncode == 1
    assert "bubblewrap: bwrap is not installed; sandlock: " in done.stderr
    assert "Fix: apt install bubblewrap" in done.stderr
    assert not (checkout.root / "outputs").exists()


def test_families_without_python_need_no_sandbox(checkout: Checkout) -> None:
    checkout.setup()
    for name in ("run_tiny_axpo.sh", "env.sh"):
        shutil.copy(RECIPES / name, checkout.root / "recipes")
    command = checkout.root / ".venv/bin/verl-axpo"
    command.write_text('#!/bin/sh\necho "verl-axpo $*"\nexit 7\n')
    command.chmod(0o755)
    done = checkout.bash("recipes/run_tiny_axpo.sh", FAMILIES="perception,search")
    assert done.returncode == 7
    assert done.stdout.startswith("verl-axpo run --title world")
