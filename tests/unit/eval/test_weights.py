"""A checkpoint that was trained further has another hash."""

from pathlib import Path

import pytest

from verl_axpo.eval.manifest import open_manifest
from verl_axpo.eval.settings import SAMPLE_BYTES, SAMPLES, Settings, weights_hash

WHOLE = SAMPLES * SAMPLE_BYTES


def checkpoint(folder: Path, **files: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.safetensors").write_bytes(content)
    return folder


def test_a_name_has_no_weights() -> None:
    assert weights_hash("Qwen/Qwen3-VL-8B-Thinking") is None


def test_the_same_weights_have_the_same_name_wherever_they_are(tmp_path: Path) -> None:
    one = checkpoint(tmp_path / "one", model=b"12", more=b"3")
    assert weights_hash(one) == weights_hash(checkpoint(tmp_path / "two", model=b"12", more=b"3"))
    assert weights_hash(one) != weights_hash(checkpoint(tmp_path / "three", model=b"1", more=b"23"))


@pytest.mark.parametrize("at", [0, 1, SAMPLE_BYTES, WHOLE // 2 + 7, WHOLE - 1])
def test_every_byte_of_a_small_file_counts(tmp_path: Path, at: int) -> None:
    content = bytearray(WHOLE)
    before = weights_hash(checkpoint(tmp_path, model=bytes(content)))
    content[at] = 1
    assert weights_hash(checkpoint(tmp_path, model=bytes(content))) != before


def test_a_large_file_is_sampled_from_end_to_end(tmp_path: Path) -> None:
    path = checkpoint(tmp_path) / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(100 * WHOLE)  # a hole, no disk
    before = weights_hash(tmp_path)
    with path.open("r+b") as file:
        for stretch in range(0, 100 * WHOLE, 100 * SAMPLE_BYTES):
            file.seek(stretch + SAMPLE_BYTES - 1)
            assert file.write(b"1")
            file.flush()
            after = weights_hash(tmp_path)
            assert after != before
            before = after


def test_an_evaluation_of_other_weights_is_refused(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", model=b"1")
    open_manifest(tmp_path / "out", Settings(model=str(model)).for_manifest(None), {}, {})
    (tmp_path / "out/rollouts.jsonl").write_text("{}\n")
    open_manifest(tmp_path / "out", Settings(model=str(model)).for_manifest(None), {}, {})
    checkpoint(model, model=b"2")
    with pytest.raises(ValueError, match=r"made with other settings(.|\n)*weights: there '\w{16}', this run '\w{16}'"):
        open_manifest(tmp_path / "out", Settings(model=str(model)).for_manifest(None), {}, {})
