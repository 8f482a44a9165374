"""Everything that can be known about a recipe before it costs anything, on any machine and in seconds.

    recipes/run_*.sh -> plan file -> stages.py   what would run, with the very command lines
                                  -> compose.py  a training stage's full config, through Hydra as verl does it
                                  -> host.py     verl's dataclasses and validate_config
                                  -> rules.py    what verl would notice too late, or never
                                  -> shapes.py   what the model is -> memory.py: what it needs on a GPU
                                  -> served.py   models that a stage serves for itself: GPUs, memory
                                  -> search.py   paid searches: expected and allowed
                                  -> files.py    parquet files: rows and columns
                                  -> machine.py  is it all here: versions, GPUs, memory, disk, Ray's workers
                                  -> services.py keys, servers, programs, tools
                                  -> report.py   the plan and one table of green and red, with fixes

A recipe that goes on calls aside.py (rollouts of a checkpoint that was trained on since step aside) and leftovers.py
(checkpoints of earlier starts, which verl would never delete, are removed).

Needs neither GPU nor network nor the model: sizes come from a table of published values or a local config.json.
"""
