"""Nine benchmarks, as the paper reports them: questions -> rollouts -> scores -> Pass@1 and Pass@k tables.

types.py      Question and Score, which everything here speaks
benchmarks/   loading questions and scoring answers, one module per benchmark
scorers/      the scoring parts they share
prompts.py    the user turn, one prompt per answer type
fixtures.py   a few rows of every benchmark in its exact schema, made here
options.py    what options name: numbers that may be `none`, key, judge, tool config, module of benchmarks
settings.py   what an evaluation is asked to do, and what it asks of a benchmark's module
versions.py   by which rules a verdict was given, and a rollout sampled
folder.py     the folder's files, and what takes a report away
manifest.py   the settings on disk; another run with other ones is refused
records.py    questions, rollouts and scores as lines of JSON; kept.py a trajectory as one
lines.py      these lines on disk
store.py      the folder that they are kept in, crash-safe
plan.py       what is missing
runner.py     questions x k rollouts through an agent, scored: what is missing is done
live.py       the progress bar
loading.py    questions, and the commit that they were read at
leftover.py   what failed although everything was tried, and why
evaluate.py   all of it for one run
export.py     benchmarks as rows for verl's validation; reward.py scores them there
report/       numbers, tables, comparison, plots, the HTML page
cli.py        `verl-axpo eval run | report | compare | export`
"""
