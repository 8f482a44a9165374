"""Which rules made a verdict, and which made a rollout: the versions that lines and manifests carry.

    scoring()  -> on each line of scores.jsonl: a verdict of other rules is none, and is given again without sampling
    sampling() -> in the manifest: what was sampled by other rules stays, and nothing is added to it

Each part counts its own version (`VERSION` next to the rules) and raises it when a result changes.
"""

from verl_axpo import images, prompts, rewards
from verl_axpo.eval import scorers
from verl_axpo.eval.types import FIRST_SCORING as FIRST_SCORING
from verl_axpo.rewards import judge_prompt

FIRST_SAMPLING = "prompts 1, images 1"


def scoring() -> str:
    """What a verdict rests on."""
    return f"scorers {scorers.VERSION}, answer rules {rewards.VERSION}, judge prompt {judge_prompt.PROMPT_VERSION}"


def sampling() -> str:
    """What a rollout rests on, next to the settings."""
    return f"prompts {prompts.VERSION}, images {images.VERSION}"
