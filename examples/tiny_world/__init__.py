"""The tiny world: the paper's setting small enough for two CPU cores.

families/        one module per kind of question: a problem, and how a teacher would solve it
world.py         seeds and splits -> problems and demonstrations
tables.py        -> the parquet files of verl's SFT and RL datasets
tokenizer.py     byte-level BPE with Qwen's special tokens, trained on the world's own text
chat_template.jinja   Qwen3-VL-Thinking's shape, and its rule for thinking
model.py         a Qwen3-VL of about a million parameters, as a Hugging Face checkpoint
benchmark.py     -> held-out questions for `verl-axpo eval`
fixtures.py      a few rows of each source, in its exact files and columns
hub.py           -> the files of the four sources and of the nine benchmarks
mirror.py        -> served as a hub, for `verl-axpo data fetch` without a network
preview.py       a question as a person wants to see it
__main__.py      python -m examples.tiny_world --out DIR --seed 0
"""
