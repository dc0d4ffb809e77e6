"""The CUDA driver, called by ctypes: devices, memory, modules, streams and graphs.

Names and numbers are those of the driver API (https://docs.nvidia.com/cuda/cuda-driver-api). Nothing but the driver's
own library is needed, and it is looked for when a device is asked for. What it refuses becomes a DriverError that says
what to do.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any
from weakref import finalize

from graphc.backends.runtime import Refused, without_collection

LIBRARIES = {"win32": ("nvcuda.dll",)}.get(sys.platform, ("libcuda.so.1", "libcuda.so"))
OLDEST = 12000  # the first driver that knows PTX of ISA 8.0
TARGETS = (80, 86, 87, 89, 90)  # of that ISA, compute capabilities times ten; newer GPUs run what is for the last one
HANDLE = ctypes.c_void_p
ADDRESS = ctypes.c_uint64
COUNT = ctypes.c_size_t

OUT_OF_MEMORY, NO_DEVICE = 2, 100
MAJOR, MINOR, MULTIPROCESSORS, SHARED_OPT_IN = 75, 76, 16, 97  # of CUdevice_attribute
SHARED_BYTES, LOCAL_BYTES, REGISTERS, DYNAMIC_SHARED = 1, 3, 4, 8  # of CUfunction_attribute
PLENTY = 48 << 10  # bytes of shared memory a kernel gets without asking
NON_BLOCKING = 1  # of CUstream_flags: it does not wait for the stream of other libraries
THREAD_LOCAL = 1  # of CUstreamCaptureMode: other threads may call what they like meanwhile
NO_TIMING = 2  # of CUevent_flags
EXTERNAL = 1  # of CUevent_record_flags: where it is noted in a replay, every replay records it
ERROR_LOG, ERROR_LOG_BYTES = 5, 6  # of CUjit_option


class DriverError(Refused):
    """The driver refused a call.

    code  its CUresult; 0 where there is no driver to ask
    """

    def __init__(self, message: str, remedy: str, code: int = 0) -> None:
        super().__init__(message, remedy)
        self.code = code


REMEDIES = {
    OUT_OF_MEMORY: "a smaller maximum of the batch needs less; other processes may hold memory: see nvidia-smi",
    NO_DEVICE: "there is no GPU that this process may use: see nvidia-smi and CUDA_VISIBLE_DEVICES",
    222: "the driver is older than the code made for it: update it",  # UNSUPPORTED_PTX_VERSION
    3: "a process that was forked cannot use the GPU of the one before it: start it anew (spawn)",  # NOT_INITIALIZED
    34: "what is found is no driver but a file to link with: take it off LD_LIBRARY_PATH",  # STUB_LIBRARY
    46: "another process has the GPU for itself: see nvidia-smi",  # DEVICE_UNAVAILABLE
    700: "a kernel left its memory; this process cannot use the GPU any more: start a new one",  # ILLEGAL_ADDRESS
    719: "a kernel failed; this process cannot use the GPU any more: start a new one",  # LAUNCH_FAILED
    802: "the machine is not ready for its GPUs: its NVIDIA fabric manager does not run",  # SYSTEM_NOT_READY
    803: "the driver's library is of another version than the driver: restart the machine",  # SYSTEM_DRIVER_MISMATCH
    999: "the driver says no more than that: see nvidia-smi and the system's log",  # UNKNOWN
}
UNKNOWN_REMEDY = "see nvidia-smi"


class Driver:
    """The driver's library, its calls checked."""

    def __init__(self, library: Any) -> None:
        self.library = library

    def call(self, name: str, *arguments: Any) -> None:
        """One call; raises DriverError unless the driver says that all is well."""
        code = getattr(self.library, name)(*arguments)
        if code:
            raise DriverError(f"{name}: {self.name_of(code)}", REMEDIES.get(code, UNKNOWN_REMEDY), code)

    def name_of(self, code: int) -> str:
        found = ctypes.c_char_p()
        self.library.cuGetErrorName(code, ctypes.byref(found))
        return found.value.decode() if found.value else f"error {code}"

    def asked(self, kind: Any, name: str, *arguments: Any) -> Any:
        """What a call writes to its first argument, of that ctypes kind."""
        found = kind()
        self.call(name, ctypes.byref(found), *arguments)
        return found.value

    @property
    def version(self) -> int:
        """Of the newest CUDA it can do: 1000 times the major plus 10 times the minor number."""
        return int(self.asked(ctypes.c_int, "cuDriverGetVersion"))


@cache
def open_driver() -> Driver:
    """The driver of this machine. Raises DriverError where it, or the first GPU, is too old or there is none."""
    driver = Driver(load_library())
    driver.call("cuInit", 0)
    if driver.version < OLDEST:
        have, need = (f"{number // 1000}.{number % 1000 // 10}" for number in (driver.version, OLDEST))
        raise DriverError(
            f"the NVIDIA driver here is for CUDA {have}; graphc needs {need} or newer", "update the driver"
        )
    if not driver.asked(ctypes.c_int, "cuDeviceGetCount"):
        raise DriverError("the NVIDIA driver finds no GPU", REMEDIES[NO_DEVICE], NO_DEVICE)
    check_age(driver, driver.asked(ctypes.c_int, "cuDeviceGet", 0))
    return driver


def check_age(driver: Driver, device: int) -> None:
    """Raises DriverError for a GPU that our kernels are not made for."""
    major, minor = (int(driver.asked(ctypes.c_int, "cuDeviceGetAttribute", kind, device)) for kind in (MAJOR, MINOR))
    if 10 * major + minor < TARGETS[0]:
        text = f"the GPU here has compute capability {major}.{minor}; graphc needs {TARGETS[0] / 10} or newer"
        raise DriverError(text, "compile for device='cpu'")


def load_library() -> Any:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise DriverError(
        f"there is no NVIDIA driver here ({LIBRARIES[0]} is not found)", "install one, or compile for device='cpu'"
    )


class Device:
    """One GPU through its primary context, which other libraries of this process share.

    number           of those this process sees
    name             as its maker calls it
    architecture     what kernels for it are made for, in PTX's spelling: "sm_90"
    multiprocessors  how many there are
    shared_bytes     of shared memory, the most that one block can have
    work             the stream of all calls, as several functions work on the same parameters
    lock             of whoever gives something to that stream
    """

    def __init__(self, driver: Driver, number: int = 0) -> None:
        self.driver, self.number = driver, number
        self.handle = driver.asked(ctypes.c_int, "cuDeviceGet", number)
        self.context = HANDLE(driver.asked(HANDLE, "cuDevicePrimaryCtxRetain", self.handle))
        self.enter()
        title = ctypes.create_string_buffer(256)
        driver.call("cuDeviceGetName", title, len(title), self.handle)
        self.name = title.value.decode()
        capability = 10 * self.attribute(MAJOR) + self.attribute(MINOR)
        self.architecture = f"sm_{max(target for target in TARGETS if target <= capability)}"
        self.multiprocessors = self.attribute(MULTIPROCESSORS)
        self.shared_bytes = self.attribute(SHARED_OPT_IN)
        self.lock = threading.RLock()
        self.work = self.stream()

    def attribute(self, kind: int) -> int:
        return int(self.driver.asked(ctypes.c_int, "cuDeviceGetAttribute", kind, self.handle))

    def enter(self) -> None:
        """Make this thread's calls go to this device."""
        self.driver.call("cuCtxSetCurrent", self.context)

    def give_back_with(self, owner: Any, name: str, handle: Any, needed: Any = None) -> finalize[Any, Any]:
        """Have the driver's call of that name take back a thing with the last reference to its owner, whichever thread
        lets go of it; or sooner, where what is returned is called. Until then, `needed` lives."""
        made = finalize(owner, give_back, self.driver, self.context, name, handle, needed)
        made.atexit = False  # at its end a process gives all back
        return made

    def memory(self) -> tuple[int, int]:
        """(free, all) bytes of its memory."""
        free, whole = COUNT(), COUNT()
        self.driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(whole))
        return free.value, whole.value

    def allocate(self, size: int) -> int:
        """The address of so many bytes on the device. Raises DriverError that says how many are free."""
        try:
            return int(self.driver.asked(ADDRESS, "cuMemAlloc_v2", COUNT(max(size, 1))))
        except DriverError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            free, whole = self.memory()
            text = f"{self.name} has no {size:,} bytes to spare: {free:,} of {whole:,} are free"
            raise DriverError(text, error.remedy, error.code) from None

    def allocate_pinned(self, size: int) -> int:
        """The address of so many bytes of the host that the device copies from by itself."""
        return int(self.driver.asked(HANDLE, "cuMemHostAlloc", COUNT(max(size, 1)), 0))

    def stream(self) -> Stream:
        return Stream(self, HANDLE(self.driver.asked(HANDLE, "cuStreamCreate", NON_BLOCKING)))

    def event(self, timed: bool = False) -> Event:
        made = Event(self.driver.asked(HANDLE, "cuEventCreate", 0 if timed else NO_TIMING))
        self.give_back_with(made, "cuEventDestroy_v2", HANDLE(made.value))
        return made

    def wait_until(self, event: HANDLE) -> None:
        """Until an event has happened; one that was never recorded has."""
        self.driver.call("cuEventSynchronize", event)

    def milliseconds(self, first: HANDLE, last: HANDLE) -> float:
        """Between two events that have happened, both of which are timed."""
        return float(self.driver.asked(ctypes.c_float, "cuEventElapsedTime", first, last))

    def load(self, ptx: str) -> Module:
        """Kernels from their text; the driver compiles it, and keeps what it made on disk."""
        log = ctypes.create_string_buffer(8192)
        options = (ctypes.c_int * 2)(ERROR_LOG, ERROR_LOG_BYTES)
        values = (HANDLE * 2)(ctypes.addressof(log), len(log))
        text = ctypes.create_string_buffer(ptx.encode())
        try:
            handle = self.driver.asked(HANDLE, "cuModuleLoadDataEx", text, 2, options, values)
        except DriverError as error:
            said = log.value.decode(errors="replace").strip()
            raise DriverError(f"{error.message}: {said or 'no reason given'}", error.remedy, error.code) from None
        return Module(self, HANDLE(handle))


@cache
def first_device() -> Device:
    """The device with number 0, once for all. Raises DriverError as `open_driver` does."""
    return Device(open_driver())


def give_back(driver: Driver, context: HANDLE, name: str, handle: Any, needed: Any) -> None:
    with suppress(DriverError):  # the device is gone, and all that was on it
        driver.call("cuCtxPushCurrent_v2", context)
        try:
            driver.call(name, handle)
        finally:  # whoever's thread this is may be at work on another GPU
            driver.asked(HANDLE, "cuCtxPopCurrent_v2")


class Event(HANDLE):
    """A moment of a stream, forgotten with the last reference to this."""


class Kernel(HANDLE):
    """A kernel of a module, which stays loaded as long as this lives."""

    module: Module


class Module:
    """Kernels on a device."""

    def __init__(self, device: Device, handle: HANDLE) -> None:
        self.driver, self.handle = device.driver, handle
        device.give_back_with(self, "cuModuleUnload", handle)

    def kernel(self, name: str, shared: int = 0) -> Kernel:
        """A kernel by its name, which will ask for so many bytes of dynamic shared memory."""
        found = Kernel(self.driver.asked(HANDLE, "cuModuleGetFunction", self.handle, name.encode()))
        found.module = self
        if shared > PLENTY:
            self.driver.call("cuFuncSetAttribute", found, DYNAMIC_SHARED, shared)
        return found

    def resources(self, kernel: HANDLE) -> tuple[int, int, int]:
        """(registers a thread, bytes of local memory a thread, bytes of static shared memory a block)."""
        ask = lambda kind: int(self.driver.asked(ctypes.c_int, "cuFuncGetAttribute", kind, kernel))  # noqa: E731
        return ask(REGISTERS), ask(LOCAL_BYTES), ask(SHARED_BYTES)


class Stream:
    """What is given to it is done in order, while the host goes on. No bytes are nothing to do."""

    def __init__(self, device: Device, handle: HANDLE) -> None:
        self.driver, self.handle = device.driver, handle
        self.give_back_with = device.give_back_with
        self.noted: set[Module] | None = None  # of the kernels that are noted, not launched
        device.give_back_with(self, "cuStreamDestroy_v2", handle)

    def send(self, target: int, source: int, size: int) -> None:
        """Copy from the host to the device."""
        if size:
            self.driver.call("cuMemcpyHtoDAsync_v2", ADDRESS(target), HANDLE(source), COUNT(size), self.handle)

    def fetch(self, target: int, source: int, size: int) -> None:
        """Copy from the device to the host."""
        if size:
            self.driver.call("cuMemcpyDtoHAsync_v2", HANDLE(target), ADDRESS(source), COUNT(size), self.handle)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy within the device."""
        if size:
            self.driver.call("cuMemcpyDtoDAsync_v2", ADDRESS(target), ADDRESS(source), COUNT(size), self.handle)

    def fill(self, target: int, byte: int, size: int) -> None:
        """So many bytes that are all the same."""
        if size:
            self.driver.call("cuMemsetD8Async", ADDRESS(target), ctypes.c_ubyte(byte), COUNT(size), self.handle)

    def launch(self, kernel: Kernel, grid: Sequence[int], block: Sequence[int], shared: int, arguments: Any) -> None:
        """Start a kernel; `arguments` are the addresses of its parameters, which are read before this returns."""
        if self.noted is not None:
            self.noted.add(kernel.module)
        self.driver.call("cuLaunchKernel", kernel, *grid, *block, shared, self.handle, arguments, None)

    def record(self, event: HANDLE) -> None:
        self.driver.call("cuEventRecord", event, self.handle)

    def record_each_time(self, event: HANDLE) -> None:
        """The same, where this stream is captured, at every replay."""
        self.driver.call("cuEventRecordWithFlags", event, self.handle, EXTERNAL)

    def wait_for(self, event: HANDLE) -> None:
        """Let what comes next wait until the event has happened."""
        self.driver.call("cuStreamWaitEvent", self.handle, event, 0)

    def finish(self) -> None:
        """Wait until all is done."""
        self.driver.call("cuStreamSynchronize", self.handle)

    def captured(self, work: Callable[[], None]) -> Replay:
        """What `work` gives to this stream, not done but noted, ready to be done again and again."""
        self.driver.call("cuStreamBeginCapture_v2", self.handle, THREAD_LOCAL)
        modules = self.noted = set()
        try:
            with without_collection():  # which could free memory of the device, and that ends a capture
                work()
        except BaseException:
            # A stream left in capture is of no use to anyone; what failed is told, not how the capture ended.
            self.driver.library.cuStreamEndCapture(self.handle, ctypes.byref(HANDLE()))
            raise
        finally:
            self.noted = None
        noted = HANDLE()  # of the calls that give something, the one that does not give it by its first argument
        self.driver.call("cuStreamEndCapture", self.handle, ctypes.byref(noted))
        return Replay(self, noted, modules)


class Replay:
    """Work that was noted once and is started as a whole by one call.

    modules  of its kernels, which are loaded until it is gone
    """

    def __init__(self, stream: Stream, noted: HANDLE, modules: set[Module]) -> None:
        self.stream, driver = stream, stream.driver
        self.handle = HANDLE(driver.asked(HANDLE, "cuGraphInstantiateWithFlags", noted, ctypes.c_ulonglong(0)))
        driver.call("cuGraphDestroy", noted)
        self.discard = stream.give_back_with(self, "cuGraphExecDestroy", self.handle, modules)
        driver.call("cuGraphUpload", self.handle, stream.handle)

    def __call__(self) -> None:
        self.stream.driver.call("cuGraphLaunch", self.handle, self.stream.handle)
