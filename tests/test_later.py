"""Packages whose names load when asked for: every name is there, and is what its import statement says."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import graphc
from graphc import later

ROOT = Path(graphc.__file__).parent
PACKAGES = [
    ".".join(["graphc", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
    for path in sorted(ROOT.rglob("*.py"))
    if "imports_above(__name__)" in path.read_text() and path.stem != "later"
]


def statements(package: str) -> list[ast.ImportFrom]:
    """All its imports but those that make it work."""
    tree = ast.parse(Path(importlib.import_module(package).__file__ or "").read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [node for node in found if node.module not in ("typing", "graphc.later")]


def test_there_are_such_packages() -> None:
    assert {"graphc", "graphc.nn", "graphc.functional", "graphc.optim", "graphc.nn.functional"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_what_its_statement_says(package: str) -> None:
    gathered, names = importlib.import_module(package), set()
    for node in statements(package):
        for alias in node.names:
            source = importlib.import_module(node.module or "")
            known = [alias.name] if alias.name != "*" else source.__all__
            for name in known:
                here = alias.asname or name
                assert getattr(gathered, here) is getattr(source, name), here
                names.add(here)
    assert set(dir(gathered)) == set(gathered.__all__) == names and len(names) > 4


@pytest.mark.parametrize("package", PACKAGES)
def test_one_name_is_enough_to_load_it(package: str) -> None:
    """In a fresh process, so that no other name has loaded what it needs."""
    names = importlib.import_module(package).__all__
    program = f"import sys, {package} as package\nfor name in sys.argv[1:]: getattr(package, name)"
    for order in (names, names[::-1]):
        subprocess.run([sys.executable, "-c", program, *order], check=True)


def test_names_are_imported_by_star_too() -> None:
    program = "from graphc.nn.functional import *; from graphc.nn import *; relu, softmax, Linear, utils"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_not_there_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        getattr(importlib.import_module(package), "nonsense")  # noqa: B009
    with pytest.raises(ImportError, match="nonsense"):
        exec(f"from {package} import nonsense")


def test_functions_that_share_a_name_with_a_module_are_functions() -> None:
    program = (
        "import graphc as gx; gx.train_step, gx.Function; import graphc.step, graphc.function\n"
        "assert callable(gx.step) and callable(gx.function)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_only_modules_that_are_asked_for_are_loaded() -> None:
    program = (
        "import sys\nfrom graphc import nn\nnn.Linear(2, 3)\n"
        "print(*(name for name in sys.modules if name.startswith('graphc.nn.')))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert "graphc.nn.linear" in loaded and not {"graphc.nn.transformer", "graphc.nn.recurrent"} & set(loaded)


def test_imports_are_read_off_the_code() -> None:
    source = "if WANTED:\n    from a.b import *\n    from c import d as e, f\nimport g\nfrom h.i import j\nx = 1\n"
    assert list(later.imports(compile(source, "example", "exec"))) == [
        ("a.b", "*", ""), ("c", "d", "e"), ("c", "f", "f"), ("h.i", "j", "j"),
    ]  # fmt: skip
