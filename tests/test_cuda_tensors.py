"""Products by tensor cores, emulated: operands are rounded as stated, sums are of float32."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from test_cuda import multiplied, run_with

import graphc as gx
from graphc import nn, optim
from graphc.backends.cuda.assembler import assemble
from graphc.backends.cuda.emulation.machine import Emulator
from graphc.backends.cuda.emulation.watched import Watched
from graphc.backends.cuda.plan import draw
from graphc.backends.cuda.ptx import ARCHITECTURES, compile_modules, modules

Array = np.ndarray
BITS = {"tf32": 10, "bf16": 7}  # behind the point


def rounded(x: Array, precision: str) -> Array:
    """The nearest numbers with so many bits."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    scale = 2.0 ** (BITS[precision] + 1)
    whole = np.rint(mantissa * scale) if precision == "bf16" else np.trunc(mantissa * scale + np.copysign(0.5, x))
    return np.ldexp(whole / scale, exponent)


@pytest.mark.parametrize("precision", BITS)
@pytest.mark.parametrize(
    ("sizes", "shape"),
    [((4096, 100, 4096), (131, 33, 140)), ((64, 40, 70), (63, 40, 65)), ((64, 600, 64), (40, 601 - 1, 33))],
)
def test_operands_are_rounded(
    sizes: tuple[int, int, int], shape: tuple[int, int, int], precision: str, rng: np.random.Generator
) -> None:
    function, (a, b) = multiplied(sizes, shape, rng)
    a, b = a - np.float32(0.5), b - np.float32(0.5)
    drawing = draw(function.artifact.program.graph, precision=precision)
    assert any("tensor_product" in kernel.text for kernel in drawing.kernels)
    _, results = run_with(function, Emulator(drawing), (a, b))
    bound = np.abs(a).astype(np.float64) @ np.abs(b)
    assert np.all(np.abs(results["c"] - rounded(a, precision) @ rounded(b, precision)) <= 3e-6 * bound)
    exact = np.abs(results["c"] - a.astype(np.float64) @ b)
    assert np.all(exact <= 2.0 ** -BITS[precision] * bound) and np.any(exact > 1e-5 * bound)


def test_what_is_no_number_or_not_finite_stays_so(rng: np.random.Generator) -> None:
    function, (a, b) = multiplied((64, 32, 64), (40, 20, 33), rng)
    a[1, 2], a[3, 4], a[5, 6] = np.inf, np.nan, np.uint32(0x7FFFFFFF).view(np.float32)
    for precision in BITS:
        drawing = draw(function.artifact.program.graph, precision=precision)
        _, results = run_with(function, Emulator(drawing), (a, b))
        assert np.all(results["c"][1] == np.inf) and np.isnan(results["c"][[3, 5]]).all()
        assert np.isfinite(results["c"][6:]).all()


def test_threads_of_tensor_cores_keep_to_themselves(rng: np.random.Generator) -> None:
    function, batch = multiplied((64, 32, 64), (40, 17, 33), rng)
    drawing = draw(function.artifact.program.graph, precision="tf32")
    _, results = run_with(function, Watched(drawing), batch)
    _, expected = run_with(function, Emulator(drawing), batch)
    np.testing.assert_allclose(results["c"], expected["c"], rtol=1e-6)


def test_small_products_and_others_than_f32_are_not_rounded(rng: np.random.Generator) -> None:
    function, _ = multiplied((64, 32, 20), (40, 17, 20), rng)
    a, b = gx.input("a", gx.f64[64, 64]), gx.input("b", gx.f64[64, 64])
    for each in (function, gx.function([a, b], {"c": a @ b})):
        drawing = draw(each.artifact.program.graph, precision="tf32")
        assert not any("tensor_product" in kernel.text for kernel in drawing.kernels)


def test_a_step_learns_with_rounded_products(rng: np.random.Generator) -> None:
    """Weights are of float32: a step changes them by less than the operands are rounded by."""
    net = nn.Sequential(nn.Linear(48, 40), nn.Tanh(), nn.Linear(40, 36))
    x, y = gx.f32["batch", 48], gx.i64["batch"]
    step = gx.train_step(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.01), x=x, y=y)
    batch = rng.random((50, 48), np.float32), rng.integers(0, 36, 50)
    emulated = Emulator(draw(step.artifact.program.graph, precision="bf16"))
    before = {name: parameter.storage.array.copy() for name, parameter in step.parameters.items()}
    status, results = run_with(step, emulated, batch)
    _, found = step.run_fitted(*step.fit(batch))
    assert status == 0 and abs(float(results["loss"]) - float(found[0])) < 0.02
    for name, array in emulated.get("state", {}).items():
        change, expected = array - before[name], step.parameters[name].storage.array - before[name]
        assert np.linalg.norm(change - expected) <= 0.05 * np.linalg.norm(expected)
        assert np.any(change != 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tensor_cores_are_in_the_ptx(architecture: str, rng: np.random.Generator) -> None:
    for size, instructions in ((4096, 16), (64, 4)):
        function, _ = multiplied((size, 64, size), (3, 3, 3), rng)
        drawing = draw(function.artifact.program.graph, precision="tf32")
        text = compile_modules(modules(drawing), drawing.program.kernels, architecture)
        found = re.findall(r"mma\.sync\.aligned\.m16n8k8\.row\.col\.f32\.tf32\.tf32\.f32", text)
        assert len(found) == instructions
        for each in assemble(text, architecture).values():
            print(f"{architecture} {size}: {each.registers} registers")
            assert each.spilled_bytes == each.local_bytes == 0


def test_both_lowerings_know_tensor_cores(rng: np.random.Generator) -> None:
    function, _ = multiplied((64, 64, 64), (3, 3, 3), rng)
    drawing = draw(function.artifact.program.graph, precision="tf32")
    wide = tuple(
        replace(made, pieces=tuple(replace(each, kernel=replace(each.kernel, narrow=False)) for each in made.pieces))
        for made in drawing.entries
    )
    drawing = replace(drawing, entries=wide)
    texts = {
        compile_modules(modules(drawing, codegen), drawing.program.kernels, "sm_80") for codegen in ("numba", "direct")
    }
    assert len(texts) == 1
