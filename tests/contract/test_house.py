"""The house rules that a machine can check. Change a rule here, with a reason, or obey it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "python/ml4t/models"
FILES = sorted(ROOT.rglob("*.py"))
MAX_FILE, MAX_FUNCTION, MAX_PARAMETERS = 400, 60, 8

# A module may import from its own floor and from floors below, never from above.
FLOORS = [
    {"checks", "kernels", "_core"},
    # Files are read and written from here on up: moments of a panel save themselves.
    {"types", "configs", "panel", "api", "artifacts", "threads"},
    {"training", "lifecycle"},
    {
        "latent_factors",
        "asset_prediction",
        "stochastic_discount_factor",
        "portfolio",
        "forecasters",
        "mappers",
    },
    {"pipelines"},
    # A walk gives its result as a frame.
    {"integration", "plots", "walk_forward"},
]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}
# The package itself stands on no floor: it loads everything, and nothing loads it.
ROOFS = {"__init__", "_public_api"}

# Signatures that existing users call with these keywords.
WIDE = {
    "resolve_feed_spec_mapping",
    "backtest_datafeed_inputs",
    "backtest_inputs_from_asset_forecast",
    "backtest_inputs_from_asset_signal",
    "backtest_inputs_from_weights",
    "robust_sharpe_loss",
    "scan",
    # The keywords of the two contract functions beside it, and its own.
    "portfolio_sequence_batch_from_long_frame",
}


def room(module: str) -> str | None:
    """Name the part of the package that a dotted module belongs to."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["ml4t", "models"] and len(parts) > 2 else None


def imports(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "ml4t.models":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "." * node.level
        elif isinstance(node, ast.ImportFrom) and room(node.module or ""):
            yield room(node.module or "")
        elif isinstance(node, ast.Import):
            yield from filter(None, (room(alias.name) for alias in node.names))


def import_complaints(here: str, tree: ast.AST):
    for other in imports(tree):
        if other not in FLOOR:
            yield f"imports {other}, which is on no floor"
        elif FLOOR[other] > FLOOR[here]:
            yield f"{here} reaches up to {other}"
        if other == "_core" and here != "kernels":
            yield "only kernels.py may import _core"


def size_complaints(tree: ast.AST):
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        names = [a.arg for a in arguments if a.arg not in ("self", "cls")]
        lines = node.end_lineno - node.lineno + 1
        if lines > MAX_FUNCTION:
            yield f"{node.name} is {lines} lines long"
        if len(names) > MAX_PARAMETERS and node.name not in WIDE:
            yield f"{node.name} takes {len(names)} parameters"


def test_every_part_of_the_package_has_a_floor():
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert parts <= FLOOR.keys() | ROOFS


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_obeys_the_house_rules(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    here = path.relative_to(ROOT).parts[0].removesuffix(".py")
    complaints = list(size_complaints(tree))
    if (lines := text.count("\n")) > MAX_FILE:
        complaints.append(f"{lines} lines")
    if here not in ROOFS:
        complaints.extend(import_complaints(here, tree))
    if any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        complaints.append("asserts: let a type say it, or refuse by name")
    assert not complaints


def test_the_namespace_is_shared_with_other_packages():
    assert not (ROOT.parent / "__init__.py").exists()
