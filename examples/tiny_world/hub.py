"""The tiny world as a hub, so that the recipes fetch and read it as they fetch and read the real data.

world of `seed` -> training questions, dealt out in turn -> DIR/<owner>/<dataset> of the four sources
fixtures of the benchmarks, as many rows as documented   -> DIR/<owner>/<dataset> of the nine benchmarks

    python -m examples.tiny_world.hub --out DIR --rows 512, then python -m examples.tiny_world.mirror DIR -- COMMAND

The files and columns are those of the real datasets, the names too; what they hold is made here. Two rows are there
for `verl-axpo data dedup` to find: MMFineReason's first repeats ViRL39K's first, as a JPEG, and PyVision-RL's last is
V*'s first, whose like its dataset card shows.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from examples import benchmark_rows
from examples.benchmark_rows.rows import VSTAR_FILES, vstar
from examples.tiny_world import world
from examples.tiny_world.families import NAMES
from examples.tiny_world.fixtures import MAKERS, Item
from examples.tiny_world.once import once
from verl_axpo.data.sources import SOURCES
from verl_axpo.prompts import IMAGE


def publish(out: Path, rows: int, seed: int, families: Sequence[str] = NAMES) -> None:
    """Write `rows` training questions of the world in the sources' files, and the benchmarks' fixtures.

    Raises:
        ValueError: an unknown family, one whose questions do not have a single picture, or fewer rows than sources.
    """
    items = [_item(example) for example in world.examples("train", rows, seed, families)]
    if rows < len(MAKERS):
        raise ValueError(f"rows: got {rows}, expected {len(MAKERS)} or more, one for each of {list(MAKERS)}")
    dealt = {name: items[place :: len(MAKERS)] for place, name in enumerate(MAKERS)}
    dealt["mmfinereason"][0] = dealt["virl39k"][0]
    dealt["pyvision"][-1] = _of_a_benchmark()
    for name, maker in MAKERS.items():
        maker(out / SOURCES[name].repo, dealt[name])
    benchmark_rows.write(out, hub=True)


def _item(example: world.Example) -> Item:
    problem = example.problem
    if len(problem.images) != 1:
        raise ValueError(f"{example.family.NAME}: got a question with {len(problem.images)} pictures, expected one")
    return Item(problem.question.replace(IMAGE, ""), problem.answer, problem.images[0])


def _of_a_benchmark() -> Item:
    row = vstar()[0]
    return Item(row["text"], row["label"], Image.open(io.BytesIO(VSTAR_FILES[row["image"]])))


def main() -> None:
    """Parse the command line and publish the world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=512, help="of the four sources together, default 512")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", type=lambda text: text.split(","), default=NAMES, help="default all: %(default)s")
    arguments = parser.parse_args()
    out, rows, seed, names = arguments.out, arguments.rows, arguments.seed, arguments.families
    try:
        made = once(out, {"families": names, "seed": seed, "rows": rows}, lambda: publish(out, rows, seed, names))
    except ValueError as error:
        parser.error(str(error))
    print(
        f"{'made' if made else 'there already'}: "
        f"{arguments.rows} questions as {', '.join(MAKERS)}, and the nine benchmarks -> {arguments.out}"
    )


if __name__ == "__main__":
    main()
