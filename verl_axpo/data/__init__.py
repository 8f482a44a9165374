"""Where questions and demonstrations come from.

tiny/   the paper's setting in a bottle: generated questions, a tiny Qwen3-VL, its tokenizer
"""
