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

from graphc.backends.target import BuildError
from graphc.ir.frozen import dataclass
from graphc.ir.types import round_up

# A multiprocessor has four parts, each with registers for its warps. A warp takes them by units, and so does a block
# shared memory, of which it takes some beside what it asks for. Numbers are those of the "Technical Specifications per
# Compute Capability" of https://docs.nvidia.com/cuda/cuda-c-programming-guide, and of NVIDIA's occupancy calculator.
WARP, PARTS, PART_REGISTERS, WARP_UNIT, SHARED_UNIT, SHARED_OWN = 32, 4, 16384, 256, 128, 1 << 10
LIMITS = {  # of a multiprocessor: threads, blocks, bytes of shared memory
    "sm_80": (2048, 32, 164 << 10),
    "sm_86": (1536, 16, 100 << 10),
    "sm_87": (1536, 16, 164 << 10),
    "sm_89": (1536, 24, 100 << 10),
    "sm_90": (2048, 32, 228 << 10),
}
INFO = re.compile(
    r"Function properties for (\w+)\n\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*\n.*Used (\d+) registers"
)
WHEELS = ("nvidia/cuda_nvcc/bin", "nvidia/cu13/bin", "triton/backends/nvidia/bin")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one kernel takes.

    registers      of a thread
    local_bytes    of a thread, in memory: what did not fit in registers, and arrays
    spilled_bytes  stored and loaded for want of registers, as the assembler counts them
    """

    registers: int
    local_bytes: int
    spilled_bytes: int = 0

    def occupancy(self, threads: int, shared_bytes: int, architecture: str) -> float:
        """The share of a multiprocessor's threads that blocks of so many can be, 0 to 1."""
        all_threads, all_blocks, all_shared = LIMITS[architecture]
        warps = -(-threads // WARP)
        held = PARTS * (PART_REGISTERS // round_up(max(self.registers, 1) * WARP, WARP_UNIT))  # warps at once
        shared = all_shared // round_up(shared_bytes + SHARED_OWN, SHARED_UNIT)
        blocks = min(all_blocks, all_threads // (warps * WARP), held // warps, shared)
        return blocks * warps * WARP / all_threads


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
    try:
        return assemble(ptx, architecture)
    except BuildError:
        return {}


def assemble(ptx: str, architecture: str) -> dict[str, Resources]:
    """The same. Raises BuildError where the assembler refuses the text."""
    program = assembler()
    if program is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernels.ptx")
        file.write_text(ptx, encoding="utf-8")
        command: list[str | Path] = [program, "-v", f"-arch={architecture}", "-o", Path(folder, "kernels.cubin"), file]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        raise BuildError(f"ptxas refuses the kernels for {architecture}: {told.stderr.strip()}")
    found = ((name, *map(int, numbers)) for name, *numbers in INFO.findall(told.stderr))
    return {name: Resources(used, stack, stored + loaded) for name, stack, stored, loaded, used in found}
