"""What an evaluation found: its folder -> numbers -> report.md, report.json, report.html; two of them -> a comparison.

results.py   rollouts and scores on disk -> one row per rollout -> arrays (questions x rollouts) per benchmark
stats.py     bootstrap intervals over questions, paired permutation tests
tables.py    arrays -> the paper's table and the ones behind it; breakdown.py what these count
compare.py   two runs -> paired differences
plots.py     the same as pictures; multiples.py those with a small plot per benchmark
page.py      questions and rollouts as the HTML page carries them
build.py     everything -> files
"""
