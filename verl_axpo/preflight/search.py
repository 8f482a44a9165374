"""Does the search budget last? Stage + sizes of a training -> paid searches expected beside those allowed.

An estimate: a share of the attempts, each with one search that no earlier one has answered.
"""

from collections.abc import Iterator

from verl_axpo.preflight.problems import Finding, fine, problem
from verl_axpo.preflight.sizes import Sizes
from verl_axpo.preflight.stages import Stage


def check_searches(stage: Stage, sizes: Sizes | None = None) -> Iterator[Finding]:
    """One line for a stage that searches the web; red where its budget will be spent before its end."""
    if not stage.search_calls:
        return
    attempts = attempts_of(stage, sizes)
    expected = round(attempts * stage.search_percent / 100)
    found = (
        f"about {expected:,} paid searches (estimated: one for {stage.search_percent:g} % of {attempts:,} attempts), "
        f"at most SEARCH_CALLS={stage.search_calls:,}"
    )
    if stage.search_calls < expected:
        fix = f"SEARCH_CALLS={2 * expected} or more, or SEARCH_KEY= to do without the search tool"
        yield problem("search budget", found, fix)
    else:
        yield fine("search budget", found)


def attempts_of(stage: Stage, sizes: Sizes | None) -> int:
    """Rollouts of the whole stage, continuations among them."""
    if sizes is None:
        return stage.search_attempts
    return sizes.steps * (sizes.rollouts_per_step + sizes.continuations_per_step)
