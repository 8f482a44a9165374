"""What the trainer gets of a trajectory, and a disk that refuses an image: the rollout stays, but the step stops."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from verl_axpo.core.config import AxpoConfig
from verl_axpo.integration.batch_row import BatchRow, batch_row
from verl_axpo.integration.step_report import finished_records
from verl_axpo.integration.trajectory import Trajectory, trained_part
from verl_axpo.trace import TrajectoryRecord

TOKENIZER = SimpleNamespace(decode=lambda ids: " ".join(map(str, ids)))


async def row_of(
    trajectory: Trajectory, folder: Path | None, *, source: int | None = None, selected: bool = False
) -> BatchRow:
    part = trained_part(trajectory, AxpoConfig(), selected=selected, continues=source is not None)
    trace_dir = None if folder is None else str(folder)
    return await batch_row(trajectory, part, source=source, selected=selected, tokenizer=TOKENIZER, trace_dir=trace_dir)


def with_pictures(trajectory: Trajectory) -> Trajectory:
    picture = Image.new("RGB", (4, 3), "red")
    return trajectory.model_copy(update={"multi_modal_data": {"images": [picture, picture]}})


async def record_of(trajectory: Trajectory, folder: Path, **kwargs: Any) -> TrajectoryRecord:
    row = await row_of(with_pictures(trajectory), folder, **kwargs)
    assert row.record is not None
    return row.record


async def test_images_are_stored_and_the_question_is_the_users_last(
    trajectory: Callable[..., Trajectory], tmp_path: Path
) -> None:
    row = await row_of(with_pictures(trajectory()), tmp_path)
    assert row.record is not None
    assert (row.record.question, row.trace_error) == ("What?", None)
    assert [(tmp_path / image).is_file() for image in row.record.images] == [True, True]


async def test_the_record_has_the_whole_response_with_the_mask_that_is_trained(
    trajectory: Callable[..., Trajectory], tmp_path: Path
) -> None:
    source = await record_of(trajectory(), tmp_path, selected=True)
    continuation = await record_of(trajectory(8, given=3), tmp_path, source=0)
    assert list(source.response_ids) == [1, 2, 3, 4, 5, 60, 7, 8]
    assert list(source.response_mask) == [1, 1, 1, 0, 0, 0, 0, 0]
    assert list(continuation.response_mask) == [0, 0, 0, 1, 1, 0, 1, 1]
    assert (source.source_session, continuation.source_session) == (None, 0)
    assert np.isnan(np.asarray(source.logprobs)).tolist() == [False] * 5 + [True] + [False] * 2  # the tool's token


async def test_without_a_trace_there_is_no_record_and_no_file(
    trajectory: Callable[..., Trajectory], tmp_path: Path
) -> None:
    row = await row_of(trajectory(8, given=3), None, source=0)
    assert (row.record, row.trace_error) == (None, None)
    # GRPO would not have had the row; 4 of its 7 policy tokens were generated for it
    assert (row.grpo_tokens, row.response_len, row.generated) == (0, 8, 4)


async def test_an_image_that_cannot_be_stored_stops_the_step_and_costs_no_rollout(
    trajectory: Callable[..., Trajectory], tmp_path: Path
) -> None:
    (tmp_path / "images").write_bytes(b"in the way of the folder")
    row = await row_of(with_pictures(trajectory()), tmp_path)
    assert row.trace_error is not None
    with pytest.raises(OSError, match=r"trace of step 5: 1 rows lack an image; the first: .*images"):
        finished_records([row], [0.0], [], AxpoConfig(), step=5, questions=["q"])


async def test_a_row_survives_the_way_through_the_batch(trajectory: Callable[..., Trajectory]) -> None:
    row = await row_of(trajectory(3, reward=1.0), None)
    assert BatchRow.unpack(row.pack()) == row
    assert (row.rollout.session, row.rollout.reward, row.grpo_tokens) == (3, 1.0, 7)
