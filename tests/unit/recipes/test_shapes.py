"""Parameter counts against transformers' own model, built without memory; the published sizes by name."""

import json
from pathlib import Path

import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from verl_axpo.preflight.shapes import PUBLISHED, ModelShape, read_shape, shape_of


def config_of(shape: ModelShape) -> Qwen3VLConfig:
    vision = shape.vision
    return Qwen3VLConfig(
        tie_word_embeddings=shape.tied,
        text_config={
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "vocab_size": shape.vocabulary,
            "max_position_embeddings": shape.max_positions,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]},
        },
        vision_config={
            "hidden_size": vision.hidden,
            "intermediate_size": vision.intermediate,
            "depth": vision.depth,
            "out_hidden_size": vision.out_hidden,
            "num_position_embeddings": vision.positions,
            "patch_size": vision.patch,
            "temporal_patch_size": vision.temporal_patch,
            "spatial_merge_size": vision.merge,
            "deepstack_visual_indexes": list(range(vision.deepstack)),
        },
    )


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_count_is_that_of_the_model_in_transformers(name: str) -> None:
    config = config_of(PUBLISHED[name])
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config)
    assert sum(one.numel() for one in model.parameters()) == PUBLISHED[name].parameters


@pytest.mark.parametrize(("size", "billions"), [("2B", 2.13), ("4B", 4.44), ("8B", 8.77), ("32B", 33.36)])
def test_published_sizes_are_those_of_the_hub(size: str, billions: float) -> None:
    assert PUBLISHED[f"Qwen/Qwen3-VL-{size}-Thinking"].parameters / 1e9 == pytest.approx(billions, abs=0.005)


def test_keys_and_values_of_a_token() -> None:
    # keys and values x 36 layers x 8 heads x 128 x 2 bytes
    assert PUBLISHED["Qwen/Qwen3-VL-8B-Thinking"].kv_bytes_per_token == 2 * 36 * 8 * 128 * 2 == 147_456


def test_a_local_config_is_read_back(tmp_path: Path) -> None:
    shape = PUBLISHED["Qwen/Qwen3-VL-2B-Thinking"]
    config_of(shape).save_pretrained(tmp_path)
    assert shape_of(str(tmp_path)) == shape


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"got 'Qwen/Qwen9'.*Qwen/Qwen3-VL-2B-Thinking"):
        shape_of("Qwen/Qwen9")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llama"}, "got model_type 'llama', expected 'qwen3_vl'"),
        ({"model_type": "qwen3_vl", "text_config": {}, "vision_config": {}}, "'hidden_size' is missing"),
    ],
)
def test_a_config_that_is_not_a_qwen3_vl_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_shape(json.loads(json.dumps(config)))
