"""Rollouts that a step lost: counted, and too many of them stop the run before it trains on what happened to survive.

sessions that raised (verl logs them and goes on) + infra failures -> share of B*N -> `RolloutsLostError`
"""

from collections.abc import Collection, Iterable, Mapping

from verl_axpo.integration.mini_batches import session_of

SHOWN_ERRORS = 3  # kinds of errors in a message, the most frequent ones


class RolloutsLostError(RuntimeError):
    """A step lost more than `algorithm.axpo.max_failed_share` of its rollouts."""


def failed_sessions(failed_groups: Collection[str], keys: Iterable[str], per_question: int) -> int:
    """How many ordinary sessions of these groups left no row.

    Args:
        failed_groups: uids of the groups that verl marked as failed.
        keys: of the batch's rows, `{uid}_{session}_{output}`.
        per_question: sessions that each question should have.
    """
    there = {
        key.rpartition("_")[0]
        for key in keys
        if key.rsplit("_", 2)[0] in failed_groups and session_of(key) < per_question
    }
    return len(failed_groups) * per_question - len(there)


def check_lost(
    where: str, *, failed: int, infra: int, expected: int, max_share: float, errors: Mapping[str, int]
) -> None:
    """Refuse a step, or a validation, that lost too much.

    Args:
        where: "step 3", for the message.
        failed: sessions that raised.
        infra: rollouts that ended as infra failures.
        expected: rollouts that there should be.
        max_share: of them, what may be lost.
        errors: what the sessions raised, and how often.

    Raises:
        RolloutsLostError: more than `max_share` are lost; the message has counts and errors.
    """
    lost = failed + infra
    if lost <= max_share * expected:
        return
    frequent = sorted(errors.items(), key=lambda item: -item[1])[:SHOWN_ERRORS]
    raised = f" ({'; '.join(f'{count} x {error}' for error, count in frequent)})" if frequent else ""
    raise RolloutsLostError(
        f"{where}: {lost} of {expected} rollouts were lost, more than algorithm.axpo.max_failed_share={max_share} "
        f"allows: {failed} sessions raised an error{raised}, {infra} rollouts ended as infra failures. Find the cause "
        "and run the same command again, which goes on from the last checkpoint"
    )
