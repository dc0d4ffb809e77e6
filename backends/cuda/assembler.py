"""NVIDIA's assembler, where it is installed: what kernels take of a GPU, and how full they fill it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from graphc.ir.frozen import dataclass

# Of a multiprocessor: threads, blocks, registers. A thread's registers are a multiple of a unit, and a block takes some
# shared memory beside what it asks for (https://docs.nvidia.com/cuda/cuda-c-programming-guide, compute capabilities).
THREADS, BLOCKS, REGISTERS = 2048, 32, 65536
WARP, REGISTER_UNIT, SHARED_OWN = 32, 8, 1 << 10
SHARED_BYTES = {"sm_80": 164 << 10}  # and as much as this on later ones:
SHARED_BYTES_NOW = 228 << 10
INFO = re.compile(
    r"Function properties for (\w+)\n\s*(\d+) bytes stack frame, (\d+) bytes spill stores.*\n.*Used (\d+) registers"
)
WHEELS = ("nvidia/cuda_nvcc/bin", "nvidia/cu13/bin", "triton/backends/nvidia/bin")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one kernel takes.

    registers    of a thread
    local_bytes  of a thread, in memory: what did not fit in registers, and arrays
    """

    registers: int
    local_bytes: int

    def occupancy(self, threads: int, shared_bytes: int, architecture: str) -> float:
        """The share of a multiprocessor's threads that blocks of so many can be, 0 to 1."""
        warps = -(-threads // WARP)
        each = -(-max(self.registers, 1) // REGISTER_UNIT) * REGISTER_UNIT * WARP
        shared = SHARED_BYTES.get(architecture, SHARED_BYTES_NOW) // (shared_bytes + SHARED_OWN)
        blocks = min(BLOCKS, THREADS // (warps * WARP), REGISTERS // each // warps, shared)
        return blocks * warps * WARP / THREADS


def places() -> Iterator[Path]:
    """Where the assembler may be: on the path, in a toolkit, in a wheel of NVIDIA's or the one that PyTorch brings."""
    found = shutil.which("ptxas")
    if found:
        yield Path(found)
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if variable in os.environ:
            yield Path(os.environ[variable], "bin", "ptxas")
    for folder in sys.path:
        yield from (Path(folder, wheel, "ptxas") for wheel in WHEELS)


def assembler() -> Path | None:
    return next((place for place in places() if place.is_file() and os.access(place, os.X_OK)), None)


@cache
def assembled(ptx: str, architecture: str) -> dict[str, Resources]:
    """What every kernel of a PTX takes; nothing where there is no assembler, or it refuses the text."""
    program = assembler()
    if program is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernels.ptx")
        file.write_text(ptx, encoding="utf-8")
        command: list[str | Path] = [program, "-v", f"-arch={architecture}", "-o", Path(folder, "kernels.cubin"), file]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    found = INFO.findall(told.stderr) if not told.returncode else []
    return {name: Resources(int(registers), int(stack)) for name, stack, _, registers in found}
