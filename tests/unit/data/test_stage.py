"""A stage is skipped only when nothing it depends on has changed and its outputs are there."""

import json
from pathlib import Path
from typing import Any

import pytest

from verl_axpo import data, images, prompts, rewards
from verl_axpo.data.stage import Stage, hashes, read_record, run
from verl_axpo.files import replacing, write_lines


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
    "changed",
    [{"inputs": {"a": "2"}}, {"inputs": {"b": "1"}}, {"settings": {"k": [1, 3]}}, {"rests_on": ("data", "images")}],
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


@pytest.mark.parametrize("rules", [data, images, prompts, rewards])
def test_a_raised_version_makes_the_stage_stale_and_later_stages_refuse_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: Any
) -> None:
    name = rules.__name__.rpartition(".")[2]
    done(tmp_path, rests_on=(name,))
    hashes([tmp_path / "o.txt"])
    then, now = rules.VERSION, rules.VERSION + 1
    monkeypatch.setattr(rules, "VERSION", now)
    message = rf"o.txt: made by other rules \({name} {then} then, {now} now\); run `verl-axpo data s`"
    with pytest.raises(ValueError, match=message):
        hashes([tmp_path / "o.txt"])
    assert done(tmp_path, "y", rests_on=(name,)) == ({"written": "y"}, False)
    hashes([tmp_path / "o.txt"])


def test_what_was_made_before_there_were_versions_is_stale(tmp_path: Path) -> None:
    done(tmp_path)
    record = read_record(tmp_path)
    assert record is not None
    del record["versions"]
    (tmp_path / "stage.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="no versions then"):
        hashes([tmp_path / "o.txt"])
    assert done(tmp_path, "y") == ({"written": "y"}, False)


def test_an_output_that_was_damaged_at_the_same_length_is_not_trusted(tmp_path: Path) -> None:
    done(tmp_path, "xyz")
    (tmp_path / "o.txt").write_text("xyy")
    with pytest.raises(ValueError, match=r"o.txt: not what the stage 's' wrote; run `verl-axpo data s` again"):
        hashes([tmp_path / "o.txt"])
    assert done(tmp_path, "abc") == ({"written": "abc"}, False)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stage": "s"}'])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    done(tmp_path)
    (tmp_path / "stage.json").write_text(content)
    assert done(tmp_path, "y") == ({"written": "y"}, False)
