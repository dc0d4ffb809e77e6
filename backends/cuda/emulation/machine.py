"""A whole program of the GPU on the CPU: its own kernels, compiled block by block, on memory laid out the same way."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence

import numpy as np

from graphc.backends.cuda.device import Call, ClearCall, CopyCall, Layout, MultiplyCall, Place, calls
from graphc.backends.cuda.emulation.phases import lower_block
from graphc.backends.cuda.entries import declarations, for_host
from graphc.backends.cuda.plan import Drawing
from graphc.backends.cuda.threads import Piece
from graphc.backends.entry.pieces import llvm_type
from graphc.backends.loading import load_object
from graphc.backends.lower import lower
from graphc.backends.target import build, host
from graphc.ir.types import DTYPES, Dim, evaluate

POISON = 0xFF  # every byte of what nobody has written: NaN as a float, -1 as an integer
SHARED_BYTES = 228 * 1024  # of a multiprocessor of today's largest devices
ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class Emulator:
    """Memory of a device and the code of a program. Everything is poisoned until it is written.

    state, scalars, results, work  bytes of the blocks
    """

    def __init__(self, drawing: Drawing) -> None:
        self.program = drawing.program
        self.code, self.functions = compiled(drawing)
        self.state = poisoned(self.program.state.size)
        self.scalars = poisoned(self.program.scalars.size)
        self.results = poisoned(self.program.results.size)
        self.work = poisoned(self.program.work_bytes)
        self.shared = poisoned(SHARED_BYTES)
        self.inputs: list[np.ndarray] = []

    def put(self, block: str, values: Mapping[str, np.ndarray]) -> None:
        """Numbers into "state" or "scalars", by name."""
        layout: Layout = getattr(self.program, block)
        for slot in layout.slots:
            if slot.name in values:
                given = np.ascontiguousarray(values[slot.name], DTYPES[slot.type.dtype]).reshape(-1).view(np.uint8)
                getattr(self, block)[slot.offset : slot.offset + given.size] = given

    def get(self, block: str, sizes: Mapping[Dim, int]) -> dict[str, np.ndarray]:
        """The arrays in "state" or "results", by name."""
        found = {}
        for slot in getattr(self.program, block).slots:
            shape = [evaluate(extent, sizes) for extent in slot.type.shape]
            dtype = DTYPES[slot.type.dtype]
            size = int(np.prod(shape)) * dtype.itemsize
            found[slot.name] = getattr(self, block)[slot.offset : slot.offset + size].view(dtype).reshape(shape).copy()
        return found

    def run(self, inputs: Sequence[np.ndarray], sizes: Mapping[Dim, int]) -> int:
        """One call; the number of the check that failed, or 0."""
        self.inputs = [np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in inputs]
        self.work[:] = POISON
        self.results[:] = POISON
        for call in calls(self.program, sizes):
            self.do(call)
        if not self.program.checks:
            return 0
        place = self.program.status
        return int(self.work[place.offset : place.offset + 8].view(np.int64)[0])

    def do(self, call: Call) -> None:
        if isinstance(call, ClearCall):
            self.bytes_at(call.target, call.size)[:] = 0
        elif isinstance(call, CopyCall):
            self.bytes_at(call.target, call.size)[:] = self.bytes_at(call.source, call.size)
        elif isinstance(call, MultiplyCall):
            self.multiply(call)
        else:
            words = np.array([self.word(each) for each in call.words], np.int64)
            self.shared[:] = POISON
            self.functions[call.kernel](words.ctypes.data, self.shared.ctypes.data, call.blocks)

    def multiply(self, call: MultiplyCall) -> None:
        """What a library does, by NumPy."""
        shapes = ((call.rows, call.depth), (call.depth, call.columns), (call.rows, call.columns))
        steps = (call.left_steps, call.right_steps, (call.columns, 1))
        left, right, target = (
            np.lib.stride_tricks.as_strided(
                self.block(place)[place.offset :].view(DTYPES[call.dtype]),
                (call.batch, *shape),
                [step * DTYPES[call.dtype].itemsize for step in (apart, *own)],
            )
            for place, shape, own, apart in zip(
                (call.left, call.right, call.target), shapes, steps, call.batch_steps, strict=True
            )
        )
        found = left.astype(np.float64) @ right
        if call.bias is not None:
            found += self.bytes_at(call.bias, call.columns * found.itemsize // 2).view(DTYPES[call.dtype])
        target[...] = np.maximum(found, 0) if call.relu else found

    def block(self, place: Place) -> np.ndarray:
        found: np.ndarray = self.inputs[place.number] if place.block == "inputs" else getattr(self, place.block)
        return found

    def bytes_at(self, place: Place, size: int) -> np.ndarray:
        return self.block(place)[place.offset : place.offset + size]

    def word(self, word: Place | int) -> int:
        return word if isinstance(word, int) else self.block(word).ctypes.data + word.offset


def poisoned(size: int) -> np.ndarray:
    """Bytes at an address that is a multiple of 256, as on a device."""
    memory = np.full(size + 256, POISON, np.uint8)
    start = -memory.ctypes.data % 256
    return memory[start : start + size]


def compiled(drawing: Drawing) -> tuple[object, dict[str, ctypes._CFunctionType]]:
    """(what keeps the code alive, the function of every entry)."""
    engine = load_object(object_of(drawing))
    return engine, {name: ENTRY(engine.get_function_address(name)) for name in drawing.program.kernels}


def object_of(drawing: Drawing) -> bytes:
    """Code of this machine's for every entry: a function (words, shared memory, blocks)."""
    pieces = {piece.kernel.name: piece for made in drawing.entries for piece in made.pieces}
    texts = [block_text(pieces[kernel.name]) if kernel.name in pieces else lower(kernel) for kernel in drawing.kernels]
    texts += [line for made in drawing.entries for line in declarations(made, ".block", False)]
    texts += [for_host(made) for made in drawing.entries]
    return build(texts, drawing.program.kernels, host())


def block_text(piece: Piece) -> str:
    """LLVM IR of a kernel for a whole block. The CPU's own text is for one thread as it is."""
    if piece.threads > 1:
        return lower_block(piece.kernel, piece.threads)
    kernel = piece.kernel
    parameters = ", ".join(f"{llvm_type(kind)} %{name}" for name, kind in kernel.parameters)
    head = f"define internal void @{kernel.name}.block({parameters}) noinline nounwind {{\n"
    return f"{lower(kernel)}\n{head}  call void @{kernel.name}({parameters})\n  ret void\n}}\n"
