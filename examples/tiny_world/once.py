"""A folder that is filled once: a world that is there is not made again, and never mixed with another.

settings, work -> once() -> the folder, and stage.json with the settings, written last
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from verl_axpo.files import write_atomically

RECORD = "stage.json"


def once(out: Path, settings: Mapping[str, Any], work: Callable[[], object]) -> bool:
    """Fill a folder once; it is never filled again, and never with other settings.

    Returns:
        whether the work was done now.

    Raises:
        ValueError: the folder was filled with other settings.
    """
    record, wanted = out / RECORD, orjson.loads(orjson.dumps(dict(settings)))
    if record.exists():
        made = orjson.loads(record.read_bytes())
        if made != wanted:
            changed = [
                f"{key}: {made.get(key)} then, {wanted.get(key)} now"
                for key in {**made, **wanted}
                if made.get(key) != wanted.get(key)
            ]
            raise ValueError(
                f"{out} was made with other settings ({'; '.join(changed)}); use another folder, or remove it"
            )
        return False
    out.mkdir(parents=True, exist_ok=True)
    work()
    write_atomically(record, orjson.dumps(wanted, option=orjson.OPT_INDENT_2), flush=True)
    return True
