"""The Python of a page of the documentation as one program: which blocks there are, and what each of them prints."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from lesser_machine import compile_for

import graphc
from graphc.backends.target import host_tile

PROCESSORS = {"avx512": (14, 2)}  # by the tiles of products that they have registers for
FENCE = re.compile(r"^```(\w*) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w.]+)\n")


@dataclass(frozen=True)
class Block:
    """Text between fences, and where in the page stands what it prints.

    like  "avx512" where that depends on the kind of processor, "measured" where no two runs print the same
    """

    language: str
    text: str
    printed: tuple[int, int] | None
    like: str = ""

    @property
    def file(self) -> str | None:
        """Its name, where it is a file of its own, which a comment in its first line says."""
        found = FILE.match(self.text)
        return found[1] if found and self.language == "python" else None


def blocks(page: str) -> list[Block]:
    """What is run of a page. What Python prints may follow as `text`; commands have their output in the same block."""
    found = list(FENCE.finditer(page))
    made = []
    for fence, below in zip(found, [*found, None][1:], strict=True):
        if fence[1] == "console":
            made.append(Block("console", fence[3], fence.span(3)))
        if fence[1] == "python":
            attached = below is not None and below[1] == "text" and not page[fence.end() : below.start()].strip()
            made.append(Block("python", fence[3], *((below.span(3), below[2]) if attached else (None,))))
    return made


def output(command: list[str]) -> str:
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return run.stdout


def typed(session: str) -> str:
    """A console block as it comes out. Commands begin with `$ `; those of Python are run, others are left alone."""
    shown = []
    for part in re.split(r"^(?=\$ )", session, flags=re.MULTILINE):
        command = shlex.split(part.split("\n", 1)[0])[1:]
        run = command[:1] == ["python"] and command[1:3] != ["-m", "pip"]
        shown.append(part.split("\n", 1)[0] + "\n" + output([sys.executable, *command[1:]]) if run else part)
    return "".join(shown)


def run(path: Path) -> list[str]:
    """What each block of a page prints, an error included; the blocks share names, and are lines of one file."""
    found = blocks(path.read_text(encoding="utf-8"))
    program = Path(f"{path.stem}.py").absolute()
    program.write_text("\n".join(block.text for block in found if is_part(block)), encoding="utf-8")
    space: dict[str, object] = {"__name__": "__main__", "__file__": str(program)}
    line, printed = 0, []
    for block in found:
        if is_part(block):
            code = compile("\n" * line + block.text, str(program), "exec")
            line += block.text.count("\n") + 1
            printed.append(executed(code, space, may_fail=block.printed is not None))
        elif block.file is not None:
            Path(block.file).write_text(block.text, encoding="utf-8")
            printed.append(output([sys.executable, block.file]))
        else:
            printed.append(typed(block.text))
    return printed


def is_part(block: Block) -> bool:
    """Of the program that a page is."""
    return block.language == "python" and block.file is None


def executed(code: CodeType, space: dict[str, object], may_fail: bool) -> str:
    """What it prints; an error of graphc's is what some blocks are there to show."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            exec(code, space)
        except graphc.GraphcError as error:
            if not may_fail:
                raise
            print(f"graphc.{type(error).__name__}: {error}")
    return out.getvalue()


def outputs(path: Path, folder: Path) -> list[str]:
    """The same by a process of its own that works in a folder, where `pictures` is one for what is drawn."""
    (folder / "pictures").mkdir()
    root = str(Path(graphc.__file__).parents[1])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    setting = {**os.environ, "PYTHONPATH": paths, "NO_COLOR": "1"}
    command = [sys.executable, __file__, str(path)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=setting)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


if __name__ == "__main__":
    if host_tile() == PROCESSORS["avx512"]:
        compile_for("x86-64-v4")  # texts of LLVM and of machine code differ from one make of processors to another
    sys.path.insert(0, os.getcwd())
    sys.stdout.write(json.dumps(run(Path(sys.argv[1]))))
