"""On a machine with a GPU the CPU platform is registered and does nothing else."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.gpu

PROBE = """
import sys, torch
before = torch.distributed.init_process_group
import verl
from verl.plugin.platform import get_platform
from verl_axpo.platforms import metadata, patches
assert get_platform().device_name == "cuda", get_platform()
assert not patches.installed()
assert not any(isinstance(finder, metadata.VllmFinder) for finder in sys.meta_path)
import verl.utils.distributed
assert torch.distributed.init_process_group is before
print("inert")
"""


def test_gpu_machine_sees_no_patch() -> None:
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", PROBE], capture_output=True, text=True, timeout=300)
    assert run.stdout.strip().endswith("inert"), run.stderr
