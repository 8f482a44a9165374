"""A closed, stateful Python interpreter per trajectory; needs neither verl nor torch.

    limits.py    settings, checked               layout.py  what the inside may read
    backends.py  bubblewrap, sandlock            probe.py   which of them really confines a process here
    session.py   a trajectory: code in, text and images out
    pool.py      the sandboxes of this process   places.py  the limits of the node
    zygote.py    pre-imported parent, workers    reply.py   what a worker sent, checked
    inside/      what runs in the sandbox

Example:
    config = SandboxConfig(memory_mb=512)
    pool = SandboxPool(config, choose(config))
    session = Session(pool)
    print((await session.run("import math; math.sqrt(2)")).text)
    await session.close()
    await pool.close()
"""

from verl_axpo.tools.sandbox.limits import SandboxConfig
from verl_axpo.tools.sandbox.pool import SandboxPool
from verl_axpo.tools.sandbox.probe import choose
from verl_axpo.tools.sandbox.reply import CellResult
from verl_axpo.tools.sandbox.session import Session

__all__ = ["CellResult", "SandboxConfig", "SandboxPool", "Session", "choose"]
