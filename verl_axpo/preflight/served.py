"""Models that a stage serves for itself: its command line -> Served -> do the weights fit on the GPUs of a replica?

env GPUS=8 TP=2 LENGTH=65536 ... bash recipes/serve.sh MODEL -- COMMAND
"""

from collections.abc import Iterator
from dataclasses import dataclass

from verl_axpo.preflight.memory import ENGINE_GIB, GIB
from verl_axpo.preflight.problems import Finding, fine, problem
from verl_axpo.preflight.shapes import BF16, ModelShape, shape_of
from verl_axpo.preflight.stages import Stage

SERVE = "recipes/serve.sh"
VLLM_SHARE = 0.9  # of a GPU, its server's own default


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What recipes/serve.sh is asked to do; `length` in tokens."""

    model: str
    gpus: int
    replica: int
    length: int


def served_of(stage: Stage) -> Served | None:
    """The model that a stage serves, None when it serves none."""
    if SERVE not in stage.argv:
        return None
    at = stage.argv.index(SERVE)
    values = dict(word.split("=", 1) for word in stage.argv[:at] if "=" in word)
    return Served(
        model=stage.argv[at + 1], gpus=int(values["GPUS"]), replica=int(values["TP"]), length=int(values["LENGTH"])
    )


def check_served(stage: Stage) -> Iterator[Finding]:
    """A replica has its GPUs, and room for the weights and one conversation on them (estimated)."""
    served = served_of(stage)
    if served is None:
        return
    if served.gpus < served.replica:
        found = f"{served.model} on {served.replica} GPUs, there are GPUS={served.gpus}"
        fix = "more GPUs, TEACHER_URL of a server with the teacher, or a smaller replica: TEACHER_TP (evaluate.sh: TP)"
        yield problem("GPUs of a replica", found, fix)
    elif stage.gpu_gib:
        yield from _check_memory(stage, served, _shape(served.model, stage.base))


def _shape(model: str, base: str) -> ModelShape | None:
    """Of the model, or of the one that it is trained from; None for a model that nothing is known of."""
    for known in (model, base):
        try:
            return shape_of(known)
        except ValueError:
            continue
    return None


def _check_memory(stage: Stage, served: Served, shape: ModelShape | None) -> Iterator[Finding]:
    if shape is None:
        return
    weights, cache = BF16 * shape.parameters / GIB, served.length * shape.kv_bytes_per_token / GIB
    needed = (weights + cache) / served.replica + ENGINE_GIB
    room = VLLM_SHARE * stage.gpu_gib
    found = (
        f"{served.model}: about {needed:.0f} of {room:.0f} GiB on each of {served.replica} GPUs "
        f"({weights:.0f} of weights, {cache:.0f} for one conversation of {served.length:,} tokens)"
    )
    if needed > room:
        yield problem("memory, served model", found, "a larger replica: TEACHER_TP (evaluate.sh: TP); or TEACHER_URL")
    else:
        yield fine("memory, served model", found)
