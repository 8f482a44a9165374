"""Entry point ``verl.plugins``: importing this module is what verl does with it, in every process.

Registers the platform; on a machine without an accelerator also switches on ``metadata.py`` and ``patches.py``.
verl swallows what a plugin raises, so a failure is logged here before it is lost.
"""

import logging

from verl.plugin.platform import PlatformRegistry

from verl_axpo.platforms import cpu, metadata, patches

logger = logging.getLogger(__name__)


def register() -> None:
    """Make platform ``cpu`` known to verl, and act on it where this process runs on it."""
    PlatformRegistry.register(cpu.NAME)(cpu.PlatformCPU)
    if cpu.is_active():
        metadata.install()
        patches.install()


try:
    register()
except Exception:
    logger.exception("verl_axpo's CPU platform could not be registered; verl goes on without it")
    raise
