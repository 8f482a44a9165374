"""A stage is skipped only when nothing it depends on has changed and its outputs are there."""

from pathlib import Path
from typing import Any

import pytest

from verl_axpo.data.files import replacing, write_lines
from verl_axpo.data.stage import Stage, hashes, read_record, run


def done(out: Path, content: str = "x", **changed: Any) -> tuple[dict[str, Any], bool]:
    """Run a stage that writes `content`."""
    settings: dict[str, Any] = {"inputs": {"a": "1"}, "settings": {"k": (1, 2)}, "outputs": ("o.txt",), **changed}
    stage = Stage(name="s", out=out, **settings)

    def work() -> dict[str, Any]:
        (out / "o.txt").write_text(content)
        return {"written": content}

    return run(stage, work)


def test_nothing_changed_nothing_done(tmp_path: Path) -> None:
    assert done(tmp_path) == ({"written": "x"}, False)
    assert done(tmp_path, "y") == ({"written": "x"}, True)
    assert (tmp_path / "o.txt").read_text() == "x"


@pytest.mark.parametrize(
    "changed", [{"inputs": {"a": "2"}}, {"inputs": {"b": "1"}}, {"settings": {"k": [1, 3]}}, {"version": 2}]
)
def test_another_input_setting_or_version_does_it_again(tmp_path: Path, changed: dict[str, Any]) -> None:
    done(tmp_path)
    assert done(tmp_path, "y", **changed) == ({"written": "y"}, False)


def test_an_output_that_is_gone_or_cut_off_does_it_again(tmp_path: Path) -> None:
    done(tmp_path, "xyz")
    (tmp_path / "o.txt").write_text("xy")
    assert done(tmp_path, "abc") == ({"written": "abc"}, False)
    (tmp_path / "o.txt").unlink()
    assert done(tmp_path, "def") == ({"written": "def"}, False)


def test_a_stage_that_fails_is_not_done(tmp_path: Path) -> None:
    done(tmp_path)

    def fail() -> dict[str, Any]:
        raise KeyboardInterrupt

    stage = Stage(name="s", out=tmp_path, inputs={"a": "2"}, settings={}, outputs=("o.txt",))
    with pytest.raises(KeyboardInterrupt):
        run(stage, fail)
    assert read_record(tmp_path) is None
    assert done(tmp_path, "y") == ({"written": "y"}, False)


def test_a_missing_input_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"p.jsonl: no such file; run the stage that makes it first"):
        hashes([tmp_path / "p.jsonl"])


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert write_lines(path, [b"1", b"2"]) == 2

    def broken_off() -> None:
        with replacing(path) as unfinished:
            unfinished.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()
    assert path.read_bytes() == b"1\n2\n"
    assert list(tmp_path.iterdir()) == [path]
