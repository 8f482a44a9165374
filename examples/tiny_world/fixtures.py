"""Small stand-ins for the sources, in their exact files and columns.

    python -m examples.tiny_world.fixtures --out DIR --rows 24

seed -> pictures with shapes -> items_of() -> [Item] -> MAKERS -> DIR/virl39k, DIR/fvqa, DIR/pyvision, DIR/mmfinereason

They show that the code reads what the documentation describes. They say nothing about what the real files hold.
Known on purpose: the first MMFineReason row repeats ViRL39K's first (same question, the picture encoded again as JPEG),
and every other MMFineReason row is one that Qwen3-VL-4B solves now and then.
"""

import argparse
import io
import json
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from verl_axpo.data import parquet

SIDE_PX = 160
SHAPES = 12  # per picture; enough for every picture to be unlike any other
COLOURS = ("red", "green", "blue", "orange", "purple", "black")

OPTIONS = "(A) red\n(B) green\n(C) blue\nAnswer with the option's letter from the given choices directly."

Row = dict[str, Any]


class Item(NamedTuple):
    """What a row of any source asks: a question without its image placeholder, and what answers it."""

    question: str
    answer: str
    picture: Image.Image
    aliases: tuple[str, ...] = ()


def picture(seed: str) -> Image.Image:
    """A picture of coloured boxes and discs that its seed determines."""
    rng, image = random.Random(seed), Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(SHAPES):
        x, y, size = rng.randrange(SIDE_PX), rng.randrange(SIDE_PX), rng.randrange(10, 70)
        shape = draw.rectangle if rng.random() < 0.5 else draw.ellipse
        shape((x, y, x + size, y + size), fill=rng.choice(COLOURS))
    return image


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    """The picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def virl39k(out: Path, items: Sequence[Item]) -> None:
    """`39Krelease.parquet` and `images.zip`."""
    rows = []
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out / "images.zip", "w") as archive:
        for index, item in enumerate(items):
            name = f"images/fixture-{index}-0.png"
            archive.writestr(name, encoded(item.picture))
            rows.append(
                {
                    "question": f"<image>\n{item.question}",
                    "answer": f"\\boxed{{{item.answer}}}",
                    "PassRate_32BTrained": 0.5,
                    "PassRate_7BBase": -1.0,
                    "category": "Broader STEM Topics",
                    "source": "fixture",
                    "qid": f"fixture-{index}",
                    "image": [name],
                }
            )
    parquet.write(out / "39Krelease.parquet", rows)


def fvqa(out: Path, items: Sequence[Item]) -> None:
    """`fvqa_train.parquet`."""
    rows = [
        {
            "prompt": [{"content": item.question, "role": "user"}],
            "images": [{"bytes": encoded(item.picture)}],
            "reward_model": {
                "candidate_answers": json.dumps([item.answer, *item.aliases]),
                "ground_truth": item.answer,
                "style": "rule",
            },
            "data_source": "mmsearch_r1/fvqa_train",
            "image_urls": None,
            "data_id": f"fvqa_train_{index}",
            "category": "search_required" if index % 3 else "search_free",
        }
        for index, item in enumerate(items)
    ]
    parquet.write(out / "fvqa_train.parquet", rows)


def pyvision(out: Path, items: Sequence[Item]) -> None:
    """`pyvision_image_rl_data.json` and a folder of pictures."""
    rows = []
    for index, item in enumerate(items):
        path = out / "pyvision_image_rl_data" / f"deepeyes/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(item.picture))
        rows.append(
            {
                "id": str(index),
                "question": item.question,
                "answer": item.answer,
                "ability": "visual_search",
                "data_source": "deepeyes",
                "image_path": f"deepeyes/{index}.png",
            }
        )
    (out / "pyvision_image_rl_data.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def mmfinereason(out: Path, items: Sequence[Item]) -> None:
    """`data/train-00000-of-00001.parquet`; Qwen3-VL-4B solves every other one now and then."""
    rows: list[Row] = [
        {
            "source": "fixture",
            "id": index,
            "original_question": "",
            "original_answer": "",
            "image": {"bytes": encoded(item.picture, "JPEG"), "path": f"{index}.jpg"},
            "question": f"<image>\n{item.question}",
            "answer": item.answer,
            "qwen3vl_235b_instruct_caption": "shapes",
            "qwen3vl_235b_thinking_response": "<think>counting</think> done",
            "qwen3vl_4b_pass_rate": 0.25 * (index % 2),
            "is_consistent": True,
            "consistency_analysis": "",
        }
        for index, item in enumerate(items)
    ]
    parquet.write(out / "data" / "train-00000-of-00001.parquet", rows)


MAKERS = {"virl39k": virl39k, "fvqa": fvqa, "pyvision": pyvision, "mmfinereason": mmfinereason}


def items_of(name: str, count: int, seed: int) -> list[Item]:
    """Questions about shapes, of the kind that the source asks."""
    found = []
    for index in range(count):
        shown = picture(f"{name}/{seed}/{index}")
        match name:
            case "virl39k":
                item = Item(f"How many shapes of figure {index} are red?", str(index % 7), shown)
            case "fvqa":
                item = Item(f"Which town is landmark {index} in?", f"Town {index}", shown, (f"the town of {index}",))
            case "pyvision":
                item = Item(f"What is the colour of item {index}?\n{OPTIONS}", "ABC"[index % 3], shown)
            case _:
                item = Item(f"Find the area of region {index}.", f"\\frac{{{index}}}{{2}}", shown)
        found.append(item)
    if name == "mmfinereason" and found:
        found[0] = items_of("virl39k", 1, seed)[0]
    return found


def make(out: Path, count: int, seed: int) -> None:
    """Write `count` rows of every source into folders of their names."""
    for name, maker in MAKERS.items():
        maker(out / name, items_of(name, count, seed))


def main() -> None:
    """Parse the command line and make the fixtures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=24, help="of each source, default 24")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make(arguments.out, arguments.rows, arguments.seed)
    print(f"{arguments.rows} rows of each of {', '.join(MAKERS)} -> {arguments.out}")


if __name__ == "__main__":
    main()
