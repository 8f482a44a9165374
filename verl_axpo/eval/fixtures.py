"""A few rows of every benchmark in its exact schema: `python -m verl_axpo.eval.fixtures --out DIR`.

    DIR/<benchmark>/   laid out as the hub repository: load(benchmark, DIR/<benchmark>, check_count=False)

The questions and pictures are made here, none of them is a benchmark's. They stand in where the data cannot be fetched,
so that loading, prompts, rollouts, scoring and reports run end to end.
"""

import argparse
import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

Record = dict[str, Any]
COLOURS = ("red", "green", "blue", "orange")
SIDE_PX = 96  # of a picture: small enough for a tiny model on a CPU
FONT_PX = 24


def picture(colour: str, text: str = "", kind: str = "PNG") -> bytes:
    """A white square with a coloured disc and a word in it, as an encoded file."""
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((8, 8, SIDE_PX - 8, SIDE_PX - 8), fill=colour)
    draw.text((SIDE_PX // 2, SIDE_PX // 2), text, fill="white", anchor="mm", font_size=FONT_PX)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def _image(colour: str, text: str = "") -> Record:
    return {"bytes": picture(colour, text), "path": None}


def mathvision() -> list[Record]:
    """A choice with texts, a choice drawn in the image, a free answer."""
    asked: tuple[tuple[str, list[str], str], ...] = (
        (
            "Which fraction of the disc in <image1> is coloured?",
            [r"$\frac{1}{4}$", r"$\frac{1}{2}$", "1", "2", "4"],
            "C",
        ),
        ("Which disc in <image1> comes next?", list("ABCDE"), "B"),
        ("What is twice the number in <image1>? Give it to two decimals.", [], "6.28"),
    )
    return [
        {
            **{"id": str(place + 1), "question": question, "options": options, "image": f"images/{place + 1}.jpg"},
            **{"decoded_image": _image(COLOURS[place], "3.14"), "answer": answer, "solution": None, "level": 1},
            "subject": "counting",
        }
        for place, (question, options, answer) in enumerate(asked)
    ]


def dynamath() -> list[Record]:
    """One row of each answer type."""
    asked = (
        ("The disc has radius 1. What is its area?", "3.1416", "float"),
        ("Is the disc red? Choices: (A) yes (B) no", "B", "multiple choice"),
        ("What is the colour of the disc?", "blue", "text"),
        ("What is the sum of the numbers 2 and 3?", "5.000000000000001", "int"),
    )
    return [
        {
            **{"id": str(place + 1), "question": question, "image": f"image{place + 1}.png"},
            **{"decoded_image": _image(COLOURS[place]), "ground_truth": truth, "answer_type": answer_type},
            **{"subject": "plane geometry", "knowledge_level": "high school"},
        }
        for place, (question, truth, answer_type) in enumerate(asked)
    ]


def math_vr() -> list[Record]:
    """Text only, and two pictures with two sub-questions."""
    asked = (
        ("Solve $x^2=9$ for $x>0$.", 0, "text", ["3"]),
        ("(1) Read the number in <image1>. (2) Add to it the one in <image2>.", 2, "multimodal", ["4", "$4+5=9$"]),
    )
    rows: list[Record] = []
    for place, (question, count, category, answers) in enumerate(asked):
        images = {f"image{n}": _image(COLOURS[n - 1], str(3 + n)) if n <= count else None for n in range(1, 9)}
        rubric = {"scoring_points": "p1: a right start", "scores": "p1: 1", "total_score": 1}
        given = {"number_of_answers": len(answers), "answers": json.dumps(answers)}
        rows.append({"id": str(place), "question": question, **images, "category": category, **given, **rubric})
    return rows


def vstar() -> list[Record]:
    """Four options and two; the image is a path in the repository."""
    end = "\nAnswer with the option's letter from the given choices directly."
    asked = (
        ("direct_attributes", "What is the color of the disc?\n(A) red\n(B) green\n(C) blue\n(D) orange", "A", "red"),
        ("relative_position", "Is the word on the left or right side of the disc?\n(A) right\n(B) left", "B", "green"),
    )
    return [
        {
            "image": f"{category}/{colour}.jpg",
            "text": text + end,
            "label": label,
            "question_id": i,
            "category": category,
        }
        for i, (category, text, label, colour) in enumerate(asked)
    ]


def visualprobe() -> list[Record]:
    """Paths begin with the repository's name, the text with its placeholder."""
    asked = (("What is written on the disc?", "exit", "blue"), ("What is the color of the disc?", "Orange", "orange"))
    return [
        {
            **{"images": [f"VisualProbe_Hard/data/{colour}.jpg"], "doc_id": place, "problem": f"<image>\n{question}"},
            **{"solution": answer, "data_source": "VisualProbe_Hard"},
        }
        for place, (question, answer, colour) in enumerate(asked)
    ]


def hrbench() -> list[Record]:
    """Two questions, each in four rotations of its options."""
    rows: list[Record] = []
    asked = (
        ("What is the color of the disc?", "single", COLOURS),
        ("How many discs are there?", "cross", tuple("1234")),
    )
    for cycle in range(4):
        for question, category, texts in asked:
            rotated = texts[-cycle:] + texts[:-cycle] if cycle else texts
            image = base64.b64encode(picture(texts[0] if category == "single" else "red", kind="JPEG")).decode()
            options = dict(zip("ABCD", rotated, strict=True))
            row = {"index": len(rows), "question": question, "answer": "ABCD"[cycle], "category": category, **options}
            rows.append({**row, "cycle_category": str(cycle), "image": image})
    return rows


def hr_mmsearch() -> list[Record]:
    """Two rows that ask for a close look and a fact."""
    asked = (
        ("In which city is the museum whose sign is on the disc?", "Paris", "Louvre"),
        ("When was the station on the disc opened?", "1863-01-10", "Baker St"),
    )
    return [
        {
            **{"sample_id": f"{place:03d}", "query": query, "query_image": _image(COLOURS[place], sign)},
            **{"ground_truth": truth, "difficulty": "easy", "category": "travel"},
        }
        for place, (query, truth, sign) in enumerate(asked)
    ]


def mmsearch() -> list[Record]:
    """With an image and aliases, without an image, a date."""
    asked: tuple[tuple[str, Record | None, str, list[str]], ...] = (
        ("Who painted the picture with this disc?", _image("blue"), "Joan Miró", ["Miró", "Joan Miro"]),
        ("When did the first edition of the fair open?", None, "1851-05-01", []),
        ("Which colour won the vote that never took place?", None, "invalid question", []),
    )
    return [
        {
            **{"sample_id": f"news_{place}", "query": query, "query_image": image, "image_search_result": image},
            **{"area": "news", "subfield": "entertainment", "timestamp": "2024-08", "gt_requery": query},
            **{"gt_answer": truth, "alternative_gt_answers": aliases},
        }
        for place, (query, image, truth, aliases) in enumerate(asked)
    ]


def _parquet(rows: Sequence[Record], file: Path, images: Sequence[str] = ()) -> None:
    from datasets import Dataset
    from datasets import Image as ImageFeature

    data = Dataset.from_list(list(rows))
    for column in images:
        data = data.cast_column(column, ImageFeature(decode=False))
    file.parent.mkdir(parents=True, exist_ok=True)
    data.to_parquet(str(file))


def _card(folder: Path, config: str, files: Mapping[str, str]) -> None:
    """A dataset card whose front matter tells `datasets` the configuration and its splits."""
    lines = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    for split, path in files.items():
        lines += [f"  - split: {split}", f"    path: {path}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")


def _files(folder: Path, rows: Sequence[Record], annotations: str, lines: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(map(json.dumps, rows)) + "\n" if lines else json.dumps(rows, indent=1)
    (folder / annotations).write_text(text, encoding="utf-8")
    for row in rows:
        for path in [row["image"]] if "image" in row else row["images"]:
            file = folder / path.removeprefix("VisualProbe_Hard/")
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(picture(file.stem, "exit", kind="JPEG"))


def write(out: Path) -> dict[str, Path]:
    """Write every benchmark's rows under `out`; returns the folder of each benchmark by name."""
    tables: dict[str, tuple[list[Record], str, Sequence[str]]] = {
        "mathvision": (mathvision(), "testmini", ["decoded_image"]),
        "dynamath": (dynamath(), "sample_variant1", ["decoded_image"]),
        "math_vr": (math_vr(), "test", [f"image{number}" for number in range(1, 9)]),
        "hr_mmsearch": (hr_mmsearch(), "train", ["query_image"]),
    }
    for name, (rows, split, images) in tables.items():
        _parquet(rows, out / name / "data" / f"{split}-00000-of-00001.parquet", images)
    _parquet(mmsearch(), out / "mmsearch" / "end2end.parquet", ["query_image", "image_search_result"])
    _card(out / "mmsearch", "end2end", {"end2end": "end2end.parquet"})
    splits = {f"hrbench_{size}": f"hr_bench_{size}.parquet" for size in ("4k", "8k")}
    for name in splits:
        for file in splits.values():
            _parquet(hrbench(), out / name / file)
        _card(out / name, "hrbench_version_split", splits)
    _files(out / "vstar", vstar(), "test_questions.jsonl", lines=True)
    _files(out / "visualprobe", visualprobe(), "val.json", lines=False)
    return {folder.name: folder for folder in sorted(out.iterdir()) if folder.is_dir()}


def main() -> None:
    """Parse the command line and write the fixtures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    for name, folder in write(parser.parse_args().out).items():
        print(f"{name}: {folder}")


if __name__ == "__main__":
    main()
