"""`python -m verl_axpo.tools.sandbox`: is there a sandbox for the python tool here? Its name, or the fix and status 1.

For scripts whose training would meet a missing one only after minutes; `verl-axpo doctor` tries every backend.
"""

import sys

from verl_axpo.tools.sandbox import SandboxConfig, choose

if __name__ == "__main__":
    try:
        choose(SandboxConfig())  # says itself which one it took
    except RuntimeError as error:
        sys.exit(str(error))
