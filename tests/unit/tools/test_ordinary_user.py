"""The attack corpus once more as an ordinary user, for whom the kernel has other rules than for root.

Whoever is no root runs it as one anyway, by test_attacks.py; there is nothing to add then.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from verl_axpo.tools.sandbox.backends import NOBODY

REPOSITORY = Path(__file__).parents[3]
LIMIT_S = 1200  # of a corpus that takes a minute on an idle machine

if os.geteuid() == 0:

    def test_an_ordinary_user_is_as_safe() -> None:
        with tempfile.TemporaryDirectory() as home:  # not pytest's, whose folders only their owner may enter
            os.chown(home, NOBODY, NOBODY)
            tests = ["-q", "-p", "no:cacheprovider", f"--basetemp={home}/pytest", "tests/unit/tools/test_attacks.py"]
            done = subprocess.run(
                [*_as_nobody(), sys.executable, "-m", "pytest", *tests],
                cwd=REPOSITORY,
                env=os.environ | {"HOME": home, "TMPDIR": home, "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
        assert done.returncode == 0, done.stdout[-4000:]
        assert " passed" in done.stdout


def _as_nobody() -> list[str]:
    """Prefix of a command line: nobody's, who finds interpreter and repository even in a closed home."""
    mounts: list[str] = []
    for needed in (REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)):
        closed = [folder for folder in reversed(needed.parents) if not folder.stat().st_mode & 0o001]
        if closed:
            mounts += ["--tmpfs", str(closed[0])] if str(closed[0]) not in mounts else []
            inner = [folder for folder in reversed(needed.parents) if closed[0] in folder.parents]
            for folder in inner:  # those that bwrap makes on its own are closed too
                mounts += ["--dir", str(folder)]
            mounts += ["--ro-bind", str(needed), str(needed)]
    bwrap, setpriv = shutil.which("bwrap"), shutil.which("setpriv")
    assert bwrap is not None, "apt install bubblewrap"
    assert setpriv is not None, "apt install util-linux"
    user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all"]
    return [bwrap, "--dev-bind", "/", "/", *mounts, "--", setpriv, *user]
