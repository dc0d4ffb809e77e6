"""What users see of an error: first line, their line underlined, at most eight lines, no frames of the package."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graphc.data import DataLoader, Subset, TensorDataset
from graphc.errors import GraphcError, InternalError, ShapeError, describe
from graphc.ir.graph import Origin
from graphc.report import report

PROGRAM = """\
import numpy as np
from graphc.data import TensorDataset

def pair(features, labels):
    return TensorDataset(features, labels), "é"

def main():
    "é"; pair(np.zeros((3, 2)), np.zeros(4))

main()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "mlp.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


def run(program: Path, **environment: str) -> list[str]:
    """What the program writes to its error stream."""
    settings = {name: text for name, text in os.environ.items() if name != "GRAPHC_TRACEBACK"} | environment
    search = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    finished = subprocess.run(
        [sys.executable, program.name],
        cwd=program.parent,
        env=settings | {"PYTHONPATH": search},
        capture_output=True,
        encoding="utf-8",
    )
    assert finished.returncode == 1
    return finished.stderr.splitlines()


def here(*_: object) -> Origin:
    """The expression that calls it."""
    frame = sys._getframe(1)
    return Origin(frame.f_code, frame.f_lasti)


def test_uncaught_error_shows_the_users_frames_only(program: Path) -> None:
    assert run(program) == [
        "Traceback (most recent call last):",
        '  File "mlp.py", line 10, in <module>',
        "    main()",
        '  File "mlp.py", line 8, in main',
        '    "é"; pair(np.zeros((3, 2)), np.zeros(4))',
        "         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        "graphc.ShapeError: TensorDataset got 3 samples in array 0 and 4 in array 1",
        '  mlp.py:5:12   return TensorDataset(features, labels), "é"',
        "                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        "  their shapes: (3, 2) and (4,); the first axis counts samples",
    ]


def test_full_traceback_on_request(program: Path) -> None:
    text = "\n".join(run(program, GRAPHC_TRACEBACK="full"))
    assert "in __init__" in text
    assert "in _check" in text


def test_frames_at_the_errors_own_line_are_not_said_twice(tmp_path: Path) -> None:
    program = tmp_path / "one.py"
    program.write_text("from graphc.data import TensorDataset\nTensorDataset()\n")
    assert run(program) == [
        "graphc.DatasetError: TensorDataset() got no arrays; it needs at least one",
        "  one.py:2:1   TensorDataset()",
        "               ^^^^^^^^^^^^^^^",
    ]


def test_other_errors_are_shown_as_python_shows_them(tmp_path: Path) -> None:
    program = tmp_path / "other.py"
    program.write_text("import graphc.errors\n1 / 0\n")
    assert run(program)[-1] == "ZeroDivisionError: division by zero"


def test_errors_of_the_users_own_code_show_no_frames_in_between(tmp_path: Path) -> None:
    program = tmp_path / "between.py"
    program.write_text(
        "import graphc as gx\n"
        "class Net(gx.nn.Module):\n    def forward(self, x):\n        return x.wrong\n\n"
        "gx.predict_step(Net(), x=gx.f32[3])\n"
    )
    lines = run(program)
    assert [line.split(", ")[1] for line in lines if line.startswith("  File")] == ["line 6"]
    first, place, underline, *_ = lines[3:]
    assert first == "AttributeError: 'Tensor' object has no attribute 'wrong'"
    assert place == "  between.py:4:16   return x.wrong"
    assert underline.strip() == "^^^^^^^"


def test_errors_of_python_inside_the_package_name_the_call() -> None:
    inside: dict[str, Any] = {"__name__": "graphc.inside"}
    exec("def add(first, second=2):\n    return sum(first, second)\n\ndef sum(a, b):\n    return a + b\n", inside)
    with pytest.raises(TypeError) as caught:
        inside["add"]("text")
    place, code, *lines = report(caught.value).splitlines()[1:]
    assert place.endswith("in test_errors_of_python_inside_the_package_name_the_call")
    assert (code.strip(), lines) == ('inside["add"]("text")', [
        'TypeError: can only concatenate str (not "int") to str',
        "  in add(first='text', second=2)",
        "  GRAPHC_TRACEBACK=full shows where in graphc it came up",
    ])  # fmt: skip


def test_own_excepthook_stays(tmp_path: Path) -> None:
    program = tmp_path / "own.py"
    program.write_text(
        "import sys\nsys.excepthook = lambda *_: print('mine', file=sys.stderr)\n"
        "import graphc.errors\nraise graphc.errors.ShapeError('x')\n"
    )
    assert run(program) == ["mine"]


def test_notebooks_get_the_same_text() -> None:
    with pytest.raises(ShapeError) as caught:
        TensorDataset([1, 2], [1])
    lines = caught.value._render_traceback_()
    assert lines == report(caught.value).splitlines()
    assert lines[0].startswith("graphc.ShapeError: TensorDataset got 2 samples")


def test_colour_marks_the_title_and_the_underline() -> None:
    error = ShapeError("2 and 3", here("x"))
    plain, coloured = report(error).splitlines(), report(error, colour=True).splitlines()
    marked = [number for number, line in enumerate(coloured) if "\x1b[" in line]
    assert marked == [0, 2]
    assert [line.replace("\x1b[1;31m", "").replace("\x1b[0m", "") for line in coloured] == plain


def test_note_stands_behind_the_underline() -> None:
    error = ShapeError("fc2 got 256 features", here("x"), ["declared in    mlp.py:7"], note="h: f32[batch, 256]")
    first, source, underline, declared = str(error).splitlines()
    assert first == "fc2 got 256 features"
    assert underline.strip() == "^^^^^^^^^   h: f32[batch, 256]"
    assert source[underline.index("^") :].startswith('here("x")')
    assert declared == "  declared in    mlp.py:7"


def test_expression_over_several_lines_is_underlined_to_the_end_of_its_first() -> None:
    origin = here(
        "x",
    )
    source, underline = describe(origin)
    assert source.endswith("origin = here(")
    assert underline.strip() == "^^^^^"
    assert len(underline) == len(source)


def test_source_that_is_gone_leaves_the_place() -> None:
    code = compile("here()", "gone.py", "eval")
    assert describe(eval(code), note="h") == ["  gone.py:1   h"]


def test_at_most_eight_lines() -> None:
    details = [f"detail {number}" for number in range(20)]
    assert len(str(GraphcError("one", here(), details)).splitlines()) == 8
    internal = str(InternalError("one", here(), details)).splitlines()
    assert len(internal) == 8
    assert "please report it" in internal[-2]
    assert str(GraphcError("")) == ""


def test_error_survives_leaving_the_process() -> None:
    error = ShapeError("2 and 3", here(), ["mend it"], note="x")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is ShapeError
    assert str(copy) == str(error)


@pytest.mark.parametrize(
    "fault",
    [
        lambda: TensorDataset([1, 2], [1]),
        lambda: DataLoader([1, 2], batch_size=0),
        lambda: DataLoader([1, 2], seed=-1),
        lambda: Subset([1, 2], [2]),
    ],
)
def test_origin_is_the_callers_line(fault: object) -> None:
    with pytest.raises(GraphcError) as caught:
        fault()  # type: ignore[operator]
    assert caught.value.origin is not None
    assert caught.value.origin.file == __file__
    assert "test_errors.py:" in str(caught.value)
