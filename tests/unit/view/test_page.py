"""The page in a real browser: from the run to a token; and no text of a model is run as code."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.unit.view.conftest import served
from verl_axpo.trace import read_step
from verl_axpo.trace.reader import records_path, summary_path
from verl_axpo.view.evaluation import EvaluationSource
from verl_axpo.view.page import write as write_file
from verl_axpo.view.training import TrainingSource

VENDOR = {  # as npm has them: htm 3.1.1, uplot 1.6.32
    "htm-preact.js": "62c4ffea400078c0eda7f435b22726b4961ebdf74c8506f188e92bec41d8ac51",
    "uplot.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
ATTACKS = [
    "<script>window.owned = 1</script>",
    "</script><script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 1'>",
    "<svg onload='window.owned = 1'><animate onbegin='window.owned = 1' attributeName=x dur=1s></svg>",
    "<a href='javascript:window.owned = 1'>x</a>",
    "<iframe src='data:text/html,<script>parent.owned = 1</script>'></iframe>",
    "<style>body { display: none }</style>",
    "${window.owned = 1} {{window.owned = 1}}",
    "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\ \x1b[2J",
    "tags \U000e0041\U000e0042 filler \u3164",
    "safe\u202etxt.exe \u2066hidden\u2069 zero\u200bwidth",
]


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """A page on which no error may happen, and which may ask nobody but its server."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if "127.0.0.1" not in request.url else None)
    page.goto(url)
    yield page
    asked = [error for error in errors if not error.startswith(("data:", "blob:", url.split("#")[0]))]
    page.close()
    assert asked == []


def restored(trace: Path) -> str:
    return next(question.uid for question in read_step(trace, 1, tokens=False).questions() if question.restored)


def test_from_the_run_to_a_token(browser: Browser, trace: Path) -> None:
    uid = restored(trace)
    with served(TrainingSource(trace)) as url, opened(browser, url) as page:
        expect(page.locator("figure canvas")).to_have_count(4)
        page.locator("a.line", has_text="1").first.click()
        expect(page.locator("a.line")).to_have_count(16)
        page.get_by_role("button", name="restored", exact=True).click()
        wanted = [question.uid for question in read_step(trace, 1, tokens=False).questions() if question.restored]
        expect(page.locator("a.line")).to_have_count(len(wanted))
        page.locator("a.line", has_text=uid).click()
        group = next(question for question in read_step(trace, 1).questions() if question.uid == uid)
        expect(page.locator("a.node")).to_have_count(len(group.records))
        expect(page.locator("a.node.selected")).to_have_count(len(group.sources))
        continuation = group.continuations(group.sources[0].session)[0]
        page.get_by_text(f"continuation {continuation.session}", exact=True).click()
        expect(page.locator("article h2")).to_contain_text(f"continuation {continuation.session}")
        expect(page.locator(".cutline")).to_be_visible()
        page.keyboard.press("t")
        expect(page.locator(".token")).to_have_count(len(continuation.response_ids))
        start, end = continuation.tool_call_span or (0, 0)
        expect(page.locator(".token.incall")).to_have_count(end - start)


def test_rows_sort_and_are_found_by_words(browser: Browser, trace: Path) -> None:
    questions = read_step(trace, 1, tokens=False).questions()
    best = max(sum(record.reward for record in question.rollouts) for question in questions)
    with served(TrainingSource(trace)) as url, opened(browser, f"{url}#/1") as page:
        page.get_by_role("columnheader", name="rollouts").click()
        expect(
            page.locator("a.line").first.locator(".square.right:not(.tool), .square.right.tool").nth(int(best) - 1)
        ).to_be_visible()
        page.keyboard.press("/")
        page.keyboard.type(questions[3].uid)
        expect(page.locator("a.line")).to_have_count(1)


def test_what_was_chosen_is_still_chosen_on_the_way_back(browser: Browser, trace: Path) -> None:
    with served(TrainingSource(trace)) as url, opened(browser, f"{url}#/1") as page:
        page.get_by_role("button", name="restored", exact=True).click()
        found = page.locator("a.line").count()
        page.locator("a.line").first.click()
        expect(page.locator("a.node").first).to_be_visible()
        page.keyboard.press("u")
        expect(page.locator(".chip.on")).to_have_text("restored")
        expect(page.locator("a.line")).to_have_count(found)


def test_curves_follow_the_windows_width(browser: Browser, trace: Path) -> None:
    with served(TrainingSource(trace)) as url, opened(browser, url) as page:
        expect(page.locator("figure canvas")).to_have_count(4)
        page.set_viewport_size({"width": 900, "height": 700})
        page.wait_for_timeout(300)
        for figure in page.locator("figure").all():
            assert figure.evaluate("each => each.querySelector('.u-wrap').clientWidth <= each.clientWidth")


def test_the_keyboard_goes_everywhere(browser: Browser, trace: Path) -> None:
    with served(TrainingSource(trace)) as url, opened(browser, url) as page:
        expect(page.locator("a.line")).to_have_count(2)
        for key, place in [("j", ""), ("Enter", "#/2"), ("u", "#/"), ("d", "#/")]:
            page.keyboard.press(key)
            page.wait_for_timeout(150)
            assert page.url == url + place or (not place and page.url.startswith(url))
        assert page.locator("html").get_attribute("data-theme") == "dark"
        page.goto(f"{url}#/1")
        expect(page.locator("a.line")).to_have_count(16)
        page.keyboard.press("Enter")
        expect(page.locator("a.node").first).to_be_visible()
        page.keyboard.press("Enter")
        expect(page.locator("article")).to_have_count(1)
        page.keyboard.press("c")
        expect(page.locator("article")).to_have_count(2)
        page.keyboard.press("?")
        expect(page.locator("aside")).to_contain_text("compare")


def test_two_trajectories_side_by_side_by_a_link(browser: Browser, trace: Path) -> None:
    uid = restored(trace)
    with served(TrainingSource(trace)) as url, opened(browser, f"{url}#/1/{uid}/0/vs/1") as page:
        expect(page.locator("article h2")).to_have_text(["rollout 0", "rollout 1"])


def test_any_two_trajectories_are_compared_by_a_mark(browser: Browser, trace: Path) -> None:
    first, second = (read_step(trace, step, tokens=False).records[0] for step in (1, 2))
    with served(TrainingSource(trace)) as url, opened(browser, f"{url}#/1/{first.uid}/{first.session}") as page:
        expect(page.locator("article")).to_have_count(1)
        page.keyboard.press("m")
        page.goto(f"{url}#/2/{second.uid}/{second.session}")
        expect(page.get_by_text(f"marked: 1, {first.uid}, {first.session}")).to_be_visible()
        page.keyboard.press("c")
        expect(page.locator("article")).to_have_count(2)
        assert page.url.endswith(f"#/2/{second.uid}/{second.session}/vs/1/{first.uid}/{first.session}")


def test_a_picture_opens_at_full_size_and_a_missing_one_is_named(browser: Browser, trace: Path) -> None:
    record = next(record for record in read_step(trace, 1, tokens=False).records if record.images)
    with served(TrainingSource(trace)) as url, opened(browser, f"{url}#/1/{record.uid}") as page:
        page.locator(".pictures img").first.click()
        expect(page.locator("img.full")).to_be_visible()
        (trace / record.images[0]).unlink()
        page.reload()
        expect(page.locator(".gone").first).to_contain_text(record.images[0])


def test_a_torn_line_is_named_and_skipped(browser: Browser, trace: Path) -> None:
    path = records_path(trace, 1)
    path.write_bytes(path.read_bytes()[:-100])
    with served(TrainingSource(trace)) as url, opened(browser, f"{url}#/1") as page:
        expect(page.locator(".defect").first).to_contain_text("the file is cut short")
        expect(page.locator("a.line")).to_have_count(16)


def test_a_run_that_still_goes_on_is_followed(browser: Browser, trace: Path) -> None:
    later = [(path, path.read_bytes()) for path in (records_path(trace, 2), summary_path(trace, 2))]
    for path, _ in later:
        path.unlink()
    with served(TrainingSource(trace)) as url, opened(browser, url) as page:
        expect(page.locator("a.line")).to_have_count(1)
        for path, content in later:
            path.write_bytes(content)
        expect(page.locator("a.line")).to_have_count(2)


def test_what_a_model_wrote_is_text(browser: Browser, trace: Path, tmp_path: Path) -> None:
    """In the question, the answer, the response, a call's name and error, on the server's page and in the file."""
    words = "\n".join(ATTACKS)
    first, *rest = read_step(trace, 1).records
    calls = [
        replace(call, name=words, error=words) for call in next(each for each in rest if each.tool_calls).tool_calls
    ]
    hostile = replace(first, question=words, ground_truth=words, text=words, tool_calls=calls)
    records_path(trace, 1).write_bytes(b"".join(each.to_json() + b"\n" for each in (hostile, *rest)))
    write_file(TrainingSource(trace), ["1"], tmp_path / "page.html")
    place = f"#/1/{first.uid}/{first.session}"
    with served(TrainingSource(trace)) as url:
        for address in (f"{url}#/1", f"{url}{place}", f"{(tmp_path / 'page.html').as_uri()}{place}"):
            with opened(browser, address) as page:
                expect(page.get_by_text("<img src=x").first).to_be_visible()
                assert page.evaluate("window.owned") is None
                assert page.locator("iframe, svg animate, main script, main style").count() == 0
                assert page.locator("a[href^='javascript']").count() == 0
                shown = page.locator("main").inner_text()
                assert not set(shown) & set("\x1b\u202e\u2066\u200b\u3164\U000e0041")
                assert "⟦U+202E⟧" in shown or address.endswith("#/1")


def test_an_evaluation_uses_the_same_page(browser: Browser, evaluation: Path) -> None:
    with served(EvaluationSource(evaluation)) as url, opened(browser, url) as page:
        page.locator("a.line", has_text="warm").click()
        page.locator("a.line", has_text="red").click()
        expect(page.locator("a.node.right")).to_have_count(1)
        expect(page.locator("a.node.infra")).to_have_count(1)
        page.locator("a.node.right").click()
        expect(page.locator(".reason")).to_have_text("judge: verdict C")
        expect(page.locator("article img")).to_have_count(1)
        assert page.title() == "verl-axpo view"  # the policy's script did not run


def test_a_written_page_loads_nothing_else(browser: Browser, trace: Path, tmp_path: Path) -> None:
    write_file(TrainingSource(trace), ["1"], tmp_path / "page.html")
    for path in [*trace.glob("*.json*"), *trace.glob("images/*")]:
        path.unlink()
    with opened(browser, (tmp_path / "page.html").as_uri()) as page:
        page.locator("a.line").first.click()
        page.locator("a.line").first.click()
        expect(page.locator("a.node").first).to_be_visible()
        page.locator("a.node").first.click()
        expect(page.locator("article")).to_have_count(1)
        page.keyboard.press("t")
        expect(page.get_by_text("Written with --tokens, it would.")).to_be_visible()
        page.goto(f"{(tmp_path / 'page.html').as_uri()}#/2")
        expect(page.locator(".error")).to_contain_text("This file does not hold it")


@pytest.mark.parametrize("name", list(VENDOR))
def test_the_libraries_are_their_projects_own(name: str) -> None:
    content = (files("verl_axpo.view") / "static/vendor" / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == VENDOR[name]
