"""A CUDA driver whose device is the memory of this process: what it was asked, in order, and what comes of it.

Streams do nothing before they are waited for, so what is read too early is not there yet, as on a GPU. A kernel is a
Python function of the launch and the values of its parameters.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphc.backends.cuda.emulation.machine import compiled, poisoned
from graphc.backends.cuda.plan import Drawing

ATTRIBUTES = {16: 132, 97: 227 << 10}
SUCCESS, OUT_OF_MEMORY, INVALID_VALUE, INVALID_CONTEXT, NOT_FOUND = 0, 2, 1, 201, 500
UNSUPPORTED, INVALIDATED = 900, 901  # while calls are noted
NAMES = {
    1: b"CUDA_ERROR_INVALID_VALUE", 2: b"CUDA_ERROR_OUT_OF_MEMORY", 201: b"CUDA_ERROR_INVALID_CONTEXT",
    3: b"CUDA_ERROR_NOT_INITIALIZED", 100: b"CUDA_ERROR_NO_DEVICE", 222: b"CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    802: b"CUDA_ERROR_SYSTEM_NOT_READY", 803: b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    500: b"CUDA_ERROR_NOT_FOUND", 900: b"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
    901: b"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", 700: b"CUDA_ERROR_ILLEGAL_ADDRESS",
}  # fmt: skip
WHILE_NOTING = {  # what a thread may call while it notes what it gives to a stream: nothing that could wait
    "cuCtxSetCurrent", "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2",
    "cuLaunchKernel", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoDAsync_v2",
    "cuMemsetD8Async", "cuStreamEndCapture", "cuGetErrorName", "cuStreamDestroy_v2", "cuEventDestroy_v2",
    "cuGraphExecDestroy", "cuEventCreate", "cuEventRecord", "cuEventRecordWithFlags", "cuStreamWaitEvent",
}  # fmt: skip
ANYWHERE = ("cuInit", "cuDriver", "cuDevice", "cuCtx", "cuGetErrorName")  # without a context


def emulated(drawing: Drawing) -> dict[str, Callable[..., None]]:
    """The kernels of a program, compiled for the CPU, as the library's."""
    whole = with_all(drawing)
    engine, functions = compiled(whole)

    def kernel(name: str) -> Callable[..., None]:
        function = functions[name]

        def launched(grid: tuple[int, ...], block: tuple[int, ...], shared: int, words: list[int]) -> None:
            table = np.array(words, np.uint64)
            room = poisoned(max(shared, 16))
            function(table.ctypes.data, room.ctypes.data, grid[0])

        launched.code = engine  # type: ignore[attr-defined]
        return launched

    return {name: kernel(name) for name in whole.program.kernels}


def with_all(drawing: Drawing) -> Drawing:
    """The drawing with all its entries as kernels of the program, those that no step launches too."""
    names = tuple(made.name for made in drawing.entries)
    return replace(drawing, program=replace(drawing.program, kernels=names))


@dataclass
class Queue:
    """A stream: what is to be done, and what is being noted instead."""

    waiting: list[Callable[[], None]] = field(default_factory=list)
    noting: list[Callable[[], None]] | None = None
    thread: int = 0  # that notes


@dataclass
class FakeLibrary:
    """The functions of libcuda that graphc calls.

    kernels  by name: called with (grid, block, shared bytes, address of the table of parameters)
    version  of CUDA it says it can do
    room     bytes of the device's memory
    """

    kernels: dict[str, Callable[..., None]] = field(default_factory=dict)
    version: int = 13000
    devices: int = 1
    capability: tuple[int, int] = (9, 0)
    room: int = 1 << 32
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.things: dict[int, Any] = {}
        self.used, self.handles = 0, 0x1000
        self.things[1] = Queue()  # the stream of whoever names none
        self.clock = 0.0  # milliseconds, as far as anyone asks: a launch takes one, and to record an event a quarter
        self.failing: dict[str, int] = {}  # what a function is to return instead of doing what it does
        self.entered = threading.local()  # which context a thread is in
        self.noting: Queue | None = None
        self.is_spoilt = False

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("cu"):
            raise AttributeError(name)
        work = getattr(self, "do_" + name.removesuffix("_v2"))

        def called(*arguments: Any) -> int:
            if name != "cuGetErrorName":
                self.calls.append(name)
            if name in self.failing:
                return self.failing[name]
            if not (hasattr(self.entered, "context") or name.startswith(ANYWHERE)):
                return INVALID_CONTEXT
            if self.noting is not None and self.noting.thread == threading.get_ident() and name not in WHILE_NOTING:
                self.is_spoilt = True
                return UNSUPPORTED
            return work(*arguments) or SUCCESS

        return called

    def keep(self, thing: Any) -> int:
        self.handles += 16  # things go, and no other one may have the handle of one that is gone
        self.things[self.handles] = thing
        return self.handles

    def at(self, handle: Any) -> Any:
        return self.things[handle.value]

    def give(self, stream: Any, work: Callable[[], None]) -> None:
        queue = self.at(stream)
        (queue.waiting if queue.noting is None else queue.noting).append(work)

    # -- device

    def do_cuInit(self, flags: int) -> None:
        pass

    def do_cuDriverGetVersion(self, out: Any) -> None:
        out._obj.value = self.version

    def do_cuDeviceGetCount(self, out: Any) -> None:
        out._obj.value = self.devices

    def do_cuDeviceGet(self, out: Any, number: int) -> None:
        out._obj.value = number

    def do_cuDevicePrimaryCtxRetain(self, out: Any, device: int) -> None:
        out._obj.value = self.keep("context")

    def do_cuCtxSetCurrent(self, context: Any) -> None:
        assert self.at(context) == "context"
        self.entered.context = context

    def do_cuCtxPushCurrent(self, context: Any) -> None:
        self.entered.before = getattr(self.entered, "context", None)
        self.do_cuCtxSetCurrent(context)

    def do_cuCtxPopCurrent(self, out: Any) -> None:
        out._obj.value = self.entered.context.value
        self.entered.context = self.entered.before
        if self.entered.context is None:
            del self.entered.context

    def do_cuDeviceGetName(self, text: Any, size: int, device: int) -> None:
        text.value = b"a GPU in the mind"

    def do_cuDeviceGetAttribute(self, out: Any, kind: int, device: int) -> None:
        out._obj.value = (ATTRIBUTES | dict(zip((75, 76), self.capability, strict=True)))[kind]

    def do_cuGetErrorName(self, code: int, out: Any) -> None:
        out._obj.value = NAMES.get(code, b"CUDA_ERROR_UNKNOWN")

    # -- memory

    def do_cuMemGetInfo(self, free: Any, whole: Any) -> None:
        free._obj.value, whole._obj.value = self.room - self.used, self.room

    def do_cuMemAlloc(self, out: Any, size: Any) -> int:
        if self.used + size.value > self.room:
            return OUT_OF_MEMORY
        self.used += size.value
        memory = np.full(size.value + 256, 0xFF, np.uint8)  # what nobody wrote is no number
        start = memory.ctypes.data + -memory.ctypes.data % 256
        self.things[start] = memory, size.value
        out._obj.value = start
        return SUCCESS

    def do_cuMemFree(self, place: Any) -> None:
        self.used -= self.things.pop(place.value)[1]

    def do_cuMemHostAlloc(self, out: Any, size: Any, flags: int) -> None:
        memory = np.zeros(size.value, np.uint8)
        self.things[memory.ctypes.data] = memory, 0
        out._obj.value = memory.ctypes.data

    def do_cuMemFreeHost(self, place: Any) -> None:
        del self.things[place.value]

    def copies(self, target: Any, source: Any, size: Any, stream: Any) -> None:
        self.give(stream, lambda: ctypes.memmove(target.value, source.value, size.value))

    do_cuMemcpyHtoDAsync = do_cuMemcpyDtoHAsync = do_cuMemcpyDtoDAsync = copies

    def do_cuMemsetD8Async(self, target: Any, byte: Any, size: Any, stream: Any) -> None:
        self.give(stream, lambda: ctypes.memset(target.value, byte.value, size.value))

    # -- modules

    def do_cuModuleLoadDataEx(self, out: Any, text: Any, count: int, options: Any, values: Any) -> int:
        if b".version" not in text.value:
            return INVALID_VALUE
        out._obj.value = self.keep("module")
        return SUCCESS

    def do_cuModuleUnload(self, module: Any) -> None:
        assert self.things.pop(module.value) == "module"

    def do_cuModuleGetFunction(self, out: Any, module: Any, name: bytes) -> int:
        if name.decode() not in self.kernels:
            return NOT_FOUND
        out._obj.value = self.keep(name.decode())
        return SUCCESS

    def do_cuFuncSetAttribute(self, kernel: Any, kind: int, value: int) -> int:
        return SUCCESS if value <= ATTRIBUTES[97] else INVALID_VALUE

    def do_cuFuncGetAttribute(self, out: Any, kind: int, kernel: Any) -> None:
        out._obj.value = 0

    def do_cuLaunchKernel(self, kernel: Any, *rest: Any) -> int:
        *sizes, shared, stream, parameters, _ = rest
        if min(sizes) < 1:
            return INVALID_VALUE
        work, kept = self.kernels[self.at(kernel)], [ctypes.c_uint64.from_address(each).value for each in parameters]

        def launched() -> None:
            self.clock += 1.0
            work(tuple(sizes[:3]), tuple(sizes[3:]), shared, kept)

        self.give(stream, launched)
        return SUCCESS

    # -- streams

    def do_cuStreamCreate(self, out: Any, flags: int) -> None:
        out._obj.value = self.keep(Queue())

    def do_cuStreamDestroy(self, stream: Any) -> None:
        assert isinstance(self.at(stream), Queue)  # whose work is still done

    def do_cuStreamSynchronize(self, stream: Any) -> None:
        queue = self.at(stream)
        while queue.waiting:
            queue.waiting.pop(0)()

    def do_cuStreamBeginCapture(self, stream: Any, mode: int) -> None:
        self.noting, self.is_spoilt = self.at(stream), False
        self.noting.noting, self.noting.thread = [], threading.get_ident()

    def do_cuStreamEndCapture(self, stream: Any, out: Any) -> int:
        noted, self.at(stream).noting, self.noting = self.at(stream).noting, None, None
        if self.is_spoilt:
            return INVALIDATED
        out._obj.value = self.keep(noted)
        return SUCCESS

    def do_cuGraphInstantiateWithFlags(self, out: Any, graph: Any, flags: Any) -> None:
        out._obj.value = self.keep(list(self.at(graph)))

    def do_cuGraphDestroy(self, graph: Any) -> None:
        self.at(graph).clear()

    def do_cuGraphExecDestroy(self, graph: Any) -> None:
        self.at(graph).clear()

    def do_cuGraphUpload(self, graph: Any, stream: Any) -> None:
        self.at(graph)

    def do_cuGraphLaunch(self, graph: Any, stream: Any) -> None:
        for work in self.at(graph):
            self.give(stream, work)

    # An event is what it was recorded for last; who waits does so for the record of that moment.

    def do_cuEventCreate(self, out: Any, flags: int) -> None:
        out._obj.value = self.keep([])

    def do_cuEventRecord(self, event: Any, stream: Any) -> None:
        mark = {"done": False, "stream": stream}
        self.at(event)[:] = [mark]
        self.give(stream, lambda: mark.__setitem__("done", True))

    def do_cuEventRecordWithFlags(self, event: Any, stream: Any, flags: int) -> int:
        mark = {"done": False, "stream": stream, "at": 0.0}
        self.at(event)[:] = [mark]

        def recorded() -> None:
            self.clock += 0.25
            mark.update(done=True, at=self.clock)

        self.give(stream, recorded)
        return SUCCESS if flags == 1 else INVALID_VALUE

    def do_cuEventSynchronize(self, event: Any) -> None:
        for mark in self.at(event):
            self.wait(mark)

    def do_cuEventDestroy(self, event: Any) -> None:
        del self.things[event.value]

    def do_cuStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> None:
        for mark in self.at(event):
            self.give(stream, functools.partial(self.wait, mark))

    def wait(self, mark: dict[str, Any]) -> None:
        if not mark["done"]:
            self.do_cuStreamSynchronize(mark["stream"])

    def do_cuEventElapsedTime(self, out: Any, first: Any, last: Any) -> None:
        (begin,), (end,) = self.at(first), self.at(last)
        out._obj.value = end["at"] - begin["at"] if "at" in begin and "at" in end else 1.0
