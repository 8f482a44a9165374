"""The process that runs math-verify: one JSON line in, one out, killed by the kernel when a comparison takes too long.

    stdin {"answer", "truth", "cpu_s"} -> parse both as LaTeX -> verify -> stdout {"equal": bool}

Started by `algebra.py`. math-verify's own time limit is a Python signal handler, which big-integer arithmetic in C does
not let run and which works in main threads only; here the kernel ends the process instead.
"""

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

MEMORY_LIMIT_BYTES = 2 << 30  # address space; the process needs 0.3 GiB, a tower of powers all there is


def main() -> None:
    """Serve until stdin closes."""
    logging.disable(logging.CRITICAL)  # math-verify warns of each answer that it cannot read
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; this ends with its parent
    equal = _math_verify()
    replies = _only_replies_on_stdout()
    replies({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["cpu_s"])
        verdict = equal(request["answer"], request["truth"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        replies({"equal": verdict})


def _math_verify() -> Callable[[str, str], bool]:
    """`equal(answer, truth)` on math-verify; a failing import ends the process with its reason on stderr."""
    from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    # Units are ours (units.py): math-verify drops them, and would call 5 cm and 5 m equal
    normalisation = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    reading = [LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normalisation)]

    def read(text: str) -> list[Any]:
        return list(parse(f"${text}$", reading, fallback_mode="no_fallback", parsing_timeout=None))

    def equal(answer: str, truth: str) -> bool:
        try:
            sides = read(truth), read(answer)
            return bool(verify(*sides, allow_set_relation_comp=True, timeout_seconds=None))
        except Exception:  # RecursionError, MemoryError and what SymPy raises on nonsense: not shown to be equal
            return False

    return equal


def _only_replies_on_stdout() -> Callable[[dict[str, bool]], None]:
    """A writer of replies; what libraries print goes nowhere, for it would break the protocol or fill a pipe."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return lambda message: print(json.dumps(message), file=replies)


if __name__ == "__main__":
    main()
