"""The house rules that a machine can check. Change a rule here, with a reason, or obey it."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "python/ml4t/models"
FILES = sorted(ROOT.rglob("*.py"))
# Lines of code: without docstrings, comments and blank lines, which may be as long as readers need.
MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 300, 60, 8

# Signatures that existing users call with these keywords.
WIDE = {
    "robust_sharpe_loss",
    "scan",
    # The keywords of the two contract functions beside it, and its own.
    "portfolio_sequence_batch_from_long_frame",
}


def docstring_lines(tree: ast.AST) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        scope = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, scope) and ast.get_docstring(node) is not None:
            lines |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def code_lines(text: str, tree: ast.AST) -> list[int]:
    """Number the lines that hold code, counted from one."""
    prose = docstring_lines(tree)
    return [
        number
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#") and number not in prose
    ]


def size_complaints(tree: ast.AST, lines: list[int]):
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        names = [a.arg for a in arguments if a.arg not in ("self", "cls")]
        size = sum(node.lineno <= line <= node.end_lineno for line in lines)
        if size > MAX_FUNCTION:
            yield f"{node.name} has {size} lines of code"
        if len(names) > MAX_PARAMETERS and node.name not in WIDE:
            yield f"{node.name} takes {len(names)} parameters"


def imports_the_extension(tree: ast.AST) -> bool:
    return any(
        (isinstance(node, ast.ImportFrom) and "_core" in {alias.name for alias in node.names})
        or (isinstance(node, ast.ImportFrom) and (node.module or "").endswith("._core"))
        or (isinstance(node, ast.Import) and any("._core" in alias.name for alias in node.names))
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_obeys_the_house_rules(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    lines = code_lines(text, tree)
    complaints = list(size_complaints(tree, lines))
    if len(lines) > MAX_FILE:
        complaints.append(f"{len(lines)} lines of code")
    if path.relative_to(ROOT).parts[0] != "kernels" and imports_the_extension(tree):
        complaints.append("only kernels may import _core")
    if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)):
        complaints.append("relative import")
    if any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        complaints.append("asserts: let a type say it, or raise by name")
    assert not complaints


def test_layers_and_siblings_are_kept():
    """The contracts in pyproject.toml: layers, independent siblings, no circle."""
    importlinter = pytest.importorskip("importlinter.application.use_cases")
    importlib.import_module("importlinter.configuration").configure()
    assert importlinter.lint_imports(
        config_filename=str(ROOT.parents[2] / "pyproject.toml"), cache_dir=None
    )


def test_the_namespace_is_shared_with_other_packages():
    assert not (ROOT.parent / "__init__.py").exists()
