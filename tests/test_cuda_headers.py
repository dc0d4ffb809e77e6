"""What graphc says to NVIDIA's libraries, against their own headers: numbers, structures, and what each call is given.

Python's calls have no prototypes that a compiler would check. Here every call is made once to a library that is none,
and what it was given is held against the function's declaration.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_cublas import FakeCublas
from fake_driver import FakeLibrary

import graphc as gx
from graphc.backends.cache import Cache
from graphc.backends.cuda import cublas, dlpack, driver, lending
from graphc.backends.cuda.device import MultiplyCall, Place
from graphc.backends.cuda.driver import HANDLE, Device, Driver
from graphc.backends.cuda.memory import Block, Pinned
from graphc.backends.export import launching

SOURCES = Path(driver.__file__).parent
POINTER, LONG, INT, BYTE = "pointer", "8 bytes", "4 bytes", "1 byte"
HANDLES = (
    r"CU(context|module|function|stream|event|graph|graphExec)|cudaStream_t|cublasLt\w+(?<!Attribute)(?<!Attributes)_t"
)
LONGS = r"(const )?(CUdeviceptr|CUdeviceptr_v2|size_t|unsigned long long|u?int64_t)"
LINKED = "__CUDA_API_VERSION_INTERNAL"  # with which cuda.h declares all functions by the names they are found under

DRIVER_NUMBERS = {
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": driver.MAJOR,
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": driver.MINOR,
    "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT": driver.MULTIPROCESSORS,
    "CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": driver.SHARED_OPT_IN,
    "CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES": driver.SHARED_BYTES,
    "CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES": driver.LOCAL_BYTES,
    "CU_FUNC_ATTRIBUTE_NUM_REGS": driver.REGISTERS,
    "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES": driver.DYNAMIC_SHARED,
    "CU_STREAM_NON_BLOCKING": driver.NON_BLOCKING,
    "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL": driver.THREAD_LOCAL,
    "CU_EVENT_DISABLE_TIMING": driver.NO_TIMING,
    "CU_EVENT_RECORD_EXTERNAL": driver.EXTERNAL,
    "CU_JIT_ERROR_LOG_BUFFER": driver.ERROR_LOG,
    "CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES": driver.ERROR_LOG_BYTES,
    "sizeof(CUjit_option)": ctypes.sizeof(ctypes.c_int),
    "(char *)CU_STREAM_LEGACY - (char *)0": lending.LEGACY,
}
ERRORS = {
    "CUDA_ERROR_OUT_OF_MEMORY": driver.OUT_OF_MEMORY,
    "CUDA_ERROR_NO_DEVICE": driver.NO_DEVICE,
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": 222,
    "CUDA_ERROR_NOT_INITIALIZED": 3,
    "CUDA_ERROR_STUB_LIBRARY": 34,
    "CUDA_ERROR_DEVICE_UNAVAILABLE": 46,
    "CUDA_ERROR_ILLEGAL_ADDRESS": 700,
    "CUDA_ERROR_LAUNCH_FAILED": 719,
    "CUDA_ERROR_SYSTEM_NOT_READY": 802,
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": 803,
    "CUDA_ERROR_UNKNOWN": 999,
}
LIBRARY_NUMBERS = {
    "CUBLAS_COMPUTE_32F": cublas.COMPUTE["highest"],
    "CUBLAS_COMPUTE_32F_FAST_TF32": cublas.COMPUTE["tf32"],
    "CUBLAS_COMPUTE_32F_FAST_16BF": cublas.COMPUTE["bf16"],
    "CUDA_R_32F": cublas.FLOAT32,
    "CUBLASLT_MATMUL_DESC_TRANSA": cublas.TRANSPOSE_FIRST,
    "CUBLASLT_MATMUL_DESC_TRANSB": cublas.TRANSPOSE_SECOND,
    "CUBLASLT_MATMUL_DESC_EPILOGUE": cublas.ENDING,
    "CUBLASLT_MATMUL_DESC_BIAS_POINTER": cublas.BIAS,
    "CUBLASLT_EPILOGUE_DEFAULT": cublas.ENDINGS[False, False],
    "CUBLASLT_EPILOGUE_RELU": cublas.ENDINGS[False, True],
    "CUBLASLT_EPILOGUE_BIAS": cublas.ENDINGS[True, False],
    "CUBLASLT_EPILOGUE_RELU_BIAS": cublas.ENDINGS[True, True],
    "CUBLAS_OP_N": 0,
    "CUBLAS_OP_T": 1,
    "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT": cublas.BATCH_COUNT,
    "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET": cublas.BATCH_STEP,
    "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES": cublas.WORKSPACE,
    "CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK": cublas.REDUCTION,
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES": cublas.ALIGNMENTS[0],
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES": cublas.ALIGNMENTS[1],
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES": cublas.ALIGNMENTS[2],
    "CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES": cublas.ALIGNMENTS[3],
    "CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE": cublas.REPEATABLE,
    "sizeof(cublasLtMatmulAlgo_t)": ctypes.sizeof(cublas.Algorithm),
    "sizeof(cublasLtMatmulHeuristicResult_t)": ctypes.sizeof(cublas.Heuristic),
    "offsetof(cublasLtMatmulHeuristicResult_t, algo)": cublas.Heuristic.algorithm.offset,
    "offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize)": cublas.Heuristic.workspace.offset,
    "offsetof(cublasLtMatmulHeuristicResult_t, state)": cublas.Heuristic.state.offset,
}
LENT_NUMBERS = {
    "kDLCPU": dlpack.CPU,
    "kDLCUDA": dlpack.CUDA,
    "kDLCUDAManaged": dlpack.CUDA_MANAGED,
    **{name: next(code for code, kind in dlpack.CODES.items() if kind == letter)
       for name, letter in (("kDLInt", "i"), ("kDLUInt", "u"), ("kDLFloat", "f"), ("kDLBool", "b"))},
    "sizeof(DLManagedTensor)": ctypes.sizeof(dlpack.Managed),
    "offsetof(DLManagedTensor, manager_ctx)": dlpack.Managed.context.offset,
    "offsetof(DLManagedTensor, deleter)": dlpack.Managed.deleter.offset,
    "offsetof(DLTensor, device)": dlpack.Tensor.device_type.offset,
    "offsetof(DLTensor, ndim)": dlpack.Tensor.axes.offset,
    "offsetof(DLTensor, dtype)": dlpack.Tensor.code.offset,
    "offsetof(DLTensor, shape)": dlpack.Tensor.shape.offset,
    "offsetof(DLTensor, strides)": dlpack.Tensor.strides.offset,
    "offsetof(DLTensor, byte_offset)": dlpack.Tensor.offset.offset,
}  # fmt: skip


# -- headers


def folders() -> Iterator[Path]:
    """Where NVIDIA's headers may be: in a toolkit, or in wheels; DLPack's comes with PyTorch."""
    yield from (Path(os.environ[name], "include") for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ)
    yield Path("/usr/local/cuda/include")
    for folder in sys.path:
        yield from sorted(Path(folder, "nvidia").glob("*/include"))
        yield from (Path(folder, "triton/backends/nvidia/include"), Path(folder, "torch/include/ATen"))


def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc")
    return found or pytest.skip("no C compiler is here to read a header")


def headers(name: str) -> list[Path]:
    found = [folder / name for folder in dict.fromkeys(folders()) if (folder / name).is_file()]
    return found or pytest.skip(f"no {name} is here: neither a CUDA toolkit nor the wheel that has it")


def read(header: Path, lines: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A C compiler's view of lines behind a header, for which it also looks where others are."""
    places = [part for folder in (header.parent, *folders()) for part in ("-I", str(folder))]
    text = f"#include <stddef.h>\n#include <{header.name}>\n{lines}\n"
    command = [compiler(), "-x", "c", "-std=gnu11", *places, *options, "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def assert_equal(header: Path, numbers: dict[str, int]) -> None:
    words = {told: re.sub("[^a-zA-Z0-9]+", "_", told) for told in numbers}  # which the compiler's complaint shows
    lines = [f"int is_{value}_{words[told]}[({told}) == {value} ? 1 : -1];" for told, value in numbers.items()]
    found = read(header, "\n".join(lines), "-fsyntax-only")
    assert found.returncode == 0, found.stderr


def declared(header: Path, result: str, *options: str) -> dict[str, list[list[str]]]:
    """Functions by name: the types and names of their parameters, once for each declaration."""
    found = read(header, "", "-E", "-P", *options)
    assert found.returncode == 0, found.stderr
    known: dict[str, list[list[str]]] = {}
    for name, parameters in re.findall(rf"\b{result}\s+(\w+)\s*\(([^;{{}}]*?)\)\s*;", found.stdout):
        split = [" ".join(each.split()) for each in parameters.split(",")]
        known.setdefault(name, []).append([each for each in split if each != "void"])
    return known


def size_of(parameter: str) -> str:
    if "*" in parameter or "[" in parameter or re.match(rf"(const )?({HANDLES}) ", parameter):
        return POINTER
    if re.match(LONGS, parameter):
        return LONG
    return BYTE if parameter.startswith("unsigned char") else INT


def is_passed_as(parameter: str, given: str) -> bool:
    """Addresses of the device are numbers to Python, and to cuBLASLt pointers to void."""
    return size_of(parameter) == given or (given == LONG and "void*" in parameter.replace(" *", "*"))


# -- calls


def size_given(argument: object) -> str:
    """How ctypes hands an argument over."""
    if isinstance(argument, int):
        return INT
    sizes = {ctypes.c_uint64: LONG, ctypes.c_int64: LONG, ctypes.c_size_t: LONG, ctypes.c_ubyte: BYTE}
    return sizes.get(type(argument), POINTER)


def pointee(argument: object) -> int | None:
    """Bytes of the one thing that an argument points to."""
    inner = getattr(argument, "_obj", None)
    return None if inner is None else ctypes.sizeof(inner)


POINTEES = {"int": 4, "float": 4, "size_t": 8, "CUdeviceptr": 8, "CUdevice": 4}


class Noted:
    """A library whose calls are noted: for every function what it was given, before the library itself is asked."""

    def __init__(self, library: object) -> None:
        self.library, self.calls = library, dict[str, tuple[object, ...]]()

    def __getattr__(self, name: str) -> object:
        work = getattr(self.library, name)
        if not callable(work) or name == "cublasLtGetVersion":
            return work

        def called(*arguments: object) -> object:
            self.calls[name] = arguments
            return work(*arguments)

        return called


def assert_fits(known: dict[str, list[list[str]]], name: str, arguments: tuple[object, ...]) -> None:
    assert name in known, f"the header declares no {name}"
    given = [size_given(each) for each in arguments]
    fitting = [each for each in known[name] if len(each) == len(given) and all(map(is_passed_as, each, given))]
    assert fitting, f"{name}({', '.join(given)}) is declared as {known[name]}"
    for parameter, argument in zip(fitting[0], arguments, strict=True):
        kind, star, _ = parameter.partition("*")
        wanted = POINTEES.get(kind.strip(), 8 if re.match(HANDLES, kind) or "**" in parameter else None)
        if star and wanted is not None and pointee(argument) is not None:
            assert pointee(argument) == wanted, f"{name}: {parameter}"


def every_call(library: Noted) -> None:
    """Everything that the driver can be asked, once."""
    asked = Driver(library)
    driver.check_age(asked, asked.asked(ctypes.c_int, "cuDeviceGet", 0))
    asked.asked(ctypes.c_int, "cuDeviceGetCount")
    asked.call("cuInit", 0)
    assert asked.version and asked.name_of(2)
    device = Device(asked)
    device.memory()
    block, pinned, events = Block(device, 64), Pinned(device, 64), [device.event(timed=True) for _ in range(2)]
    module, stream = device.load(".version 8.0\n"), device.stream()
    kernel = module.kernel("nothing", driver.PLENTY + 1)
    module.resources(kernel)

    def work() -> None:
        stream.send(block.place, pinned.place, 8)
        stream.fetch(pinned.place, block.place, 8)
        stream.copy(block.place, block.place + 8, 8)
        stream.fill(block.place, 0, 8)
        stream.launch(kernel, (1, 1, 1), (1, 1, 1), 0, (HANDLE * 1)(pinned.place))
        for event in events:
            stream.record_each_time(event)

    replay = stream.captured(work)
    replay()
    stream.record(events[0])
    stream.wait_for(events[0])
    stream.finish()
    device.wait_until(events[1])
    device.milliseconds(*events)
    lending.let_wait(device, None)
    device.event(), device.load(".version 8.0\n")  # which nobody holds, so they are given back


@pytest.fixture
def driver_calls() -> dict[str, tuple[object, ...]]:
    noted = Noted(FakeLibrary({"nothing": lambda *_: None}))
    every_call(noted)
    return noted.calls


def test_every_function_of_the_driver_that_is_named_is_called_here(driver_calls):
    texts = [file.read_text(encoding="utf-8") for file in SOURCES.glob("*.py")]
    named = {name for text in texts for name in re.findall(r"\"(cu[A-Z]\w+)\"", text)}
    assert named <= {*driver_calls} | {"cuGetErrorName"}


def test_numbers_of_the_driver_are_those_of_its_header():
    assert {*ERRORS.values()} == {*driver.REMEDIES}
    for header in headers("cuda.h"):
        assert_equal(header, DRIVER_NUMBERS | ERRORS)


def test_calls_of_the_driver_fit_its_header(driver_calls):
    for header in headers("cuda.h"):
        known = declared(header, "CUresult", f"-D{LINKED}")
        assert known
        for name, arguments in driver_calls.items():
            assert_fits(known, name, arguments)


def test_an_exported_library_calls_the_driver_as_its_header_says(monkeypatch, tmp_path):
    from exported_models import mlp

    calls: dict[str, set[tuple[str, ...]]] = {}
    real = launching.Calls.driver
    sizes = {"ptr": POINTER, "i64": LONG, "i32": INT, "i8": BYTE}

    def noted(self: launching.Calls, function: str, arguments: str) -> None:
        calls.setdefault(function, set()).add(tuple(sizes[each.split()[0]] for each in arguments.split(", ")))
        real(self, function, arguments)

    known = [declared(header, "CUresult", f"-D{LINKED}") for header in headers("cuda.h")]
    monkeypatch.setattr(launching.Calls, "driver", noted)
    gx.export(mlp(), tmp_path / "mlp", targets=["cuda"])
    assert {*launching.FUNCTIONS} - {*calls} <= {"cuFuncSetAttribute"}
    for functions in known:
        for name, given in calls.items():
            wanted = {tuple(map(size_of, each)) for each in functions[name]}
            assert given <= wanted, name


def test_the_oldest_driver_has_every_function(driver_calls):
    """A driver keeps what programs were linked to; this is about what it does not have yet."""
    since: dict[str, list[int]] = {}
    for header in headers("cudaTypedefs.h"):
        for name, version in re.findall(r"PFN_(cu\w+)_v(\d+)\b", header.read_text(encoding="utf-8")):
            since.setdefault(name, []).append(int(version))
    for name in {*driver_calls} | {*launching.FUNCTIONS}:
        plain, _, later = name.partition("_v")
        versions = sorted({*since[plain]})
        assert versions[int(later or 1) - 1] <= driver.OLDEST, f"{name}: {versions}"


# -- cuBLASLt


def multiplied(library: object, tmp_path: Path) -> cublas.Cublas:
    """The library, once it has been asked for two products: a batch, and one with a bias."""
    device = Device(Driver(library.driver))  # type: ignore[attr-defined]
    made = cublas.Cublas(library, device, "highest", Cache(tmp_path))
    block = Block(device, 1 << 16)
    sizes = (4, 8, 16, (16, 1), (8, 1), 2, (64, 128, 32), "f32")
    for bias in (None, Place("work")):
        call = MultiplyCall(*(Place("work"),) * 3, *sizes, bias, bias is not None)
        at = cublas.Operands(block.place, block.place + 4096, block.place + 8192, block.place if bias else 0)
        made.multiply(device.work, call, at)
    return made


def test_numbers_of_cublas_are_those_of_its_header():
    for header in headers("cublasLt.h"):
        assert_equal(header, LIBRARY_NUMBERS)


def test_calls_of_cublas_fit_its_header(tmp_path):
    noted = Noted(FakeCublas(FakeLibrary()))
    multiplied(noted, tmp_path)
    named = {*re.findall(r"\"(cublasLt[A-Z]\w+)\"", Path(cublas.__file__).read_text(encoding="utf-8"))}
    assert named <= {*noted.calls}
    for header in headers("cublasLt.h"):
        known = declared(header, "cublasStatus_t")
        for name, arguments in noted.calls.items():
            assert_fits(known, name, arguments)


def test_cublas_itself_takes_what_it_is_told():
    """All that needs no GPU: a layout and an ending are told, and read back."""
    library = cublas.load_library() or pytest.skip("libcublasLt is not here")
    made = object.__new__(cublas.Cublas)
    made.library, rows = library, {"rows": 2, "columns": 3, "apart": 4}  # of cublasLtMatrixLayoutAttribute_t
    layout = made.layout((96, 80), (80, 1), 5, 96 * 80)
    found = {name: read_back(library, "MatrixLayout", layout, number) for name, number in rows.items()}
    assert found == {"rows": 80, "columns": 96, "apart": 80}
    assert read_back(library, "MatrixLayout", layout, cublas.BATCH_COUNT, ctypes.c_int32) == 5
    assert read_back(library, "MatrixLayout", layout, cublas.BATCH_STEP) == 96 * 80
    about = made.made("cublasLtMatmulDescCreate", cublas.COMPUTE["tf32"], cublas.FLOAT32)
    told = {
        cublas.TRANSPOSE_FIRST: ctypes.c_int32(1),
        cublas.ENDING: ctypes.c_int32(6),
        cublas.BIAS: ctypes.c_uint64(1),
    }
    for number, value in told.items():
        made.told("cublasLtMatmulDescSetAttribute", about, number, value)
        assert read_back(library, "MatmulDesc", about, number, type(value)) == value.value


def read_back(library: Any, kind: str, thing: HANDLE, number: int, of: Any = ctypes.c_uint64) -> int:
    found, size = of(), ctypes.c_size_t()
    ask = getattr(library, f"cublasLt{kind}GetAttribute")
    assert ask(thing, number, ctypes.byref(found), ctypes.c_size_t(ctypes.sizeof(found)), ctypes.byref(size)) == 0
    assert size.value == ctypes.sizeof(found)
    return int(found.value)


# -- DLPack


def test_structures_of_dlpack_are_those_of_its_header():
    for header in headers("dlpack.h"):
        assert_equal(header, LENT_NUMBERS)
