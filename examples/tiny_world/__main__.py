"""Make the tiny world: `python -m examples.tiny_world --out DIR --seed 0`.

A world that is there is not made again, and never mixed with one of other settings.

DIR/{train,val,heldout}.parquet   questions for RL and evaluation
DIR/{sft_train,sft_val}.parquet   demonstrations
DIR/tools.yaml                    the tools of the families, for `rollout.multi_turn.tool_config_path`
DIR/corpus/market.jsonl           what `tavily-search` finds, one document per line
DIR/preview.png                   the first question: the picture, the model's view of it, the right zoom
DIR/model/                        the tiny Qwen3-VL before any training, with tokenizer, processor and chat template
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from examples.tiny_world import model, tables, tokenizer, world
from examples.tiny_world.families import NAMES, families, tools_of
from examples.tiny_world.once import once
from examples.tiny_world.preview import preview
from examples.tiny_world.teacher import MISREAD_RATE
from examples.tiny_world.tools import write_tools
from verl_axpo import prompts
from verl_axpo.data import parquet
from verl_axpo.tools.paper_tools import paper_tools
from verl_axpo.tools.syntax import HERMES, in_syntax, syntax

TOKENIZER_TEXTS = 1024  # demonstrations that the tokenizer is trained on; more find no new phrase


def conversations(
    seed: int, count: int = TOKENIZER_TEXTS, names: Sequence[str] = NAMES, call_syntax: str = HERMES.name
) -> list[str]:
    """Demonstrations as text, rendered by the chat template alone: there is no tokenizer yet."""
    import jinja2

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string(tokenizer.CHAT_TEMPLATES[call_syntax].read_text(encoding="utf-8"))
    texts = []
    for example in world.examples("sft_train", count, seed, names):
        tools, turns = paper_tools(example.tools), example.demonstration().turns
        schemas = prompts.tool_schemas(tools)
        said = [{**turn, "content": in_syntax(turn["content"], syntax(call_syntax), schemas)} for turn in turns]
        messages = [*prompts.prompt_messages(example.problem.question, tools), *said]
        texts.append(template.render(messages=messages, tools=schemas).replace("<image>", ""))
    return texts


def make_tokenizer(seed: int, names: Sequence[str] = NAMES, call_syntax: str = HERMES.name) -> PreTrainedTokenizerFast:
    """The tokenizer of the world of `seed`, its chat template with a call syntax."""
    return tokenizer.train(conversations(seed, names=names, call_syntax=call_syntax), model.MAX_LENGTH, call_syntax)


def make(
    out: Path,
    seed: int,
    counts: dict[str, int],
    names: Sequence[str] = NAMES,
    call_syntax: str = HERMES.name,
    misread: float = MISREAD_RATE,
) -> None:
    """Write every file of the world; `counts` has the rows of each split, which are the same for every call syntax."""
    for split, count in counts.items():
        to_row = tables.sft_row if split in world.SFT_SPLITS else tables.rl_row
        rows = parquet.write(out / f"{split}.parquet", map(to_row, world.examples(split, count, seed, names, misread)))
        print(f"{split}: {rows} rows -> {out / split}.parquet", flush=True)
    write_tools(out, tools_of(families(names)))
    preview(next(world.examples("train", 1, seed, ["perception"])).problem).save(out / "preview.png", optimize=True)
    made = make_tokenizer(seed, names, call_syntax)
    parameters = model.save(out / "model", made, seed)
    print(f"model: {parameters / 1e6:.2f} M parameters, {len(made)} tokens -> {out / 'model'}", flush=True)


def main() -> None:
    """Parse the command line and make the world."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    sizes = {"train": 2048, "val": 64, "heldout": 192, "sft_train": 8192, "sft_val": 128}
    for split, size in sizes.items():
        flags = [f"--{split.replace('_', '-')}"] + (["--sft"] if split == "sft_train" else [])
        parser.add_argument(*flags, dest=split, type=int, default=size, metavar="ROWS", help=f"default {size}")
    parser.add_argument("--families", type=lambda text: text.split(","), default=NAMES, help="default all: %(default)s")
    syntaxes = list(tokenizer.CHAT_TEMPLATES)
    parser.add_argument("--call-syntax", choices=syntaxes, default=HERMES.name, help="default %(default)s")
    help_ = "share of a call's numbers that the teacher misreads; the study's world has %(default)s"
    parser.add_argument("--misread", type=float, default=MISREAD_RATE, metavar="RATE", help=help_)
    arguments = vars(parser.parse_args())
    out, seed, names, written, misread = (
        arguments[name] for name in ("out", "seed", "families", "call_syntax", "misread")
    )
    counts = {split: arguments[split] for split in sizes}
    settings = {"families": names, "seed": seed, **counts}
    if written != HERMES.name:  # worlds that are there say nothing of these
        settings["call_syntax"] = written
    if misread != MISREAD_RATE:
        settings["misread"] = misread
    try:
        made = once(out, settings, lambda: make(out, seed, counts, names, written, misread))
    except ValueError as error:
        parser.error(str(error))
    if not made:
        print(f"nothing has changed, the world is there: {out}")


if __name__ == "__main__":
    main()
