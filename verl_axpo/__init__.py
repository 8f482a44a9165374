"""AXPO (Agent Explorative Policy Optimization) for verl: resample the tool call where a group's tool use failed.

The package in reading order; importing it imports neither torch nor verl.

    core/         the paper: trigger -> rank -> allocate -> resample -> advantages; pure, no verl inside
    integration/  all that hooks into verl: agent loop, rollout hook, estimator, trainer, plugin
    platforms/    verl and vLLM on a machine without an accelerator
    tools/        what the policy may call
    rewards/      how an answer is scored
    data/         questions and SFT trajectories, from the paper's sources
    trace/        what a step did, on disk: one JSON line per trajectory
    audit/        every decision and advantage of a run, recomputed from its trace
    agent/        trajectories from any OpenAI-compatible server, with training's tools, prompt and parser
    eval/         nine benchmarks and their scorers, Pass@1 and Pass@k
    check/        what would stop a command of verl, found before it starts
    report/       one report for trainings and evaluations

`cli.py` is the command `verl-axpo`; docs/design/house.md has a line for each module.
"""

__version__ = "0.1.0"
