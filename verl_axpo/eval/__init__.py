"""Nine benchmarks, as the paper reports them: questions -> rollouts -> scores -> Pass@1 and Pass@k tables.

types.py      Question and Score, which everything here speaks
benchmarks/   loading questions and scoring answers, one module per benchmark
scorers/      the scoring parts they share
prompts.py    the user turn, one prompt per answer type
fixtures.py   a few rows of every benchmark in its exact schema, made here
"""
