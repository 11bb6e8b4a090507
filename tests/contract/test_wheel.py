"""One wheel, every supported Python: installed in a bare environment it runs the README."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TOOLS = {name: shutil.which(name, path=f"{BIN}") for name in ("uv", "maturin")}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        None in TOOLS.values() or shutil.which("cargo") is None,
        reason="needs uv, maturin and cargo",
    ),
]


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    run(TOOLS["maturin"], "build", "--release", "--quiet", "--out", str(out), cwd=ROOT)
    (built,) = out.glob("*.whl")
    return built


def test_what_is_in_it(wheel):
    assert "-cp311-abi3-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert "ml4t/__init__.py" not in names  # a namespace shared with other packages
    for needed in ("_core.pyi", "py.typed", "_core.abi3.so", "__init__.py"):
        assert f"ml4t/models/{needed}" in names or sys.platform == "win32"
    licences = [name for name in names if name.endswith("LICENSE")]
    assert licences
    assert not [name for name in names if name.startswith(("tests", "ml4t/models/tests"))]


def interpreter(version):
    """Find a Python of this version: on the path, or among pyenv's."""
    name, pyenv = f"python{version}", shutil.which("pyenv")
    found = [shutil.which(name)]
    if pyenv is not None:
        found += map(str, Path(pyenv).parents[1].glob(f"versions/{version}.*/bin/{name}"))
    for candidate in filter(None, found):
        if (
            subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode
            == 0
        ):
            return candidate
    pytest.skip(f"no Python {version} on this machine")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_it_runs_the_readme(wheel, version, tmp_path):
    run(interpreter(version), "-m", "venv", "--without-pip", str(tmp_path / "bare"))
    python = tmp_path / "bare" / "bin" / "python"
    run(TOOLS["uv"], "pip", "install", "--quiet", "--python", str(python), str(wheel))
    (snippet, *_) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    shown = run(str(python), "-c", snippet, cwd=tmp_path)
    assert shown == "converged: True\nforecast shape: (1, 300)\n"
    lean = (
        "import sys, ml4t.models; print(sorted({'torch', 'polars', 'pandas'} & set(sys.modules)))"
    )
    assert run(str(python), "-c", lean, cwd=tmp_path) == "[]\n"
