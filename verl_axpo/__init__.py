"""AXPO (Agent Explorative Policy Optimization) for verl: resample the tool call where a group's tool use failed.

The package in reading order; importing it imports neither torch nor verl.

    core/         the paper: trigger -> rank -> allocate -> resample -> advantages; pure, no verl inside
    integration/  the only code that knows verl: agent loop, rollout hook, estimator, trainer, plugin
    platforms/    verl and vLLM on a machine without an accelerator
    tools/        what the policy may call
    rewards/      how an answer is scored
    data/         questions, SFT trajectories, the tiny world
    eval/         Pass@1, Pass@4 and tool use on held-out questions
    report/       plots and the report of a run
    trace.py      one JSON line per trajectory, the record that `verl-axpo audit` recomputes
    cli.py        the `verl-axpo` command
"""
