"""The errors that are nobody's answer: a service failed, so the trajectory says nothing about the policy."""


class InfraFailure(Exception):
    """Raised by a tool, a judge or a server that could not do its work; the rollout gets `Status.INFRA_FAILURE`.

    Never raise it for what the policy wrote: a bad call is answered with a message to the policy.
    """


class ServerRefused(ValueError):
    """A server that knows neither the key nor the model, whatever it is asked: the user's to mend, and no rollout's."""


class ContextFull(InfraFailure):
    """A server refused a request that is longer than its window, or has more pictures than it takes.

    The question's own length is nobody's answer; behind the first turn it is what the policy wrote and called for, and
    ends its trajectory as `Status.TRUNCATED`.
    """
