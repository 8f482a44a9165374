"""Nine benchmarks, as the paper reports them: questions -> rollouts -> scores -> Pass@1 and Pass@k tables.

types.py   Question and Score, which everything here speaks
"""
