"""Trajectories from any OpenAI-compatible server, with training's tools, prompt, parser, limits and statuses.

    types.py         Sampling and Limits go in, a Trajectory of Turns comes out
    server.py        one request: messages -> Completion; what a service does wrong is an InfraFailure
    conversation.py  how turns, calls and tool responses are written as messages, and read back
    calls.py         tool calls in text, by the rules that training applies to token ids
    toolbox.py       the tools of one trajectory
    loop.py          the turns: run_trajectory()

docs/design/agent_runner.md says what is and what is not the same as in training.
"""
