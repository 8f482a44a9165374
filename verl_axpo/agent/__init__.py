"""Trajectories from any OpenAI-compatible server, with training's tools, prompt, parser, limits and statuses.

    client.py        one request: messages -> Completion; what a service does wrong is an InfraFailure
    conversation.py  turns, calls and tool responses as messages, and read back
    loop.py          the turns of one trajectory and its tools: Agent.run

docs/design/agent_runner.md says what is and what is not the same as in training, and why training's own loop does not
run evaluations.
"""
