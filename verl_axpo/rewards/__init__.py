"""Outcome rewards: what a finished trajectory earns, in {0, 1}.

outcome.py   exact match of the final answer; `compute_score` is what `reward.custom_reward_function` names
"""
