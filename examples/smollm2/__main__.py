"""Make model and data: `python -m examples.smollm2 --gguf FILE --out DIR`. What is there is not made again.

DIR/{train,heldout}.parquet   problems for RL and evaluation
DIR/sft_train.parquet         the teacher's demonstrations
DIR/tools.yaml                `python`, for `rollout.multi_turn.tool_config_path`
DIR/model/                    SmolLM2 as a checkpoint, before any training
"""

import argparse
from pathlib import Path

from examples.smollm2.checkpoint import convert
from examples.smollm2.problems import problems
from examples.smollm2.tables import TOOL_CONFIG, rl_row, sft_row
from examples.tiny_world.once import once
from verl_axpo.data import parquet
from verl_axpo.files import write_atomically

SIZES = {"train": 2048, "heldout": 64, "sft_train": 2048}


def make(out: Path, gguf: Path, seed: int) -> None:
    """Write every file."""
    for split in ("train", "heldout"):
        rows = (rl_row(index, made, split) for index, made, _ in problems(split, SIZES[split], seed))
        parquet.write(out / f"{split}.parquet", rows)
    demonstrations = (sft_row(made, rng) for _, made, rng in problems("sft_train", SIZES["sft_train"], seed))
    parquet.write(out / "sft_train.parquet", demonstrations)
    write_atomically(out / "tools.yaml", TOOL_CONFIG.read_bytes())
    print(f"model: {convert(gguf, out / 'model') / 1e6:.1f} M parameters -> {out / 'model'}", flush=True)


def main() -> None:
    """Parse the command line and make everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    settings = {"seed": given.seed, "gguf_bytes": given.gguf.stat().st_size if given.gguf.is_file() else 0, **SIZES}
    try:
        made = once(given.out, settings, lambda: make(given.out, given.gguf, given.seed))
    except ValueError as error:
        parser.error(str(error))
    if not made:
        print(f"nothing has changed, it is there: {given.out}")


if __name__ == "__main__":
    main()
