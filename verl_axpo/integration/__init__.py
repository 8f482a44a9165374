"""AXPO inside verl: all that hooks into its trainer. In the order of a step:

plugin (registers, completes the config) -> agent_loop (one trajectory) -> rollout (a group: trigger, resample, publish)
with its coordinator (one budget per step) -> lineage (what a row is) -> trainer -> estimator (advantages) ->
mini_batches (which update a row is in, and its weight) -> records
"""
