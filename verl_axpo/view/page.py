"""The page: static/ in one HTML file. With a run's data in it, it needs no server.

static/*.js, style.css, vendor/ -> page()                   -> what the server sends
Source, chapters                -> page(data) -> write()    -> FILE.html
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from verl_axpo.files import write_atomically
from verl_axpo.view.source import Source, addresses, answer

# In this order; all share one scope
LIBRARIES = ("vendor/htm-preact.js", "vendor/uplot.js")
SCRIPTS = (*LIBRARIES, "text.js", "data.js", "tables.js", "tree.js", "tokens.js", "app.js")
STYLES = ("vendor/uplot.css", "style.css")


def _static(name: str) -> str:
    return (files("verl_axpo.view") / "static" / name).read_text(encoding="utf-8")


@cache
def _code() -> tuple[str, str]:
    return "\n".join(map(_static, SCRIPTS)), "\n".join(map(_static, STYLES))


def _policy() -> str:
    """Only our own script runs, by its hash; nothing is loaded from anywhere else."""
    digest = base64.b64encode(hashlib.sha256(_code()[0].encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'"
    )


POLICY = _policy()


def page(data: Mapping[str, str] | None = None) -> str:
    """The whole page. `data` has, by address, what `packed` made; base64 cannot end a script element."""
    script, style = _code()
    held = f'<script type="application/json" id="data">{json.dumps(data)}</script>' if data else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>verl-axpo view</title>'
        '<link rel="icon" href="data:,">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{style}</style></head><body>{held}<div id="app"></div><script>{script}</script></body></html>'
    )


def packed(media: str, content: bytes) -> str:
    """JSON compressed, a picture as a data URL; both in base64."""
    if media == "application/json":
        return base64.b64encode(gzip.compress(content, compresslevel=5, mtime=0)).decode()
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def write(source: Source, keys: list[str], out: Path, *, tokens: bool = False) -> int:
    """Write the self-contained file with these chapters, without pictures that are gone; returns its size in bytes."""
    data = {}
    for address in addresses(source, keys, tokens=tokens):
        try:
            data[address] = packed(*answer(source, address))
        except (ValueError, OSError):
            if not address.startswith("image/"):
                raise
    content = page(data).encode()
    write_atomically(out, content)
    return len(content)
