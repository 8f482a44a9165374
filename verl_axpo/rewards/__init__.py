"""Outcome rewards: what a finished trajectory earns, in {0, 1}. In reading order:

outcome.py      verl's entry: response -> answer -> grade -> score; `reward.custom_reward_function` names it
rows.py         whether every row can be graded, before anything is sampled
answer.py       where the final answer stands in a response
graders.py      one grader per answer type, and which type a row has; config.py its settings
math.py         mathematical answers; quantity.py plain numbers, units.py what they measure
algebra.py      math-verify in processes that cannot hang (algebra_process.py)
choice.py       multiple choice
short_text.py   names, dates, a few words, with aliases
judge.py        an LLM that compares answers; judge_prompt.py its words, judge_config.py its settings
"""

VERSION = 2  # raise when results change
