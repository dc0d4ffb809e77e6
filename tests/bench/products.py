"""Matrix products against the BLAS of NumPy (OpenBLAS) and of PyTorch (MKL): one thread, interleaved, native loops.

    python tests/bench/products.py [--case square] [--rounds 15] [--json results/NAME.json]

Every system computes the same product of the same arrays; a loop in machine code calls it often enough that neither
Python nor ctypes is part of the time. A case with an epilogue is compared with the bare product of the others. The
last columns are medians of paired ratios (more than 1: graphc is faster), the ratio of the quickest runs, and the
share our quickest run has of the peak of one fused multiply-add after another. Needs llvmlite, NumPy's own OpenBLAS
and, for MKL, torch.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import llvmlite.binding as llvm  # noqa: E402
import numpy as np  # noqa: E402

import graphc as gx  # noqa: E402
from graphc.backends.runtime import address  # noqa: E402

SLICE = 4e-3  # seconds of one timed run
RATE = 1e-9
NATIVE = """
define double @peak(i64 %n) {
entry:
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %next, %loop ]
PHIS
STEPS
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
SUMS
  %first = extractelement <16 x float> %sLAST, i32 0
  %wide = fpext float %first to double
  ret double %wide
}
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)

define void @step(ptr %f, ptr %arguments, i64 %n) {
entry:
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %next, %loop ]
STEP
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}

define void @blas(ptr %f, ptr %arguments, i64 %count, ptr %places, ptr %moves, i64 %n) {
entry:
  br label %outer
outer:
  %t = phi i64 [ 0, %entry ], [ %tnext, %outerend ]
  br label %loop
loop:
  %k = phi i64 [ 0, %outer ], [ %next, %loop ]
BLAS
  %next = add i64 %k, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %outerend
outerend:
  %tnext = add i64 %t, 1
  %tmore = icmp slt i64 %tnext, %n
  br i1 %tmore, label %outer, label %done
done:
  ret void
}
"""


def native_text() -> str:
    """IR of three loops: multiply-adds in registers, calls of a step, calls of sgemm_ over a stack of matrices."""
    chains = range(16)
    phis = "\n".join(f"  %a{i} = phi <16 x float> [ zeroinitializer, %entry ], [ %b{i}, %loop ]" for i in chains)
    one = "<16 x float> splat (float 1.0)"
    steps = "\n".join(f"  %b{i} = call <16 x float> @llvm.fma.v16f32(<16 x float> %a{i}, {one}, {one})" for i in chains)
    sums = "  %s0 = fadd <16 x float> %b0, %b1\n"
    sums += "\n".join(f"  %s{i} = fadd <16 x float> %s{i - 1}, %b{i + 1}" for i in range(1, 15))
    step = "  call i32 %f(ptr %arguments, i64 0, i64 1)"
    blas = loads("arguments", 13) + "".join(
        f"  %m{i} = getelementptr i64, ptr %moves, i64 {i}\n  %v{i} = load i64, ptr %m{i}\n"
        f"  %o{i} = mul i64 %v{i}, %k\n  %q{i} = getelementptr i8, ptr %p{at}, i64 %o{i}\n"
        for i, at in enumerate((6, 8, 11))
    )
    given = [f"%p{i}" for i in range(13)]
    for i, at in enumerate((6, 8, 11)):
        given[at] = f"%q{i}"
    blas += f"  call void %f({', '.join(f'ptr {each}' for each in given)})"
    text = NATIVE.replace("PHIS", phis).replace("STEPS", steps).replace("SUMS", sums).replace("LAST", "14")
    return text.replace("STEP", step).replace("BLAS", blas)


def loads(table: str, count: int) -> str:
    return "".join(
        f"  %l{i} = getelementptr ptr, ptr %{table}, i64 {i}\n  %p{i} = load ptr, ptr %l{i}\n" for i in range(count)
    )


class Native:
    """The three loops, compiled for this machine."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features().flatten() + ",-prefer-256-bit"
        target = llvm.Target.from_default_triple()
        machine = target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=2)
        module = llvm.parse_assembly(native_text())
        self.engine = llvm.create_mcjit_compiler(module, machine)
        self.engine.finalize_object()
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.peak = ctypes.CFUNCTYPE(ctypes.c_double, number)(self.engine.get_function_address("peak"))
        self.step = ctypes.CFUNCTYPE(None, pointer, pointer, number)(self.engine.get_function_address("step"))
        kinds = (pointer, pointer, number, pointer, pointer, number)
        self.blas = ctypes.CFUNCTYPE(None, *kinds)(self.engine.get_function_address("blas"))


@dataclass(frozen=True)
class Case:
    """C[m, n] = A[m, k] B[k, n], the letters saying which operand lies transposed in memory, `batch` of them."""

    group: str
    m: int
    k: int
    n: int
    form: str = "AB"
    batch: int = 1
    epilogue: str = ""

    @property
    def name(self) -> str:
        stack = f"{self.batch}x " if self.batch > 1 else ""
        return f"{stack}{self.m}x{self.k}x{self.n} {self.form} {self.epilogue}".strip()

    @property
    def flops(self) -> float:
        return 2.0 * self.m * self.k * self.n * self.batch

    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        left = (self.k, self.m) if self.form.startswith("At") else (self.m, self.k)
        right = (self.n, self.k) if self.form.endswith("Bt") else (self.k, self.n)
        stack = (self.batch,) if self.batch > 1 else ()
        return (*stack, *left), (*stack, *right)


FORMS = ("AB", "AtB", "ABt")
CASES = [
    *(Case("square", n, n, n) for n in (256, 512, 1024, 2048)),
    Case("mlp", 256, 784, 256), Case("mlp", 784, 256, 256, "AtB"), Case("mlp", 256, 784, 256, "ABt"),
    Case("mlp", 256, 256, 784, "ABt"), Case("mlp", 256, 256, 784, "AtB"),
    *(Case("wide", 512, 1024, 1024, form) for form in FORMS), Case("wide", 1024, 512, 1024, "AtB"),
    *(Case("epilogue", 256, 784, 256, form, epilogue="relu") for form in ("AB", "ABt")),
    *(Case("epilogue", 784, 256, 256, "AtB", epilogue=epilogue) for epilogue in ("sgd", "adamw")),
    Case("epilogue", 512, 1024, 1024, "ABt", epilogue="relu"),
    Case("epilogue", 1024, 512, 1024, "AtB", epilogue="sgd"),
    Case("ten", 256, 784, 10), Case("ten", 784, 256, 10, "AtB"), Case("ten", 256, 10, 784, "ABt"),
    Case("ten", 256, 784, 10, "ABt"), Case("ten", 10, 256, 784, "AtB"), Case("ten", 256, 10, 784),
    Case("ten", 256, 256, 10), Case("ten", 256, 256, 10, "ABt"), Case("ten", 256, 256, 10, "AtB"),
    Case("ten", 256, 10, 256, "ABt"), Case("ten", 256, 10, 256), Case("ten", 10, 256, 256, "AtB"),
    *(Case("small", 32, 64, 64, form) for form in FORMS), Case("small", 64, 32, 64, "AtB"),
    *(Case("small", 64, k, n, "ABt") for k, n in ((400, 120), (120, 84), (84, 10))),
    *(Case("small", n, 64, k, "AtB") for k, n in ((400, 120), (120, 84), (84, 10))),
    *(Case("small", 64, n, k) for k, n in ((400, 120), (120, 84), (84, 10))),
    Case("lstm", 32, 64, 512, "ABt"), Case("lstm", 32, 128, 512, "ABt"), Case("lstm", 32, 512, 128),
    Case("lstm", 16, 256, 256, "ABt"),
    Case("lstm", 512, 32, 128, "AtB"),
    Case("batched", 64, 32, 64, "ABt", 64), Case("batched", 64, 64, 32, "AB", 64),
    Case("batched", 64, 64, 32, "AtB", 64),    Case("batched", 16, 16, 16, "AB", 256),
    *(Case("deep", m, 4096, n, "AtB") for m, n in ((512, 128), (128, 512), (128, 128))),
    *(Case("skinny", 1, 512, 512, form) for form in ("AB", "ABt")),
    Case("skinny", 4, 512, 512), Case("skinny", 4, 512, 512, "ABt"),
    Case("skinny", 1024, 4, 1024), Case("skinny", 512, 512, 4), Case("skinny", 512, 512, 20),
    Case("skinny", 512, 512, 32),    Case("skinny", 512, 512, 16, "AtB"),
    Case("skinny", 3, 3, 3, batch=100), Case("skinny", 10, 2, 1),
]  # fmt: skip


def build(case: Case, a: np.ndarray, b: np.ndarray):
    """graphc's function of the product."""

    def product(a, b):
        return gx.matmul(a.mT if case.form.startswith("At") else a, b.mT if case.form.endswith("Bt") else b)

    x, y = gx.input("a", gx.f32[a.shape]), gx.input("b", gx.f32[b.shape])
    out = product(x, y)
    if not case.epilogue:
        function = gx.function([x, y], out)
        np.testing.assert_allclose(function(a, b), numpy_product(case, a, b), rtol=1e-3, atol=1e-3)
        return function
    if case.epilogue == "relu":
        return gx.function([x, y], gx.relu(out + gx.parameter("bias", np.zeros(case.n, np.float32))))
    w, first, second = (gx.parameter(name, np.ones((case.m, case.n), np.float32)) for name in ("w", "m", "v"))
    if case.epilogue == "sgd":
        return gx.function([x, y], [], updates={w: w - RATE * out})
    moved, scaled = 0.9 * first + 0.1 * out, 0.999 * second + 0.001 * out * out
    new = w * (1 - RATE) - RATE * moved / (gx.sqrt(scaled) + 1e-8)
    return gx.function([x, y], [], updates={w: new, first: moved, second: scaled})


def numpy_product(case: Case, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(float), b.astype(float)
    return (a.swapaxes(-1, -2) if case.form.startswith("At") else a) @ (
        b.swapaxes(-1, -2) if case.form.endswith("Bt") else b
    )


def graphc_loop(native: Native, case: Case, a: np.ndarray, b: np.ndarray):
    """(times -> None) that runs graphc's step natively."""
    function = build(case, a, b)
    runner = function.runner
    status, kept = runner.step([a, b], [])
    assert status == 0
    told = (runner.state_table, runner.work, runner.input_table, runner.sizes, runner.scalars, runner.result_table)
    table = (ctypes.c_void_p * 6)(*map(address, told))
    code = ctypes.cast(runner.functions["step"], ctypes.c_void_p)
    keep = (function, kept, table, told, a, b)
    return lambda times, keep=keep: native.step(code, table, times)


def blas_loop(native: Native, code, width, case: Case, a: np.ndarray, b: np.ndarray):
    """(times -> None) that calls a Fortran sgemm; row-major C = A B is column-major Cᵀ = Bᵀ Aᵀ."""
    c = np.zeros((case.batch, case.m, case.n), np.float32)
    letters = [ctypes.c_char(b"T" if bad else b"N") for bad in (case.form.endswith("Bt"), case.form.startswith("At"))]
    n, m, k, ldb, lda, ldc = (width(each) for each in (case.n, case.m, case.k, b.shape[-1], a.shape[-1], case.n))
    alpha, beta = ctypes.c_float(1), ctypes.c_float(0)
    numbers = [*letters, n, m, k, alpha, None, ldb, None, lda, beta, None, ldc]
    places = [each if each is None else ctypes.addressof(each) for each in numbers]
    places[6], places[8], places[11] = b.ctypes.data, a.ctypes.data, c.ctypes.data
    table = (ctypes.c_void_p * 13)(*places)
    moves = (ctypes.c_int64 * 3)(*(4 * each.size // case.batch for each in (b, a, c)))
    keep = (numbers, table, moves, a, b, c)
    run = lambda times, keep=keep: native.blas(code, table, case.batch, None, moves, times)  # noqa: E731
    run(1)
    np.testing.assert_allclose(c.reshape(-1), numpy_product(case, a, b).reshape(-1), rtol=1e-3, atol=1e-3)
    return run


def libraries():
    """name: (address of sgemm_, its integer type)."""
    found = {}
    for path in Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*"):
        found["openblas"] = (ctypes.cast(ctypes.CDLL(str(path)).scipy_sgemm_64_, ctypes.c_void_p), ctypes.c_int64)
    try:
        import torch
    except ImportError:
        return found
    torch.set_num_threads(1)
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    found["mkl"] = (ctypes.cast(ctypes.CDLL(str(path)).sgemm_, ctypes.c_void_p), ctypes.c_int32)
    return found


def seconds(run, times) -> float:
    """Of this thread's own time a run: other processes on the core do not count."""
    start = time.thread_time()
    run(times)
    return (time.thread_time() - start) / times


def measure(native: Native, case: Case, rounds: int, peers, peak: float):
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape).astype(np.float32) for shape in case.shapes())
    runs = {"graphc": graphc_loop(native, case, a, b)}
    runs |= {name: blas_loop(native, *peer, case, a, b) for name, peer in peers.items()}
    times = {name: max(1, int(SLICE / seconds(run, max(1, int(1e6 / case.flops))))) for name, run in runs.items()}
    taken = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(seconds(run, times[name]))
    ours = statistics.median(taken["graphc"])
    pairs = {name: zip(taken["graphc"], taken[name], strict=True) for name in peers}
    ratios = {name: statistics.median(theirs / ours for ours, theirs in both) for name, both in pairs.items()}
    quickest = min(min(taken[name]) for name in peers) / min(taken["graphc"])
    return {
        "case": case.name,
        "graphc_us": round(1e6 * ours, 2),
        **{f"{name}_us": round(1e6 * statistics.median(taken[name]), 2) for name in peers},
        **{f"vs_{name}": round(ratio, 2) for name, ratio in ratios.items()},
        "vs_best": round(min(ratios.values()), 2),
        "quickest": round(quickest, 2),
        "of_peak": round(case.flops / min(taken["graphc"]) / peak, 3),
    }


def peak_of(native: Native) -> float:
    """Floating-point operations a second of fused multiply-adds in registers."""
    times = 200_000
    return max(16 * 16 * 2 / seconds(native.peak, times) for _ in range(10))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help="a group, or part of a case's name")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    native, peers = Native(), libraries()
    peak = peak_of(native)
    print(f"peak {peak / 1e9:.0f} GF/s", flush=True)
    rows = []
    for case in CASES:
        if options.case and not any(word == case.group or word in case.name for word in options.case):
            continue
        rows.append(row := measure(native, case, options.rounds, peers, peak))
        if len(rows) == 1:
            print("".join(f"{key:>26}" if key == "case" else f"{key:>12}" for key in row))
        print("".join(f"{value:>26}" if key == "case" else f"{value:>12}" for key, value in row.items()), flush=True)
    if options.json:
        about = {"machine": platform.machine(), "numpy": np.__version__, "peak_gflops": round(peak / 1e9)}
        options.json.write_text(json.dumps({"about": about, "products": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
