"""What the trace shows of a row, and a disk that takes no image: the rollout stays, its step stops."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from verl_axpo.core.config import AxpoConfig
from verl_axpo.core.types import Row
from verl_axpo.integration.coordinator import Decisions
from verl_axpo.integration.lineage import BatchRow, Session, Transcript
from verl_axpo.integration.records import StepData, trajectory_records
from verl_axpo.integration.transcript import transcribe

TOKENIZER = SimpleNamespace(decode=lambda ids: " ".join(map(str, ids)))


async def transcript_of(session: Session, folder: Path) -> Transcript:
    picture = Image.new("RGB", (4, 3), "red")
    session.output.multi_modal_data["images"] = [picture, picture]
    asked = replace(session, kwargs={**session.kwargs, "raw_prompt": [{"role": "user", "content": "What?"}]})
    transcript = await transcribe(asked, session.output, TOKENIZER, str(folder))
    assert transcript is not None
    return transcript


async def test_images_are_stored_and_the_question_is_the_users_last(
    session: Callable[..., Session], tmp_path: Path
) -> None:
    transcript = await transcript_of(session(0), tmp_path)
    assert (transcript.question, transcript.trace_error) == ("What?", None)
    assert [(tmp_path / image).is_file() for image in transcript.images] == [True, True]


async def test_an_image_that_cannot_be_stored_stops_the_step_and_costs_no_rollout(
    session: Callable[..., Session], tmp_path: Path
) -> None:
    (tmp_path / "images").write_bytes(b"in the way of the folder")
    transcript = await transcript_of(session(0), tmp_path)
    assert transcript.trace_error is not None
    rollout = session(0)
    row = BatchRow(
        row=Row(uid="q", session=0, reward=0.0), rollout=rollout.as_rollout(), episode=rollout.episode,
        grpo_tokens=7, response_len=8, transcript=transcript,
    )  # fmt: skip
    data = StepData(
        step=5, config=AxpoConfig(), questions=["q"], rollouts_per_question=1, rows=[row], advantages=[0.0],
        decisions=Decisions(ranked={}, selected={}), normalize_std=True,
    )  # fmt: skip
    with pytest.raises(OSError, match=r"trace of step 5: 1 rows lack an image; the first: .*images"):
        trajectory_records(data)
