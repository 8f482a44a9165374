"""`core` is the paper and nothing else: its imports are walked, and `import verl_axpo` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import verl_axpo.core

CORE = Path(verl_axpo.core.__path__[0])
ALLOWED = sys.stdlib_module_names | {"torch", "verl_axpo"}


def imported(module: Path) -> set[str]:
    """Full names of everything a module imports, wherever in its body."""
    nodes = list(ast.walk(ast.parse(module.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}


def test_core_imports_the_standard_library_torch_and_itself() -> None:
    modules = sorted(CORE.rglob("*.py"))
    assert len(modules) >= 8
    for module in modules:
        names = imported(module)
        assert {name.split(".")[0] for name in names} <= ALLOWED, module
        assert all(name.startswith("verl_axpo.core") for name in names if name.startswith("verl_axpo")), module


def test_decisions_need_no_torch() -> None:
    assert [module.stem for module in CORE.glob("*.py") if "torch" in imported(module)] == ["advantage"]


def test_importing_the_package_imports_neither_torch_nor_verl() -> None:
    code = (
        "import sys, verl_axpo, verl_axpo.core.step; print(sorted({'torch', 'verl', 'ray', 'vllm'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "[]"
