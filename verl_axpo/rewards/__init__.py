"""Outcome rewards: what a finished trajectory earns, in {0, 1}. In reading order:

outcome.py      verl's entry: response -> answer -> grade -> score; `reward.custom_reward_function` names it
rows.py         whether every row can be graded, before anything is sampled
answer.py       where the final answer stands in a response, and one spelling for what is typography
graders.py      one grader per answer type, and which type a row has; config.py its settings
short_text.py   names, dates, a few words, with aliases
math.py         mathematical answers, item by item: tokens.py, units.py, reader.py and statements.py read them,
                algebra.py gives values and expressions one form
choice.py       multiple choice
judge.py        an LLM that compares answers; judge_prompt.py its words
"""

VERSION = 4  # of the answer rules; raise it whenever a score changes
