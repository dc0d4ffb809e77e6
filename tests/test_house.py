"""The rules of the house that a program can check: floors, sizes, packaging, a light import."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"graphc": ROOT / "graphc", "graphc.ir": ROOT / "ir", "graphc.backends": ROOT / "backends"}
MOST_LINES = 800
HEAVY = {
    "numba", "llvmlite", "networkx", "graphc.ir.passes", "graphc.ir.program", "graphc.backends.source", "graphc.train",
    "graphc.functional.losses", "importlib.metadata", "hashlib", "json", "logging", "numpy.random", "pathlib",
    "tempfile", "traceback", "urllib.parse",
}  # fmt: skip
BANNED_NAMES = {"utils", "util", "helpers", "helper", "misc", "common", "manager", "handler", "context", "base"}
MACHINE_PATHS = [b"/" + b"work/", b"/" + b"tmp/venv", b"/" + b"home/", b"/" + b"root/"]


def sources(folder: Path) -> list[Path]:
    """The Python files of a room; the rooms linked into graphc/ count where they stand."""
    return sorted(
        path
        for path in folder.rglob("*.py")
        if "__pycache__" not in path.parts and not any(parent.is_symlink() for parent in path.parents)
    )


PACKAGE_FILES = [(room, path) for room, folder in ROOMS.items() for path in sources(folder)]
ALL_FILES = [path for folder in (*ROOMS.values(), ROOT / "tests", ROOT / "examples") for path in sources(folder)]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """The dotted names of all modules a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
            names |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "graphc"}
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_rooms_have_files() -> None:
    for room, folder in ROOMS.items():
        assert sources(folder), f"{room} is empty: the tests below would check nothing"


@pytest.mark.parametrize("path", [path for room, path in PACKAGE_FILES if room == "graphc.ir"], ids=shown)
def test_ir_imports_numpy_and_itself(path: Path) -> None:
    allowed = {"numpy", "graphc.ir", *sys.stdlib_module_names}
    foreign = {name for name in imported(path) - {"graphc"} if not any(within(name, package) for package in allowed)}
    assert not foreign, f"{shown(path)} imports {foreign}"


@pytest.mark.parametrize("path", [path for room, path in PACKAGE_FILES if room == "graphc.backends"], ids=shown)
def test_backends_import_nothing_above_them(path: Path) -> None:
    ours = {name for name in imported(path) - {"graphc"} if within(name, "graphc")}
    above = {name for name in ours if not within(name, "graphc.ir") and not within(name, "graphc.backends")}
    assert not above, f"{shown(path)} imports {above}"


@pytest.mark.parametrize("path", ALL_FILES, ids=shown)
def test_no_room_is_imported_under_a_second_name(path: Path) -> None:
    second = {name for name in imported(path) if within(name, "ir") or within(name, "backends") or name[0] == "."}
    assert not second, f"{shown(path)} imports {second}; write graphc.ir, graphc.backends"


@pytest.mark.parametrize("path", ALL_FILES, ids=shown)
def test_file_is_short_and_named_for_its_subject(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{shown(path)} has {lines} lines: split it by subject"
    assert path.stem not in BANNED_NAMES, f"{shown(path)} says nothing of its subject"


@pytest.mark.parametrize("path", [path for _, path in PACKAGE_FILES], ids=shown)
def test_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{shown(path)} has no docstring"


def test_package_list_is_the_folders() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        ".".join([room, *path.parent.relative_to(ROOMS[room]).parts])
        for room, path in PACKAGE_FILES
        if path.name == "__init__.py"
    }
    assert sorted(settings["packages"]) == sorted(folders)
    assert settings["package-dir"] == {room: folder.name for room, folder in ROOMS.items()}


def test_every_folder_of_sources_is_a_package() -> None:
    bare = {path.parent for _, path in PACKAGE_FILES if not (path.parent / "__init__.py").exists()}
    assert not bare, f"no __init__.py in {sorted(map(shown, bare))}"


def test_rooms_are_marked_as_typed() -> None:
    for folder in ROOMS.values():
        assert (folder / "py.typed").exists()


def test_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_import_is_light() -> None:
    """It loads no compiler and nothing that reading paths, showing errors, logging or drawing numbers needs."""
    program = (  # what finds an editable install loads some of it before
        "import sys, numpy; before = set(sys.modules); import graphc; graphc.f32, graphc.exp; "
        f"print(*sorted({HEAVY!r} & (set(sys.modules) - before)))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not loaded, f"import graphc loads {loaded}"


def test_no_machine_paths() -> None:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a git checkout")
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()]
    assert files
    named = {
        shown(file): pattern.decode() for file in files for pattern in MACHINE_PATHS if pattern in file.read_bytes()
    }
    assert not named
