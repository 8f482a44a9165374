"""Call syntaxes: what is written is read back, whatever it holds; what cannot be read says why; where a call ends."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.tools.test_parser import CharTokenizer
from verl_axpo.tools import syntax as package
from verl_axpo.tools.parser import CallSpan, ToolCallParser
from verl_axpo.tools.syntax import CallSyntax, syntax, syntaxes

NAMES = ("hermes", "qwen3_coder", "glm")
TOKENIZER = CharTokenizer()
ANY = {"description": "whatever JSON has"}
TYPES = {"text": {"type": "string"}, "any": ANY, "list": {"type": "array"}, "object": {"type": "object"}}
TYPES |= {"flag": {"type": "boolean"}, "number": {"type": "number"}, "maybe": {"type": ["string", "null"]}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": TYPES}}}
HTML = '<p class="a">\n  <a href="/x">1 &lt; 2</a>\n</p>\n'
MARKS = (
    *(
        "</tool_call>",
        "<tool_call>",
        "</parameter>",
        "</function>",
        "<arg_key>",
        "</arg_value>",
        "</arg_key>",
        "<think>",
    ),
    *("<parameter=b>", "<function=g>", '"', "\\", "\n", "{", "}"),
)
texts = (
    st.lists(st.text(max_size=8) | st.sampled_from(MARKS), max_size=6)
    .map("".join)
    .filter(
        lambda text: text.encode("utf-8", "ignore").decode() == text  # no half of a surrogate pair: no tokenizer has it
    )
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


def parsed(written: str, name: str, *, starts_in_think: bool = False) -> tuple[list[CallSpan], list[Any]]:
    """Spans and calls of a turn, read from its ids as a rollout reads them."""
    ids = TOKENIZER.encode(written)
    parser = ToolCallParser(TOKENIZER, starts_in_think=starts_in_think, syntax=syntax(name))
    spans = parser.spans(ids)
    return spans, [parser.parse(ids, span, [TOOL]) for span in spans]


def same(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return json.dumps(got, sort_keys=True) == json.dumps(wanted, sort_keys=True)  # True is not 1, 1.0 is not 1


@pytest.mark.parametrize("name", NAMES)
@given(value=values)
@example(value="null")
@example(value="5")
@example(value="True")
@example(value="[1]")
@example(value=" 5\n")
@example(value="</parameter>\n</function>\n</tool_call>")
@example(value="</arg_value>\n</tool_call>")
@example(value="<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>")
@example(value="<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>")
@example(value=10**400)
def test_what_is_written_is_read_back(name: str, value: Any) -> None:
    """Every JSON value, as an argument whose schema allows any."""
    arguments = {"any": value, "text": "x"}
    written = syntax(name).write("f", arguments, [TOOL])
    (span,), (call,) = parsed(written, name)
    assert (call.problem, call.name, span) == (
        None,
        "f",
        CallSpan(open=0, end=len(TOKENIZER.encode(written)), closed=True),
    )
    assert same(call.arguments, arguments)


@pytest.mark.parametrize("name", NAMES)
@given(text=texts)
@example(text=HTML)
@example(text="  indented\n\n")
@example(text="")
@example(text="null")
def test_text_is_read_back_or_refused(name: str, text: str) -> None:
    """An argument of type string has no other spelling than itself: what would end it early cannot be written."""
    held = syntax(name)
    ends = {"hermes": (), "qwen3_coder": ("</parameter>", "<function="), "glm": ("</arg_value>", "<arg_key>")}[name]
    if any(end in text for end in ends):
        with contextlib.suppress(ValueError):
            (_, (call,)) = parsed(held.write("f", {"text": text}, [TOOL]), name)
            assert call.arguments == {"text": text}
        return
    (span,), (call,) = parsed(held.write("f", {"text": text}, [TOOL]), name)
    assert (call.problem, call.arguments, span.closed) == (None, {"text": text}, True)


@pytest.mark.parametrize(
    ("name", "text"),
    [("qwen3_coder", "a\n</parameter>\n</function>"), ("glm", "a</arg_value>\n<arg_key>b</arg_key><arg_value>c")],
)
def test_text_that_would_end_its_argument_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"the call syntax {name} cannot hold"):
        syntax(name).write("f", {"text": text}, [TOOL])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "code",
    [
        HTML,
        "s = '<tool_call> and </tool_call> and <think>'",
        "print('</parameter>')\nprint('</arg_value>')",
        "x = 1\n\n\nif x:\n    print('中文 🎉 \\n')\n",
        "re.sub(r'<parameter=(.*?)>', '', text)",
        "'</function>'",
    ],
)
def test_code_with_tags_in_it(name: str, code: str) -> None:
    turn = syntax(name).write("f", {"text": code}, [TOOL])
    spans, calls = parsed(f"</think>{turn}\n{turn}", name, starts_in_think=True)
    assert [call.arguments for call in calls] == [{"text": code}] * 2
    length = len(TOKENIZER.encode(turn))
    assert [(span.open, span.end) for span in spans] == [(1, 1 + length), (2 + length, 2 + 2 * length)]


@pytest.mark.parametrize("name", NAMES)
def test_types_come_from_the_schema(name: str) -> None:
    arguments = {
        "list": [1, None, True],
        "object": {"a": "<b>"},
        "flag": False,
        "number": -0.5,
        "text": "7",
        "maybe": None,
    }
    _, (call,) = parsed(syntax(name).write("f", arguments, [TOOL]), name)
    assert same(call.arguments, arguments)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("True", True),
        ("None", None),
        ("['a', 1]", ["a", 1]),
        ("(1, 2)", [1, 2]),
        ("yes", "yes"),
        ("{1}", "{1}"),
        ("[", "["),
    ],
)
@pytest.mark.parametrize("name", NAMES[1:])
def test_a_python_literal_is_a_value_and_what_is_none_stays_text(name: str, text: str, value: Any) -> None:
    """Qwen3.5's template writes `True`; the tool's schema tells the policy about a text that should be a list."""
    written = {
        "qwen3_coder": f"<tool_call>\n<function=f>\n<parameter=any>\n{text}\n</parameter>\n</function>\n</tool_call>",
        "glm": f"<tool_call>f\n<arg_key>any</arg_key>\n<arg_value>{text}</arg_value>\n</tool_call>",
    }[name]
    _, (call,) = parsed(written, name)
    assert call.arguments == {"any": value}


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("qwen3_coder", "<function=f><parameter=text>1</parameter></function>"),
        ("qwen3_coder", "\n<function=f>\n<parameter=text>\n1\n</parameter>\n</function>\n"),
        ("qwen3_coder", "  <function=f>\n\n<parameter=text>\n1</parameter>\n\n</function>"),
        ("glm", "f<arg_key>text</arg_key><arg_value>1</arg_value>"),
        ("glm", "f\n<arg_key>text</arg_key>\n<arg_value>1</arg_value>\n"),
        ("hermes", '{"name":"f","arguments":{"text":"1"}}'),
    ],
)
def test_white_space_between_tags_does_not_matter(name: str, inner: str) -> None:
    _, (call,) = parsed(f"<tool_call>{inner}</tool_call>", name)
    assert (call.name, call.arguments) == ("f", {"text": "1"})


@pytest.mark.parametrize("name", NAMES)
def test_a_call_without_arguments(name: str) -> None:
    _, (call,) = parsed(syntax(name).write("f", {}), name)
    assert (call.problem, call.name, call.arguments) == (None, "f", {})


@pytest.mark.parametrize(
    ("name", "inner", "says"),
    [
        ("qwen3_coder", '{"name": "f", "arguments": {}}', "names no tool; expected function=NAME"),
        ("qwen3_coder", "", "names no tool"),
        ("qwen3_coder", "<function=f>\n<parameter=a>\n1\n</function>", "argument a of f is not closed"),
        ("qwen3_coder", "<function=f>\n<parameter=a>\n1\n</parameter>", "argument a of f is not closed"),
        ("qwen3_coder", "<function=f>\nhello</function>", "holds something else than arguments"),
        ("qwen3_coder", "<function=f>\n</function> and then", "goes on after its end"),
        (
            "qwen3_coder",
            "<function=f><parameter=a>1</parameter><parameter=a>2</parameter></function>",
            "argument a of f is there twice",
        ),
        ("glm", "", "names no tool; expected NAME"),
        ("glm", "f and more", "names no tool"),
        ("glm", "f<arg_key>a</arg_key>", "goes on after its end"),
        ("glm", "f<arg_key>a</arg_key><arg_value>1", "argument a of f is not closed"),
        ("hermes", "<function=f></function>", "is not valid JSON"),
    ],
)
def test_a_call_that_cannot_be_read_says_why(name: str, inner: str, says: str) -> None:
    (span,), (call,) = parsed(f"<tool_call>{inner}</tool_call>", name)
    assert span.closed
    assert call.problem is not None
    assert says in call.problem


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_call_does_not_swallow_the_next(name: str) -> None:
    whole = syntax(name).write("f", {"text": "1"}, [TOOL])
    broken = {
        "hermes": '<tool_call>{"name": "f", "arguments": {"text": "1</tool_call>',
        "qwen3_coder": "<tool_call>\n<function=f>\n<parameter=text>\n1\n</tool_call>",
        "glm": "<tool_call>f\n<arg_key>text</arg_key>\n<arg_value>1</tool_call>",
    }[name]
    spans, calls = parsed(f"{broken}\n{whole}", name)
    assert [call.problem is None for call in calls] == [False, True]
    assert spans[0].end == len(TOKENIZER.encode(broken))


@pytest.mark.parametrize("name", NAMES)
def test_thought_calls_do_not_count_and_open_ones_reach_the_end(name: str) -> None:
    call = syntax(name).write("f", {"text": "1"}, [TOOL])
    assert parsed(f"{call}</think>", name, starts_in_think=True)[0] == []
    assert parsed(f"<think>{call}", name)[0] == []
    (span,), (bad,) = parsed(call.removesuffix("</tool_call>"), name)
    assert (span.closed, bad.problem) == (False, "The tool call was not closed with </tool_call>.")


@pytest.mark.timeout(300)  # s; see test_parser.py
@pytest.mark.parametrize(
    "inner", ["<function=f>", "<function=f><parameter=a>", "f<arg_key>a</arg_key><arg_value>", "f"]
)
@pytest.mark.parametrize("between", ["", "x"])
@pytest.mark.parametrize("name", NAMES[1:])
def test_a_long_turn_of_undecodable_calls_takes_no_time(name: str, inner: str, between: str) -> None:
    call = TOKENIZER.encode(f"<tool_call>{inner}</tool_call>{between}")
    calls = 32_768 // len(call)
    parser = ToolCallParser(TOKENIZER, starts_in_think=False, syntax=syntax(name))
    started = time.thread_time()
    assert len(parser.spans(call * calls)) == calls
    assert time.thread_time() - started < 20  # s; below 1 s on one core of a small machine


class Point:
    """An entry point of another package."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self.name, self.load = "mine", load


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the entry points of the group."""
    syntaxes.cache_clear()

    def give(*points: Any) -> None:
        monkeypatch.setattr(package.metadata, "entry_points", lambda group: [Point(lambda p=p: p) for p in points])

    yield give
    syntaxes.cache_clear()


def test_a_package_adds_a_syntax(entry_points: Any) -> None:
    mine = package.ByVerl("seed", opening="<seed:tool_call>", closing="</seed:tool_call>", sign="<seed:tool_call>")
    entry_points(mine)
    assert syntax("seed") is mine
    assert {name for name in syntaxes()} == {*NAMES, "seed"}
    with pytest.raises(ValueError, match=r"got 'sed', expected one of \['glm', 'hermes', 'qwen3_coder', 'seed'\]"):
        syntax("sed")


@pytest.mark.parametrize(
    ("added", "says"), [("text", "expected an instance of CallSyntax"), (syntax("glm"), "glm is there already")]
)
def test_an_entry_point_that_is_none_is_refused(entry_points: Any, added: Any, says: str) -> None:
    entry_points(added)
    with pytest.raises(ValueError, match=says):
        syntaxes()


def test_a_syntax_that_verl_decodes(entry_points: Any) -> None:
    entry_points(
        package.ByVerl("seed", opening="<seed:tool_call>", closing="</seed:tool_call>", sign="<seed:tool_call>")
    )
    seed: CallSyntax = syntax("seed")
    text = "<seed:tool_call><function=f>\n<parameter=number>2</parameter></function></seed:tool_call>"
    ((call, end),) = seed.calls_in(text)
    assert (call.name, call.arguments, end) == ("f", {"number": 2}, len(text))
    assert (
        seed.decode("nothing").problem
        == "The tool call cannot be read; write one call as the system prompt says, not 0."
    )
    with pytest.raises(ValueError, match="can be read, not written"):
        seed.write("f", {})
