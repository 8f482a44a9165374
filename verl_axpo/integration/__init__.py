"""AXPO inside verl: all that hooks into its trainer. In the order of a step:

    agent_loop (call_parser reads its calls) -> Trajectory (trajectory.py)
    -> rollout (the step: one budget, coordinator) -> worker (a group: scoring, explore, publish)
    -> BatchRow (batch_row.py) -> trainer -> estimator (advantages) -> mini_batches (a row's update and weight)
    -> step_report (metrics, the trace's records)

Around it: plugin (registers), completion and conflicts (the config), run and watch (the processes).
"""
