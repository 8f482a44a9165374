"""Where questions and demonstrations come from.

sources.py       the training data sets, declared
hub.py           their files, from a hub or a mirror
reading.py ingest.py images.py   rows and pictures, checked -> Problem (problem.py) and the image store
near.py fingerprint.py dedup.py  repetitions, and what the benchmarks have
questions.py collect.py rollouts.py select_sft.py select_rl.py   what models made of the problems -> what is trained on
rows.py parquet.py   -> verl's SFT and RL files
stage.py pipeline.py card.py workspace.py cli.py   `verl-axpo data`: stages that are skipped when done, the data card
"""

VERSION = 2  # of the stages and of the benchmarks' entries; raise when their results change
