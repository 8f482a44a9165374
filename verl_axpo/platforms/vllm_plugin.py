"""Entry point ``vllm.general_plugins``: vLLM calls ``register`` in its server, engine and worker processes.

vLLM's processes need not import verl, so the switch is vLLM's own platform here.
"""

from verl_axpo.integration.names import note_segments
from verl_axpo.platforms import metadata, patches


def register() -> None:
    """In a run of ours note shared memory; on vLLM's CPU platform apply the CPU patches; nothing otherwise."""
    note_segments()
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        metadata.install()
        patches.install()
