"""Small stand-ins for the sources, in their exact files and columns: `python -m verl_axpo.data.fixtures --out DIR`.

seed -> pictures with shapes -> questions -> DIR/virl39k, DIR/fvqa, DIR/pyvision, DIR/mmfinereason

They show that the code reads what the documentation describes. They say nothing about what the real files hold.
Known on purpose: the first MMFineReason row repeats ViRL39K's first (same question, the picture encoded again as JPEG),
and every other MMFineReason row is one that Qwen3-VL-4B solves now and then.
"""

import argparse
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from verl_axpo.data import parquet

SIDE_PX = 160
SHAPES = 12  # per picture; enough for every picture to be unlike any other
COLOURS = ("red", "green", "blue", "orange", "purple", "black")

Row = dict[str, Any]


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


def virl39k(out: Path, count: int, seed: int) -> None:
    """`39Krelease.parquet` and `images.zip`."""
    rows = []
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out / "images.zip", "w") as archive:
        for index in range(count):
            name = f"images/fixture-{index}-0.png"
            archive.writestr(name, encoded(picture(f"virl39k/{seed}/{index}")))
            rows.append(
                {
                    "question": f"<image>\nHow many shapes of figure {index} are red?",
                    "answer": f"\\boxed{{{index % 7}}}",
                    "PassRate_32BTrained": 0.5,
                    "PassRate_7BBase": -1.0,
                    "category": "Broader STEM Topics",
                    "source": "fixture",
                    "qid": f"fixture-{index}",
                    "image": [name],
                }
            )
    parquet.write(out / "39Krelease.parquet", rows)


def fvqa(out: Path, count: int, seed: int) -> None:
    """`fvqa_train.parquet`."""
    rows = [
        {
            "prompt": [{"content": f"Which town is landmark {index} in?", "role": "user"}],
            "images": [{"bytes": encoded(picture(f"fvqa/{seed}/{index}"))}],
            "reward_model": {
                "candidate_answers": json.dumps([f"Town {index}", f"the town of {index}"]),
                "ground_truth": f"Town {index}",
                "style": "rule",
            },
            "data_source": "mmsearch_r1/fvqa_train",
            "image_urls": None,
            "data_id": f"fvqa_train_{index}",
            "category": "search_required" if index % 3 else "search_free",
        }
        for index in range(count)
    ]
    parquet.write(out / "fvqa_train.parquet", rows)


def pyvision(out: Path, count: int, seed: int) -> None:
    """`pyvision_image_rl_data.json` and a folder of pictures."""
    rows = []
    for index in range(count):
        path = out / "pyvision_image_rl_data" / f"deepeyes/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(f"pyvision/{seed}/{index}")))
        rows.append(
            {
                "id": str(index),
                "question": f"What is the colour of item {index}?\n(A) red\n(B) green\n(C) blue\n"
                "Answer with the option's letter from the given choices directly.",
                "answer": "ABC"[index % 3],
                "ability": "visual_search",
                "data_source": "deepeyes",
                "image_path": f"deepeyes/{index}.png",
            }
        )
    (out / "pyvision_image_rl_data.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def mmfinereason(out: Path, count: int, seed: int) -> None:
    """`data/train-00000-of-00001.parquet`."""
    rows: list[Row] = []
    for index in range(count):
        image = picture(f"virl39k/{seed}/0" if index == 0 else f"mmfinereason/{seed}/{index}")
        repeated = "<image>\nHow many shapes of figure 0 are red?"
        rows.append(
            {
                "source": "fixture",
                "id": index,
                "original_question": "",
                "original_answer": "",
                "image": {"bytes": encoded(image, "JPEG"), "path": f"{index}.jpg"},
                "question": repeated if index == 0 else f"<image>\nFind the area of region {index}.",
                "answer": "0" if index == 0 else f"\\frac{{{index}}}{{2}}",
                "qwen3vl_235b_instruct_caption": "shapes",
                "qwen3vl_235b_thinking_response": "<think>counting</think> done",
                "qwen3vl_4b_pass_rate": 0.25 * (index % 2),
                "is_consistent": True,
                "consistency_analysis": "",
            }
        )
    parquet.write(out / "data" / "train-00000-of-00001.parquet", rows)


MAKERS = {"virl39k": virl39k, "fvqa": fvqa, "pyvision": pyvision, "mmfinereason": mmfinereason}


def make(out: Path, count: int, seed: int) -> None:
    """Write `count` rows of every source into folders of their names."""
    for name, maker in MAKERS.items():
        maker(out / name, count, seed)


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
