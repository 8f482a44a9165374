"""Whose failure it is: a service's (the rollout is excluded, not scored as wrong), the user's, or the policy's."""


class InfraFailure(Exception):
    """A tool, a judge or a server could not do its work; the rollout gets `Status.INFRA_FAILURE`.

    Never raise it for what the policy wrote: a bad call is answered with a message to the policy.
    """


class ServerRefused(ValueError):
    """A server does not accept the key or the model for any request: the user's mistake, and no rollout's."""


class ContextFull(InfraFailure):
    """A server refused a request that is longer than its window, or has more pictures than it takes.

    In the first turn the question itself is too long, which is an infra failure. In later turns the policy wrote and
    called for what is too long, and the trajectory ends as `Status.TRUNCATED`.
    """


class CallError(ValueError):
    """A tool call that the policy has to correct: names the argument, what came and what to write, in its words."""
