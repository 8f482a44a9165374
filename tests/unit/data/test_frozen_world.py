"""The world of the study as it was calibrated: if it changes, new and old rows of the study cannot be compared.

docs/study/calibration.md has its figures, and the rule: nothing of it changes after two arms were compared.
"""

import hashlib
from pathlib import Path

import orjson
from omegaconf import OmegaConf

from examples.tiny_world import world
from verl_axpo.files import sha256_of
from verl_axpo.report.study import read_rows

REPO = Path(__file__).parents[3]
CONFIGS, STUDY = REPO / "verl_axpo/integration/config", REPO / "docs/study"
ROWS = {"train": 256, "heldout": 192, "sft_train": 1024, "sft_val": 64}
WORLD = "c18851856156b41d1df8b041a7c414b8b1c6b75205c28a1d43786a4ce05aee00"
SETTINGS = {
    "tiny_sft": {
        "data.train_batch_size": 16,
        "optim.lr": 2.0e-3,
        "optim.lr_scheduler_type": "cosine",
        "optim.lr_warmup_steps": 20,
        "optim.min_lr_ratio": 0.05,
        "trainer.total_training_steps": 1200,
    },
    "tiny_rl": {
        "data.train_batch_size": 16,
        "data.max_response_length": 128,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 16,
        "actor_rollout_ref.actor.optim.lr": 2.0e-4,
        "actor_rollout_ref.rollout.val_kwargs.temperature": 1.0,
        "trainer.total_training_steps": 40,
    },
}


def fingerprint() -> str:
    """Of the first rows of each split: question, answer, pixels, and what the teacher does."""
    digest = hashlib.sha256()
    for split, count in ROWS.items():
        for example in world.examples(split, count, seed=0):
            problem = example.problem
            digest.update(orjson.dumps([split, example.index, problem.question, problem.answer]))
            images = list(problem.images)
            if split in world.SFT_SPLITS:
                shown = example.demonstration()
                digest.update(orjson.dumps(shown.turns))
                images += shown.images
            for image in images:
                digest.update(image.tobytes())
    return digest.hexdigest()


def test_the_world_is_the_calibrated_one() -> None:
    assert fingerprint() == WORLD


def test_so_are_the_settings_of_its_trainings() -> None:
    for name, frozen in SETTINGS.items():
        config = OmegaConf.load(CONFIGS / f"{name}.yaml")
        assert {key: OmegaConf.select(config, key) for key in frozen} == frozen


def test_all_rows_of_the_study_start_from_the_weights_next_to_them() -> None:
    weights = sha256_of(STUDY / "sft.safetensors")
    started = {study.facts["sft"] for study in read_rows(STUDY / "runs.jsonl")}
    assert started
    assert all(weights.startswith(model) for model in started)
