"""Nine benchmarks, as the paper reports them: questions -> rollouts -> scores -> Pass@1 and Pass@k tables.

types.py      Question, Turn, Score, and how they are kept as lines of JSON; sampling.py how a rollout is sampled
benchmarks/   the nine: loading questions and scoring answers; registry.py any module of benchmarks
scorers/      the scoring parts that they share
prompts.py    the user turn, one prompt per answer type
options.py    what options of the command line name
settings.py   what an evaluation is asked to do; manifest.py the settings on disk, another run is held to them
versions.py   by which rules a verdict was given, and a rollout sampled
store.py      the folder, crash-safe
plan.py       what is missing, and what failed although everything was tried
runner.py     questions x k rollouts through an agent, scored: what is missing is done; live.py the progress bar
server.py     vLLM's server, while something is sampled
evaluate.py   all of it for one run
export.py     benchmarks as rows for verl's validation; reward.py scores them there
report/       numbers, tables, comparison, plots, the HTML page
cli.py        `verl-axpo eval run | report | compare | export`
"""
