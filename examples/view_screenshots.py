"""The pictures of docs/view.md: three pages of a run, as Chromium shows them.

    python examples/view_screenshots.py RUN --step 1 --out docs/img

The question is the step's first that AXPO restored, the trajectories its source and the continuation that was right.
"""

import argparse
import shutil
import threading
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from verl_axpo.trace import TracedQuestion, read_step
from verl_axpo.view.command import source_of
from verl_axpo.view.server import ViewServer

SIZE = {"width": 1280, "height": 760}
SETTLE_MS = 700


def shoot(page: Page, address: str, out: Path, *keys: str) -> None:
    """One page, after these keys were pressed."""
    page.goto(address)
    page.wait_for_timeout(SETTLE_MS)
    for key in keys:
        page.keyboard.press(key)
        page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=out)
    print(f"wrote {out}")


def shown(question: TracedQuestion) -> tuple[int, int]:
    """The source that was recovered, and the continuation that was right: their sessions."""
    source = next(record for record in question.sources if record.recovery == 1)
    return source.session, max(question.continuations(source.session), key=lambda record: record.reward).session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/img"))
    options = parser.parse_args()
    trace = options.run / "trace"
    question = next(each for each in read_step(trace, options.step, tokens=False).questions() if each.restored)
    source, right = shown(question)
    with ViewServer(source_of(options.run, trace)) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        place = f"{server.url}#/{options.step}/{question.uid}"
        shoot(page, server.url, options.out / "view_run.png")
        shoot(page, place, options.out / "view_question.png")
        shoot(page, f"{place}/{right}/vs/{source}", options.out / "view_tokens.png", "t", "d")
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
