"""What the documentation names is there: files, modules, symbols, tests, links. Nothing is imported.

pages, and docstrings and comments of the code -> paths, dotted names, links -> those that the tree lacks

`CHANGELOG.md` and `docs/LOG.md` tell history and may name what is gone.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HISTORY = {ROOT / "CHANGELOG.md", ROOT / "docs/LOG.md"}
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "recipes/README.md"]
CODE = [path for folder in ("verl_axpo", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
SCRIPTS = [*ROOT.glob("recipes/*.sh"), *ROOT.glob("verl_axpo/**/*.yaml"), ROOT / "tests/run.sh", ROOT / "mkdocs.yml"]
SPEAKS_OF_TODAY = sorted({*PAGES, *CODE, *SCRIPTS} - HISTORY)

# A path may start at the root, in the package or one of its parts, or in the folder of tests
STARTS = [ROOT, ROOT / "verl_axpo", ROOT / "tests", ROOT / "verl_axpo/integration", ROOT / "docs", ROOT / "tests/unit"]
IGNORED = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}  # what runs leave: outputs/
FOLDERS = {path.name for start in STARTS for path in start.iterdir() if path.is_dir()} - IGNORED
FILE = re.compile(r"(?<!verl's )(?<![\w./$<>*{}-])((\w+)/(?:[\w-]+/)*[\w-]+\.(?:py|sh|md|ya?ml|toml|txt|jinja))\b")
DOTTED = re.compile(r"(?<![\w./])((?:verl_axpo|examples\.(?:tiny_world|benchmark_rows))(?:\.\w+)+)")
SYMBOL = re.compile(r"`(\w+)\.([A-Za-z_]\w*)(?:\.\w+)*(?:\(\))?`")
TEST = re.compile(r"(test_\w+\.py)`?(?:::(test_\w+))?")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
NOT_MODULES = {
    "config",
    "data",
    "judge",
    "reward",
    "rollout",
    "stage",
    "trainer",
}  # also prefixes of settings, or variables
MADE_AT_RUN_TIME = {"verl_axpo.platforms.cpu.device", "verl_axpo.call_syntaxes"}  # the latter: of entry points
NOT_SYMBOLS = {"csv", "html", "json", "jsonl", "md", "parquet", "py", "sh", "zip"}  # endings of files


def places(pattern: re.Pattern[str], paths: list[Path]) -> Iterator[tuple[str, re.Match[str]]]:
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for match in pattern.finditer(line):
                yield f"{path.relative_to(ROOT)}:{number}", match


@cache
def names_in(path: Path) -> frozenset[str]:
    """What a module defines or imports, and `Class.attribute` of its classes."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        names |= _bound(node)
        if isinstance(node, ast.ClassDef):
            fields = {name for child in ast.walk(node) for name in _bound(child)}
            names |= {f"{node.name}.{name}" for name in fields}
    return frozenset(names)


def _bound(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {getattr(name, "id", None) or getattr(name, "attr", "") for target in targets for name in ast.walk(target)}


def module(parts: list[str]) -> tuple[Path, list[str]]:
    """The deepest file or package that the dotted name starts with, and the rest of the name."""
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file, parts[length:]
        if path.is_dir():
            return path, parts[length:]
    raise AssertionError(parts)


def is_there(dotted: str) -> bool:
    file, rest = module(dotted.split("."))
    return not rest or (file.is_file() and bool({rest[0], ".".join(rest[:2])} & names_in(file)))


def test_every_file_that_is_named_exists() -> None:
    missing = [
        f"{where}: {match[1]}"
        for where, match in places(FILE, SPEAKS_OF_TODAY)
        if match[2] in FOLDERS and not any((start / match[1]).is_file() for start in STARTS)
    ]
    assert missing == []


def test_every_dotted_name_exists() -> None:
    missing = [
        f"{where}: {match[1]}"
        for where, match in places(DOTTED, SPEAKS_OF_TODAY)
        if not is_there(match[1]) and match[1] not in MADE_AT_RUN_TIME
    ]
    assert missing == []


def test_every_symbol_of_a_module_exists() -> None:
    """`module.symbol` or `Class.attribute` in backticks, the module by its last name."""
    members: dict[str, set[str]] = {}
    for path in ROOT.glob("verl_axpo/**/*.py"):
        members.setdefault(path.stem, set()).update(names_in(path))
        for owner, _, attribute in (name.partition(".") for name in names_in(path) if "." in name):
            members.setdefault(owner, set()).add(attribute)
    missing = [
        f"{where}: {match[0]}"
        for where, match in places(SYMBOL, SPEAKS_OF_TODAY)
        if match[1] in members.keys() - NOT_MODULES and match[2] not in members[match[1]] | NOT_SYMBOLS
    ]
    assert missing == []


def test_every_test_that_is_named_exists() -> None:
    """A name that ends in an ellipsis is the beginning of one."""
    defined = {path.name: names_in(path) for path in ROOT.glob("tests/**/test_*.py")}
    missing = [
        f"{where}: {match[0]}"
        for where, match in places(TEST, sorted({*PAGES} - HISTORY))
        if match[1] not in defined or (match[2] and not any(name.startswith(match[2]) for name in defined[match[1]]))
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """mkdocs checks those among the pages of docs/; pictures and links of README.md are checked nowhere else."""
    links = [match[1] for _, match in places(LINK, [page])]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("folder", ["verl_axpo", "examples", "recipes", "tests"])
def test_the_house_has_each_room(folder: str) -> None:
    page = (ROOT / "docs/design/house.md").read_text()
    rooms = {path.name for path in (ROOT / folder).iterdir() if path.is_dir() or path.suffix in (".py", ".sh")}
    assert {room for room in rooms if not room.startswith("__") and room not in page} == set()
