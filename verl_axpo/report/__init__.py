"""What a run looked like: run folders -> curves, held-out table, plots -> `report.md` and `report.html`.

heldout.py   the held-out evaluation before and after training: its file and its numbers
runs.py      a run's folder -> arm, seed, metrics by step, held-out result, trace
curves.py    several seeds of an arm -> mean and spread by step; correlation of confidence and entropy
breakdown.py held-out results by data source, calls by tool
passes.py    Pass@k, for every table of this package
plots.py     curves -> PNG
render.py    tables, figures and templates, for this report and the evaluation's
build.py     everything -> report.md, report.html, plots/
viewer.py    one question's rollouts and continuations in the terminal
"""
