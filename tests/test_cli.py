"""The command line: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

import graphc as gx
from graphc import cli
from graphc.backends.cache import TRAILER_SIZE, UNFINISHED_LIFETIME, UNFINISHED_PREFIX, Cache
from graphc.cli import doctor
from graphc.cli.commands import COMMANDS
from graphc.function import Function

MODEL = """
import numpy as np
import graphc as gx

w = gx.parameter("w", np.ones((4, 3), np.float32))
x = gx.input("x", gx.f32["batch", 4])
loss = ((x @ w) ** 2).mean()
step = gx.function([x], loss, updates={w: w - 0.1 * gx.grad(loss, w)}, name="step")

if __name__ == "__main__":
    raise SystemExit("only looking must not run the main part")
"""


SECOND = """
double = gx.function([x], x * 2, name="double")
again = step
print("what a file prints is not the answer")
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


@pytest.fixture
def several(tmp_path):
    path = tmp_path / "several.py"
    path.write_text(MODEL.split("if __name__")[0] + SECOND)
    return path


@pytest.fixture
def ask(capsys):
    """(exit status, stdout, stderr) of a command in this process."""

    def asked(*arguments):
        status = cli.main([*map(str, arguments)])
        return status, *capsys.readouterr()

    return asked


def in_a_process(*arguments, **variables):
    command = [sys.executable, "-m", "graphc", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})


# -- help and misuse


def test_help_has_a_line_for_every_command_and_its_exit_statuses(ask):
    status, out, _ = ask("--help")
    assert status == 0 and out.startswith("graphc: declare a model in Python")
    assert all(f"\n  {name} " in out and f"python -m graphc {name}" in out for name in COMMANDS)
    assert "exit status" in out and "NO_COLOR" in out
    assert max(map(len, out.splitlines())) <= 120
    assert ask()[0] == 2
    assert ask("--version") == (0, f"{gx.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_examples(capsys, name):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0 and f"usage: python -m graphc {name}" in out
    assert all(f"\n  python -m graphc {example}\n" in out for example in COMMANDS[name].examples)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["shwo"], ["there is no command 'shwo'", "did you mean show?", "python -m graphc --help tells more"]),
        (["--nothing"], ["there is no command '--nothing'"]),
        (["show"], ["the following arguments are required: FILE.py[:NAME]", "graphc show --help tells more"]),
        (["show", "{model}", "--levle", "graph"], ["unrecognized arguments: --levle graph"]),
        (
            ["show", "{model}", "--json", "--level", "source"],
            ["there is of the levels summary, certificate, graph, launches"],
        ),
        (["cache", "list"], ["there is no cache list", "did you mean ls?"]),
        (["cache", "clear", "--remove"], ["--remove is for cache verify"]),
        (["run", "--threads", "0", "{model}"], ["--threads is 0; it must be at least 1"]),
        (["run", "--debug", "all", "{model}"], ["invalid choice: 'all' (choose from", "nan"]),
    ],
)
def test_what_is_not_understood(model, ask, arguments, parts):
    status, out, told = ask(*(each.format(model=model) for each in arguments))
    assert status == 2 and not out and told.startswith("error: ") and len(told.splitlines()) <= 3
    assert all(part in told for part in parts)


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("nowhere.py:step", ["no file 'nowhere.py'"]),
        ("{folder}/modle.py:step", ["no file", "did you mean model.py?"]),
        ("{model}:stop", ["its steps are: step", "did you mean step?"]),
        ("step", ["FILE.py:NAME"]),
    ],
)
def test_wrong_reference(model, ask, reference, parts):
    status, out, told = ask("show", reference.format(model=model, folder=model.parent))
    assert status == 1 and not out and all(part in told for part in parts)


def test_unknown_level_names_the_levels(model, ask):
    status, _, told = ask("show", f"{model}:step", "--level", "nothing")
    assert status == 1
    assert all(f"'{level}'" in told for level in ("summary", "html", "ptx", "graph", "launches", "stabilise"))
    status, _, told = ask("show", model, "--level", "layer", "-o", model.with_suffix(".svg"))
    assert status == 1 and "it must be one of 'layers', 'graph', 'kernels'" in told and "did you mean layers?" in told


def test_errors_about_arguments_show_no_line(model):
    done = in_a_process("show", f"{model}:step", "--level", "sorce")
    assert done.returncode == 1 and done.stderr.startswith("error: level is 'sorce'; it must be one of 'summary', ")
    assert done.stderr.splitlines()[1:] == ["  did you mean source or trace?"]


def test_workloads_and_peers_are_checked(ask):
    assert "did you mean W1" in ask("bench", "W11")[2]
    assert "it must be SYSTEM=PATH" in ask("bench", "W1", "--python", "jax")[2]


# -- files that are looked at


def test_a_file_that_fails_shows_its_own_line_alone(tmp_path, ask):
    path = tmp_path / "wrong.py"
    path.write_text("import graphc as gx\nx = gx.input('x', gx.f32[3])\ny = x + gx.input('z', gx.f32[4])\n")
    status, _, told = ask("show", path)
    assert status == 1 and told.startswith("graphc.ShapeError: ") and "wrong.py:3:5" in told
    path.write_text("import numpy\nmodel = nump.zeros(3)\n")
    status, _, told = ask("show", path)
    assert status == 1 and "NameError" in told and "line 2" in told and "runpy" not in told and "cli" not in told
    path.write_text("model = 3 +\n")
    status, _, told = ask("show", path)
    assert status == 1 and told.splitlines()[-1] == "SyntaxError: invalid syntax" and "line 1" in told


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("raise SystemExit(3)", ["ends itself with status 3", "if __name__ == '__main__':"]),
        ("x = 1", ["defines no step"]),
    ],
)
def test_a_file_without_steps(tmp_path, ask, text, parts):
    path = tmp_path / "other.py"
    path.write_text(text)
    status, _, told = ask("show", path)
    assert status == 1 and all(part in told for part in parts)


def test_a_file_finds_its_neighbours_and_no_arguments(tmp_path, ask):
    (tmp_path / "beside_the_model.py").write_text("WIDTH = 5\n")
    path = tmp_path / "model.py"
    path.write_text(
        "import sys\nimport graphc as gx\nfrom beside_the_model import WIDTH\nassert sys.argv[1:] == []\n"
        "step = gx.function([x := gx.input('x', gx.f32[WIDTH])], x * 2)\n"
    )
    before = sys.argv, sys.path
    status, out, _ = ask("show", path)
    assert status == 0 and "f32[5]" in out and (sys.argv, sys.path) == before
    del sys.modules["beside_the_model"]


# -- show


@pytest.mark.parametrize(
    ("level", "part"),
    [
        ("summary", "model.py:"),
        ("certificate", "µs"),
        ("graph", "graph step("),
        ("stabilise", "gradient("),
        ("program", "program step"),
        ("kernels", "nest "),
        ("source", "def step("),
        ("launches", "operations"),
        ("dot", "digraph"),
        ("svg", "<svg"),
        ("html", "<!DOCTYPE html>"),
        ("llvm", "@step("),
        ("assembly", "step:"),
    ],
)
def test_show(model, ask, level, part):
    status, out, _ = ask("show", f"{model}:step", "--level", level)
    assert status == 0 and part in out


def test_show_without_a_name(model, several, ask):
    assert ask("show", model) == ask("show", f"{model}:step")
    status, out, told = ask("show", several)
    assert status == 0 and "what a file prints" in told
    assert out.splitlines() == [f"{several}:step(x: f32[batch,4])", f"{several}:double(x: f32[batch,4])"]
    listed = json.loads(ask("show", several, "--json")[1])["steps"]
    assert listed[1] == {"name": "double", "inputs": {"x": "f32[batch,4]"}}
    status, _, told = ask("show", several, "--level", "graph")
    assert status == 2 and "has several steps: step, double; name one" in told


@pytest.mark.parametrize("level", ["layers", "graph", "kernels"])
def test_show_draws_into_files(model, ask, level, tmp_path):
    place = tmp_path / "step.svg"
    assert ask("show", model, "--level", level, "-o", place) == (0, "", "")
    titles = "".join(ElementTree.parse(place).getroot().itertext())
    facts = {"layers": "1 state, 128 B · 14", "graph": "14 operations · state", "kernels": "2 kernels · state"}
    assert [name for name, text in facts.items() if text in titles] == [level]
    assert ask("show", model, "--level", level, "-o", tmp_path / "step.dot")[0] == 0
    assert ("nest 0" in (tmp_path / "step.dot").read_text()) == (level == "kernels")


def test_show_writes_pages_and_texts(model, ask, tmp_path):
    ask("show", model, "-o", tmp_path / "step.html")
    assert (tmp_path / "step.html").read_text().startswith("<!DOCTYPE html>")
    assert ask("show", model, "--level", "source", "-o", tmp_path / "step.py") == (0, "", "")
    assert "def step(" in (tmp_path / "step.py").read_text()
    ask("show", model, "-o", tmp_path / "step.svg")
    assert "▪ w" in (tmp_path / "step.svg").read_text(), "layers if no level is said"


def test_show_as_json(model, ask):
    summary = json.loads(ask("show", model, "--json")[1])
    assert summary["inputs"] == [{"name": "x", "dtype": "f32", "shape": ["batch", 4]}]
    assert summary["dims"] == {"batch": 1024} and summary["state_bytes"] == 128
    assert summary["kernels"] and summary["kernels"][0]["lines"][0].startswith("model.py:")
    graph = json.loads(ask("show", model, "--json", "--level", "graph")[1])
    values = {value["name"]: value for value in graph["values"]}
    assert all(operand in values for value in values.values() for operand in value["operands"])
    product = next(value for value in values.values() if value["op"] == "dot")
    assert product["shape"] == ["batch", 3] and product["line"] == "model.py:7"
    assert {(each["kind"], each["name"]) for each in graph["outputs"]} >= {("update", "w")}
    certificate = json.loads(ask("show", model, "--json", "--level", "certificate")[1])
    assert certificate["dims"] == summary["dims"] and certificate["state_bytes"] == summary["state_bytes"]
    assert len(certificate["kernels"]) == len(summary["kernels"])
    launches = json.loads(ask("show", model, "--json", "--level", "launches")[1])
    assert [launch["launch"] for launch in launches] == [str(number + 1) for number in range(len(launches))]
    assert all(launch["threads"] % 32 == 0 for launch in launches)
    assert sum(launch["operations"] for launch in launches) > 2 * 1024 * 4 * 3


def test_json_of_a_loop_has_its_body(tmp_path, ask):
    path = tmp_path / "loop.py"
    path.write_text(
        "import graphc as gx\nx = gx.input('x', gx.f32[6, 3])\n"
        "last, _ = gx.scan(lambda h, row: (gx.tanh(h + row), h), gx.zeros(3), x)\nstep = gx.function([x], last)\n"
    )
    graph = json.loads(ask("show", path, "--json", "--level", "graph")[1])
    bodies = [value["attributes"]["body"] for value in graph["values"] if "body" in value["attributes"]]
    assert bodies and any(value["op"] == "tanh" for value in bodies[0]["values"])


# -- compile, export


def test_compile_says_what_came_out(model, several, ask):
    status, out, _ = ask("compile", f"{model}:step")
    assert status == 0 and "kernels in" in out
    told = json.loads(ask("compile", several, "--json")[1])
    assert [each["name"] for each in told] == ["step", "double"]
    assert told[0]["kernels"] >= 1 and told[0]["state_bytes"] == 128 and told[0]["seconds"]
    assert json.loads(ask("compile", several, "--json")[1])[0]["from_cache"]


def test_export_writes_a_library(model, ask, tmp_path):
    folder = tmp_path / "taken"
    status, out, _ = ask("export", f"{model}:step", "-o", folder, "--json")
    told = json.loads(out)
    assert status == 0 and told["library"] == "taken" and told["functions"] == ["step"]
    assert {Path(file["path"]).name: file["bytes"] for file in told["files"]}["taken.h"] > 1000
    assert "int32_t taken_step(void *state" in (folder / "taken.h").read_text()
    status, _, told = ask("export", model, "-o", folder, "--target", "abacus")
    assert status == 1 and "'abacus' is not a target" in told
    status, _, told = ask("export", f"{model}:step", "other.py:step", "-o", folder)
    assert status == 1 and "no file 'other.py'" in told
    status, _, told = ask("export", f"{model}:step", f"{__file__}:step", "-o", folder)
    assert status == 1 and "all steps must come from one file" in told


# -- run


PROGRAM = (
    MODEL.split("if __name__")[0]
    + """
import sys

if __name__ == "__main__":
    print("arguments", sys.argv[1:], sys.modules["__main__"].step is step, step(np.ones((2, 4), np.float32)))
    w.assign(np.full((4, 3), float(sys.argv[1]), np.float32))
    step(np.ones((2, 4), np.float32))
    raise SystemExit(int(sys.argv[2]))
"""
)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_run_runs_a_program_and_tells_of_its_steps(program, ask):
    status, out, told = ask("run", program, "1", "0")
    assert status == 0 and out.startswith("arguments ['1', '0'] True 16.0")
    assert told.splitlines()[0].startswith("graphc: 1 step, ")
    assert "step  " in told and "kernels" in told and "program.py:8" in told
    status, _, told = ask("run", program, "1", "7")
    assert status == 7 and "1 of them from the cache" in told and "  loaded  " in told
    assert Function.compile.__name__ == "compile", "nothing is left of the look at what is compiled"


def test_run_without_a_cache(program, ask, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", os.environ.get("GRAPHC_CACHE_DIR", ""))
    monkeypatch.setenv("GRAPHC_THREADS", "")
    status, _, told = ask("run", "--no-cache", "--threads", "1", program, "1", "0")
    assert status == 0 and "0 of them from the cache" in told and "compiled" in told
    assert os.environ["GRAPHC_CACHE_DIR"] == "off" and os.environ["GRAPHC_THREADS"] == "1"


def test_run_with_a_look_at_numbers(program, ask):
    status, _, told = ask("run", "--debug", "nan", "--debug", "reference", program, "1e30", "0")
    assert status == 1 and "graphc.NumericsError: " in told and "program.py:7" in told
    assert "graphc: 1 step" in told


def test_run_shows_errors_from_the_programs_own_frame_on(tmp_path):
    path = tmp_path / "fails.py"
    path.write_text("def inner():\n    return 1 / 0\ninner()\n")
    done = in_a_process("run", path)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr
    assert "fails.py" in done.stderr and "runpy" not in done.stderr and "cli" not in done.stderr
    assert done.stderr.splitlines()[-1] == "graphc: no steps"
    path.write_text("import sys\nsys.exit('not today')\n")
    done = in_a_process("run", path)
    assert done.returncode == 1 and done.stderr.startswith("not today\n")


# -- cache


@pytest.fixture
def store(model, ask, tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    ask("compile", f"{model}:step")
    return Cache(tmp_path / "cache")


def test_cache_lists_and_clears(store, ask):
    status, out, _ = ask("cache")
    assert status == 0 and "artifact" in out and store.folder in out and ask("cache", "ls")[1] == out
    told = json.loads(ask("cache", "ls", "--json")[1])
    assert told["folder"] == store.folder and told["bytes"] == store.size() == sum(e["bytes"] for e in told["entries"])
    status, out, _ = ask("cache", "clear")
    assert status == 0 and f"removed {told['bytes']:,} bytes" in out
    assert "artifact" not in ask("cache")[1]


def test_cache_verify_finds_what_is_damaged(store, ask):
    status, out, _ = ask("cache", "verify")
    assert status == 0 and f"{len(store.entries())} entries read, all are sound" in out
    changed, cut, *_ = (Path(entry.path) for entry in store.entries())
    content = changed.read_bytes()
    changed.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    cut.write_bytes(cut.read_bytes()[: -TRAILER_SIZE // 2])
    unfinished = Path(store.folder, f"{UNFINISHED_PREFIX}old")
    unfinished.write_bytes(b"half")
    os.utime(unfinished, (1e9, 1e9))
    Path(store.folder, f"{UNFINISHED_PREFIX}new").write_bytes(b"half")  # somebody may be about to write it
    status, out, _ = ask("cache", "verify")
    assert status == 1 and "3 damaged" in out and "verify --remove" in out and changed.exists()
    told = json.loads(ask("cache", "verify", "--json")[1])
    reasons = {each["path"]: each["why"] for each in told["faults"]}
    assert set(reasons) == {str(changed), str(cut), str(unfinished)}
    assert "hash" in reasons[str(changed)] and "not written to its end" in reasons[str(cut)]
    assert "did not come to an end" in reasons[str(unfinished)] and UNFINISHED_LIFETIME > 600
    status, out, _ = ask("cache", "verify", "--remove")
    assert status == 0 and "3 damaged, removed" in out
    assert not any(path.exists() for path in (changed, cut, unfinished))
    assert ask("cache", "verify")[0] == 0


# -- doctor


def test_doctor_compiles_from_nothing(ask):
    status, out, _ = ask("doctor")
    assert status == 0 and "from nothing in" in out and "numba 0.68" in out and "register tile" in out
    assert "all is well" in out and "wasm32" in out


def test_doctor_as_json(ask):
    status, out, _ = ask("doctor", "--json")
    found = json.loads(out)
    assert status == 0 and found["wrong"] == [] and found["compile"]["difference"] < 1e-4
    assert found["threads"]["most"] >= 1 and not any(found["targets"].values())
    assert found["gpu"].get("reason") or found["gpu"]["architecture"].startswith("sm_")


def test_doctor_tells_what_is_wrong(ask, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "compile_from_nothing", lambda: {"error": "OSError: no space"})
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(shared))
    status, out, _ = ask("doctor")
    assert status == 1 and "wrong  compile: OSError: no space" in out and "wrong  cache: no folder" in out
    assert "all is well" not in out


def test_doctor_knows_the_extras():
    """Those of pyproject.toml that anything here makes use of."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    named = {f"graphc[{extra}]" for extra in project["project"]["optional-dependencies"]}
    told = {where for where, _ in doctor.EXTRAS.values() if where.startswith("graphc[")}
    assert told <= named and named - told == {f"graphc[{extra}]" for extra in ("mpi", "onnx", "test", "docs", "dev")}


# -- colours


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_colours_are_for_terminals_that_want_them(monkeypatch, ask):
    assert "\x1b" not in "".join(ask("shwo")[1:])
    monkeypatch.delenv("NO_COLOR", raising=False)
    for setting, marked in ((None, True), ("1", False)):
        if setting:
            monkeypatch.setenv("NO_COLOR", setting)
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        assert cli.main(["shwo"]) == 2 and terminal.text.startswith("\x1b[1;31merror:" if marked else "error:")


def test_whoever_reads_may_stop(model):
    command = f"{sys.executable} -m graphc show {model} --level llvm | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""
