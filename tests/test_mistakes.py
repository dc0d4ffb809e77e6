"""Every mistake of `mistakes.py` gives an error of at most eight lines that names the user's line and the values: in a
script, in a function, in a module of another file, in the cells of a notebook, and in a session of IPython if there is
one."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import linecache
import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mistakes import MISTAKES, START, Mistake

import graphc as gx
from graphc.errors import GraphcError, show_in_shell
from graphc.report import report


def run_file(path: Path, source: str, **names: object) -> None:
    """As a script that somebody starts."""
    path.write_text(source, encoding="utf-8")
    exec(compile(source, str(path), "exec", dont_inherit=True), {"__name__": "__main__", **names})


def in_script(mistake: Mistake, folder: Path) -> None:
    run_file(folder / "script.py", START + mistake.program)


def in_function(mistake: Mistake, folder: Path) -> None:
    run_file(folder / "function.py", f"{function(mistake)}\nmain()\n")


def function(mistake: Mistake) -> str:
    return f"def main():\n{textwrap.indent(START + mistake.program, '    ')}"


def in_module(mistake: Mistake, folder: Path) -> None:
    """A function of a module that a script imports; the error is on the module's line."""
    path = folder / "function.py"
    path.write_text(function(mistake), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"part_{abs(hash(mistake.title))}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run_file(folder / "other.py", "module.main()\n", module=module)


def in_notebook(mistake: Mistake, folder: Path) -> None:
    """Two cells, compiled and known to `linecache` as IPython's kernel does it: under names of files that are not
    there, in a folder called after the kernel's process."""
    space: dict[str, object] = {"__name__": "__main__"}
    for number, source in enumerate((START, mistake.program)):
        file = os.path.join(folder, f"ipykernel_{os.getpid()}", f"{number}.py")
        linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
        exec(compile(source, file, "exec", dont_inherit=True), space)


def in_ipython(mistake: Mistake, folder: Path) -> None:
    """Two cells of a session of IPython, which must have shown what its error is."""
    interactive = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell
    session = interactive.instance()
    if not session.custom_exceptions:  # which graphc does when it is imported inside of a session
        session.set_custom_exc((TypeError, AttributeError, ImportError), show_in_shell)
    session.reset()
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        assert session.run_cell(START, store_history=True).success
        error = session.run_cell(mistake.program, store_history=True).error_in_exec
    assert "\n".join(told(error)) in re.sub(r"\x1b\[[\d;]*m", "", shown.getvalue())
    raise error


WAYS: dict[str, Callable[[Mistake, Path], object]] = {
    "script": in_script,
    "function": in_function,
    "module": in_module,
    "notebook": in_notebook,
    "ipython": in_ipython,
}
# What a place is called in each way, and how many lines stand before the program there.
PLACES = {
    "script": ("script.py", START.count("\n")),
    "function": ("function.py", START.count("\n") + 1),
    "module": ("function.py", START.count("\n") + 1),
    "notebook": ("<cell>", 0),
    "ipython": ("Cell In[2]", 0),
}


def told(error: Exception) -> list[str]:
    """The error as a user sees it, without the frames above it."""
    lines = report(error).splitlines()
    kinds = (f"graphc.{type(error).__name__}: ", f"{type(error).__name__}: ")
    start = next(number for number, line in enumerate(lines) if line.startswith(kinds))
    return lines[start:]


def test_there_are_sixty_of_all_kinds():
    assert len(MISTAKES) >= 60
    assert len({mistake.title for mistake in MISTAKES}) == len(MISTAKES)
    kinds = {mistake.title.partition(":")[0] for mistake in MISTAKES}
    assert kinds >= {"shapes", "dtypes", "names", "ranges", "control flow", "NaN forward", "NaN backward"}
    assert kinds >= {"steps", "data", "checkpoints"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_mistake(mistake: Mistake, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRAPHC_TRACEBACK", raising=False)
    with pytest.raises(Exception) as caught:
        WAYS[way](mistake, tmp_path)
    lines = told(caught.value)
    text = "\n".join(lines)
    assert len(lines) <= 8, text
    file, before = PLACES[way]
    (here,) = (n for n, line in enumerate(mistake.program.splitlines(), 1) if line.endswith("# here"))
    assert f"  {file}:{here + before}" in text, text
    assert any(line.lstrip().startswith("^") for line in lines), text
    for word in mistake.words:
        assert any(each in text for each in word.split("|")), f"{word!r} is not in\n{text}"
    inside = f'File "{os.path.dirname(gx.__file__)}'
    assert inside not in report(caught.value), report(caught.value)
    if way == "notebook" and isinstance(caught.value, GraphcError):
        assert caught.value._render_traceback_()[-len(lines) :] == lines


def test_the_other_order_is_told_of_only_where_it_would_help() -> None:
    batch, rows = gx.dim("batch", max=4), np.ones((5, 3), np.float32)
    x, y = gx.input("x", gx.f32[batch, 3]), gx.input("y", gx.f32[batch, 3])
    distance = gx.function([x, y], (x - y).abs().sum())
    for arrays in ((rows, rows), (rows[:4].astype(np.float64), rows[:4]), (rows[:3], rows[:4])):
        with pytest.raises(gx.GraphcError) as caught:
            distance(*arrays)
        assert "other order" not in str(caught.value)
