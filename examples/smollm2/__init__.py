"""A real pretrained model, small enough for two CPU cores: SmolLM2-135M-Instruct, on word problems that need `python`.

checkpoint.py  a GGUF file -> a Hugging Face checkpoint with the tags of a call and a chat template that announces tools
problems.py    word problems, and a teacher that calls `python` now and then, often with the wrong numbers
tools.yaml     `python`, announced in few words
tables.py      problems and demonstrations in verl's columns
benchmark.py   the held-out problems, for `verl-axpo eval run --registry`
__main__.py    all of it in one folder, which the recipes take as WORLD
run.sh         SFT, then RL and evaluation of each arm
"""
