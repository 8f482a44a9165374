"""What a Qwen3-VL is made of: published config values, or a local config.json -> number of parameters, bytes per token.

hub id -> PUBLISHED, or folder -> config.json -> ModelShape -> parameters, kv_bytes_per_token
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BF16 = 2  # bytes
CHANNELS = 3  # of an image


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionShape:
    """The vision tower: `depth` blocks of width `hidden`, one merger, and one more for each deepstack layer."""

    hidden: int
    intermediate: int
    depth: int
    out_hidden: int
    deepstack: int
    positions: int
    patch: int
    temporal_patch: int
    merge: int

    @property
    def parameters(self) -> int:
        """All weights and biases of the tower."""
        width, merged = self.hidden, self.hidden * self.merge**2
        embedding = CHANNELS * self.temporal_patch * self.patch**2 * width + width + self.positions * width
        attention = 4 * width**2 + 4 * width
        mlp = 2 * width * self.intermediate + self.intermediate + width
        projection = merged**2 + merged + merged * self.out_hidden + self.out_hidden
        norms_of_mergers = 2 * width + 2 * merged * self.deepstack
        blocks = self.depth * (attention + mlp + 4 * width)
        return embedding + blocks + (1 + self.deepstack) * projection + norms_of_mergers


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A dense Qwen3-VL, as its config.json describes it; `tied`: input and output embedding are one matrix."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    max_positions: int
    vision: VisionShape

    @property
    def layer_parameters(self) -> int:
        """One decoder layer: q, k, v, o, the gated MLP, four norms."""
        attention = 2 * self.hidden * self.heads * self.head_dim + 2 * self.hidden * self.kv_heads * self.head_dim
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden + 2 * self.head_dim

    @property
    def embedding_parameters(self) -> int:
        """Input and output embedding."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All parameters, vision tower included."""
        text = self.layers * self.layer_parameters + self.embedding_parameters + self.hidden
        return text + self.vision.parameters

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token in all layers, bfloat16."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BF16


def _published(
    hidden: int, intermediate: int, layers: int, heads: int, tied: bool, tower: tuple[int, int, int]
) -> ModelShape:
    width, inner, depth = tower
    vision = VisionShape(
        hidden=width,
        intermediate=inner,
        depth=depth,
        out_hidden=hidden,
        deepstack=3,
        positions=2304,
        patch=16,
        temporal_patch=2,
        merge=2,
    )
    return ModelShape(
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        kv_heads=8,
        head_dim=128,
        vocabulary=151_936,
        tied=tied,
        max_positions=262_144,
        vision=vision,
    )


# config.json of Qwen/Qwen3-VL-{2B,4B,8B,32B}-Thinking; 2B and 8B compared with torchtitan's torchtitan/models/qwen3_vl.
_SIZES = {
    "2B": _published(2048, 6144, 28, 16, True, (1024, 4096, 24)),
    "4B": _published(2560, 9728, 36, 32, True, (1024, 4096, 24)),
    "8B": _published(4096, 12288, 36, 32, False, (1152, 4304, 27)),
    "32B": _published(5120, 25600, 64, 64, False, (1152, 4304, 27)),  # the teacher
}
PUBLISHED: Mapping[str, ModelShape] = {f"Qwen/Qwen3-VL-{size}-Thinking": shape for size, shape in _SIZES.items()}


TINY = "tiny"  # the model of the tiny world, which exists only once its world is made
TINY_VOCABULARY = 1024  # about; its tokenizer is trained on its world


def shape_of(path: str) -> ModelShape:
    """The shape of a model by hub id, of a folder with a config.json, or of `tiny`.

    Raises:
        ValueError: neither; the message lists the ids that are known.
    """
    if path in PUBLISHED:
        return PUBLISHED[path]
    if path == TINY:
        return _tiny()
    config = Path(path).expanduser() / "config.json"
    if not config.is_file():
        raise ValueError(f"got {path!r}, expected a folder with config.json, or one of {sorted(PUBLISHED)}")
    return read_shape(json.loads(config.read_text()))


def _tiny() -> ModelShape:
    from verl_axpo.data.tiny import model  # imports torch and transformers

    text = model.TEXT | {"vocab_size": TINY_VOCABULARY, "max_position_embeddings": model.MAX_LENGTH}
    vision = model.VISION | {"out_hidden_size": model.TEXT["hidden_size"]}
    return read_shape({"model_type": "qwen3_vl", "text_config": text, "vision_config": vision})


def read_shape(config: Mapping[str, Any]) -> ModelShape:
    """Parse the mapping of a Qwen3-VL config.json.

    Raises:
        ValueError: another kind of model, or a key is missing.
    """
    if config.get("model_type") != "qwen3_vl":
        raise ValueError(f"config.json: got model_type {config.get('model_type')!r}, expected 'qwen3_vl'")
    try:
        text, vision = config["text_config"], config["vision_config"]
        return ModelShape(
            hidden=text["hidden_size"],
            intermediate=text["intermediate_size"],
            layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            kv_heads=text["num_key_value_heads"],
            head_dim=text["head_dim"],
            vocabulary=text["vocab_size"],
            tied=config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)),
            max_positions=text["max_position_embeddings"],
            vision=VisionShape(
                hidden=vision["hidden_size"],
                intermediate=vision["intermediate_size"],
                depth=vision["depth"],
                out_hidden=vision["out_hidden_size"],
                deepstack=len(vision["deepstack_visual_indexes"]),
                positions=vision["num_position_embeddings"],
                patch=vision["patch_size"],
                temporal_patch=vision["temporal_patch_size"],
                merge=vision["spatial_merge_size"],
            ),
        )
    except KeyError as missing:
        raise ValueError(f"config.json of a Qwen3-VL: {missing} is missing") from None
