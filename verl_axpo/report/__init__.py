"""One report for trainings and evaluations: files of a run -> tables and plots -> a page, Markdown, CSV, JSON, SVG.

stats.py       Pass@k, bounds, bootstrap intervals, paired differences: every number of every report
table.py       a table and its forms; plots.py: drawing; build.py: a `Report` and its files
runs.py        a training's folder: heldout.py: validations; traced.py: its trace; training.py, curves.py: -> `Report`
results.py     an evaluation's folder: breakdown.py: its numbers; evaluation.py: -> `Report`
compare.py     two evaluations, or two trainings' held-out questions, question by question
study.py       arms over seeds, a row for each run; study_page.py, study_plot.py: -> docs/study
viewer.py      a step of a trace in the terminal
"""
