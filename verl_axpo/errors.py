"""The one error that is nobody's answer: a service failed, so the trajectory says nothing about the policy."""


class InfraFailure(Exception):
    """Raised by a tool, a judge or a server that could not do its work; the rollout gets `Status.INFRA_FAILURE`.

    Never raise it for what the policy wrote: a bad call is answered with a message to the policy.
    """
