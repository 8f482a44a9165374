"""Entry point ``vllm.general_plugins``: vLLM calls ``register`` in its server, engine and worker processes.

vLLM's processes need not import verl, so the switch is vLLM's own platform here.
"""

from verl_axpo.platforms import metadata, patches


def register() -> None:
    """Apply the CPU patches when vLLM runs on its CPU platform; nothing otherwise."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        metadata.install()
        patches.install()
