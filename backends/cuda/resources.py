"""What kernels ask of a multiprocessor, as NVIDIA's assembler tells it where there is one. Nothing is made with it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from graphc.backends.target import BuildError
from graphc.ir.frozen import dataclass

_KERNEL = re.compile(r"Compiling entry function '(\w+)' for.*?(?=Compiling entry function|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Resources:
    """Of one kernel: registers of a thread; bytes it spills to memory, and of the rest of its own memory there."""

    registers: int
    spilled: int
    local: int


def resources(text: str, architecture: str) -> dict[str, Resources] | None:
    """What every kernel of a PTX text takes, by name; None without ptxas on the path.

    Raises BuildError where the assembler refuses the text.
    """
    assembler = shutil.which("ptxas")
    if assembler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernels.ptx"
        file.write_text(text)
        command = [assembler, "-v", f"-arch={architecture}", "-o", str(file.with_suffix(".cubin")), str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"ptxas refuses the kernels for {architecture}: {done.stderr}")
    return {found[1]: told(found[0]) for found in _KERNEL.finditer(done.stderr)}


def told(text: str) -> Resources:
    """From what the assembler says of one kernel."""

    def number(pattern: str) -> int:
        found = re.search(pattern, text)
        return int(found[1]) if found else 0

    spilled = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
    return Resources(number(r"Used (\d+) registers"), spilled, number(r"(\d+) bytes stack frame"))
