"""Every Python block of the README and the docs, and every docstring example, runs as it stands."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import ml4t.models

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NEEDS = {"polars", "plotly", "torch", "dask", "linearmodels"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_runs(page, capsys):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    if not blocks:
        pytest.skip("no Python on this page")
    names: dict[str, object] = {"__name__": "__docs__"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page.name}[{number}]", "exec"), names)
    if page.name == "README.md":
        assert "forecast shape: (1, 300)" in capsys.readouterr().out


def modules():
    below = pkgutil.walk_packages(ml4t.models.__path__, "ml4t.models.")
    names = sorted(module.name for module in below if not module.name.endswith("._core"))
    return ["ml4t.models", *names]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_hold(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_files_of_the_architecture_exist():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = re.findall(r"`([\w/]+\.py)`", page)
    assert len(files) > 30
    assert not [name for name in files if not (ROOT / "python/ml4t/models" / name).is_file()]
