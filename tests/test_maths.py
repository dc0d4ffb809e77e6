"""The elementary functions: errors in ulp over every class of floats, special values, scalars against vectors."""

from __future__ import annotations

import ctypes
import math
import platform
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest

from graphc.backends import maths, primitives
from graphc.backends.artifact import closure
from graphc.backends.loading import load_object
from graphc.backends.lower import lower
from graphc.backends.primitives import LANES, Codegen, Kernel, element_of, is_vector
from graphc.backends.target import TARGETS, X86_64_V2, Target, build, host

Array = np.ndarray[Any, Any]
Native = dict[str, Callable[..., Array]]

TYPES = ("f32", "f32x16", "f64", "f64x16")
BINARY = [name for name in sorted(maths.FUNCTIONS) if len(maths.instance(name, "f64").parameters) == 2]
UNARY = sorted(set(maths.FUNCTIONS) - set(BINARY))
# The largest errors allowed, in ulp, just above those measured.
SINGLE_BOUNDS = {
    "acos": 1.2, "acosh": 1.95, "asin": 1.7, "asinh": 1.8, "atan": 1.9, "atan2": 1.9, "atanh": 1.75, "cos": 1.6,
    "cosh": 1.6, "erf": 1.95, "exp": 1.1, "exp2": 1.3, "expm1": 1.7, "fmod": 0, "log": 0.95, "log10": 1.0,
    "log1p": 1.5, "log2": 1.1, "pow": 1.35, "rsqrt": 1.5, "sigmoid": 1.7, "sin": 1.6, "sinh": 2.0,
    "softplus": 1.8, "tan": 0.55, "tanh": 1.95,
}  # fmt: skip
DOUBLE_BOUNDS = {
    "acos": 1.2, "acosh": 2.0, "asin": 1.65, "asinh": 2.0, "atan": 1.85, "atan2": 1.85, "atanh": 1.95, "cos": 1.6,
    "cosh": 1.5, "erf": 1.7, "exp": 1.0, "exp2": 1.3, "expm1": 1.7, "fmod": 0, "log": 1.3, "log10": 0.9,
    "log1p": 1.7, "log2": 0.95, "pow": 1.7, "rsqrt": 1.5, "sigmoid": 1.7, "sin": 1.6, "sinh": 2.0,
    "softplus": 1.95, "tan": 2.9, "tanh": 1.95,
}  # fmt: skip
PHASED = ("cos", "sin", "tan")
PHASE_LOST = 2.0**50  # sin, cos and tan are NaN from here on
PHASE_LOST_WITHOUT_FMA = 2.0**20


# --- native functions of arrays ---------------------------------------------------------------------------------------


def mapping(name: str, kind: str) -> Kernel:
    """The kernel that applies a function to arrays, by elements or by vectors."""
    function = maths.instance(name, kind)
    step, suffix = (LANES, "_lanes") if is_vector(kind) else (1, "")
    names = [parameter for parameter, _ in function.parameters]
    loaded = ", ".join(f"load{suffix}({parameter}, i)" for parameter in names)
    text = (
        f"def mapping({', '.join(names)}, out, count):\n"
        f"    for i in range(0, count, {step}):\n"
        f"        store{suffix}(out, i, {name}({loaded}))\n"
    )
    pointers = tuple((parameter, f"{element_of(kind)}*") for parameter in (*names, "out"))
    return Kernel(f"mapping_{function.name}", text, (*pointers, ("count", "i64")), inline=False, calls=(function,))


def build_mappings(kinds: Iterable[str], target: Target, codegen: Codegen = "auto") -> tuple[bytes, list[Kernel]]:
    kernels = [mapping(name, kind) for kind in kinds for name in maths.FUNCTIONS]
    return build(
        [lowered(each, codegen) for each in closure(kernels)], [kernel.name for kernel in kernels], target
    ), kernels


lowered = cache(lower)


def load_mappings(kinds: Iterable[str], target: Target, codegen: Codegen = "auto") -> Native:
    """For each "exp_f32x16" a function of arrays whose length is a multiple of 16."""
    data, kernels = build_mappings(kinds, target, codegen)
    engine = load_object(data)

    def function(kernel: Kernel) -> Callable[..., Array]:
        prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(kernel.parameters) - 1), ctypes.c_int64)

        def call(*arrays: Array) -> Array:
            entry = prototype(engine.get_function_address(kernel.name))  # the code lives as long as the engine
            assert arrays[0].size % LANES == 0 and all(array.flags.c_contiguous for array in arrays)
            out = np.empty_like(arrays[0])
            entry(*(array.ctypes.data for array in arrays), out.ctypes.data, out.size)
            return out

        return call

    return {kernel.name.removeprefix("mapping_"): function(kernel) for kernel in kernels}


@pytest.fixture(scope="module")
def native() -> Native:
    return load_mappings(TYPES, host())


# --- references, in f64 or in long double -----------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    t = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, t, 1) / (1 + t))


def softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def erf(x: Array) -> Array:
    """2 / sqrt(pi) e^-x^2 sum of 2^n x^(2n+1) / (1 3 5 ... (2n+1)): all terms of one sign."""
    if x.dtype == np.float64:
        return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))
    inside = np.clip(x, -7, 7)
    term = total = inside
    for n in range(1, 220):
        term = term * (2 * inside * inside / (2 * n + 1))
        total = total + term
    return np.asarray(total * np.exp(-inside * inside) / np.sqrt(np.arctan(x.dtype.type(1))))


def rsqrt(x: Array) -> Array:
    return np.asarray(1 / np.sqrt(x))


def reference(name: str, dtype: type[Any], *x: Array) -> Array:
    """The function of x computed in `dtype`."""
    own: dict[str, Callable[..., Array]] = {
        "sigmoid": sigmoid,
        "softplus": softplus,
        "erf": erf,
        "rsqrt": rsqrt,
        "pow": np.power,
    }
    with np.errstate(all="ignore"):
        return np.asarray((own.get(name) or getattr(np, name))(*(each.astype(dtype) for each in x)))


def errors_in_ulp(got: Array, exact: Array) -> Array:
    """The distance to the exact value, in units of the last place of that value rounded; NaN and inf must agree."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        smallest = np.finfo(got.dtype).tiny
        units = np.spacing(np.maximum(np.abs(rounded), smallest)).astype(exact.dtype)
        distance = np.abs(got.astype(exact.dtype) - exact) / units
    same = (got == rounded) & (np.signbit(got) == np.signbit(rounded)) | np.isnan(got) & np.isnan(rounded)
    zero = (rounded == 0) & ~same & (got == 0)
    special = ~np.isfinite(rounded) | ~np.isfinite(got) | zero
    return np.where(special, np.where(same, 0, np.inf), distance).astype(np.float64)


def check(name: str, got: Array, exact: Array, bound: float, *x: Array) -> None:
    errors = errors_in_ulp(got, exact)
    worst = int(np.argmax(errors))
    at = ", ".join(repr(each[worst]) for each in x)
    print(f"{name}: {errors[worst]:.3f} ulp at {at}")
    assert errors[worst] <= bound, f"{name}({at}) = {got[worst]!r}, exactly {exact[worst]!r}: {errors[worst]:.3f} ulp"


# --- arguments --------------------------------------------------------------------------------------------------------


def special_values(dtype: type[Any]) -> Array:
    """Zeros, infinities, NaNs, and both sides of every boundary between classes and of overflow and underflow."""
    limits = np.finfo(dtype)
    edges = [limits.smallest_subnormal, limits.tiny, limits.max, 1, 2, 0.5, np.pi, limits.maxexp * np.log(2)]
    edges += [-np.log(float(limits.tiny)), 103.972, 104, 745.13, 745.14, 1e-8, 1e-20, 87.3, 708.4]
    with np.errstate(over="ignore"):
        near = np.array(edges, dtype)
        around = np.concatenate([near, np.nextafter(near, dtype(0)), np.nextafter(near, dtype(np.inf))])
    values = np.concatenate([around, -around, np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan], dtype)])
    return np.resize(values, -(-values.size // LANES) * LANES)


@cache
def every_class() -> Array:
    """A million f32 bit patterns evenly through all of them, 400,000 ordinary numbers and the special values."""
    random = np.random.default_rng(1)
    bits = np.linspace(0, 2**32 - 1, 1_000_000).astype(np.uint32).view(np.float32)
    ranges = [random.uniform(low, high, 100_000) for low, high in ((-1, 1), (-10, 10), (0.4, 1.6), (-105, 90))]
    return np.concatenate([bits, np.concatenate(ranges).astype(np.float32), special_values(np.float32)])


def doubles() -> Array:
    random = np.random.default_rng(2)
    ranges = [random.uniform(low, high, 4096) for low, high in ((-1, 1), (-6, 6), (0.4, 1.6), (-746, 710), (-1e6, 1e6))]
    powers = 10 ** random.uniform(-307, 307, 4096) * random.choice([-1.0, 1.0], 4096)
    bits = random.integers(0, 2**64, 4096, np.uint64).view(np.float64)
    return np.concatenate([*ranges, powers, bits, special_values(np.float64)])


def with_phase(name: str, x: Array, limit: float = PHASE_LOST) -> Array:
    return np.where(np.abs(x) < limit, x, x.dtype.type(np.nan)) if name in PHASED else x


# --- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNARY)
def test_single_precision_over_every_class_of_floats(native: Native, name: str) -> None:
    x = every_class()
    exact = reference(name, np.float64, with_phase(name, x))
    check(name, native[f"{name}_f32x16"](x), exact, SINGLE_BOUNDS[name], x)


@pytest.mark.parametrize("name", UNARY)
def test_double_precision(native: Native, name: str) -> None:
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long double is no wider than double here")
    x = doubles()
    exact = reference(name, np.longdouble, with_phase(name, x))
    check(name, native[f"{name}_f64x16"](x), exact, DOUBLE_BOUNDS[name], x)


def power_arguments(dtype: type[Any]) -> tuple[Array, Array]:
    random = np.random.default_rng(3)
    largest = np.finfo(dtype).maxexp
    bases = [
        random.uniform(0.5, 2, 8192),
        2 ** random.uniform(-largest, largest, 8192),
        random.integers(-20, 20, 8192).astype(np.float64),
        random.uniform(1.3, 1.42, 8192),
        1 + random.normal(size=8192) * 1e-5,
    ]
    exponents = [
        random.uniform(-largest, largest, 8192),
        random.uniform(-1.2, 1.2, 8192),
        random.integers(-30, 30, 8192).astype(np.float64),
        random.uniform(1.8, 2.1, 8192) * largest,
        random.normal(size=8192) * 1e6,
    ]
    return np.concatenate(bases).astype(dtype), np.concatenate(exponents).astype(dtype)


def point_arguments(dtype: type[Any]) -> tuple[Array, Array]:
    """Pairs of ordinary numbers, of all magnitudes, and of all special values."""
    random = np.random.default_rng(6)
    limits = np.finfo(dtype)
    powers = [2.0 ** random.uniform(limits.minexp, limits.maxexp, 8192) for _ in range(2)]
    ordinary = [random.normal(size=8192) for _ in range(2)]
    special = [axis.ravel() for axis in np.meshgrid(special_values(dtype), special_values(dtype))]
    x, y = (np.concatenate(each).astype(dtype) for each in zip(powers, ordinary, special, strict=True))
    return x, y


def binary_arguments(name: str, dtype: type[Any]) -> tuple[Array, Array]:
    return power_arguments(dtype) if name == "pow" else point_arguments(dtype)


@pytest.mark.parametrize("name", BINARY)
def test_two_arguments_in_single_precision(native: Native, name: str) -> None:
    x, y = binary_arguments(name, np.float32)
    exact = reference(name, np.float64, x, y)
    check(name, native[f"{name}_f32x16"](x, y), exact, SINGLE_BOUNDS[name], x, y)


@pytest.mark.parametrize("name", BINARY)
def test_two_arguments_in_double_precision(native: Native, name: str) -> None:
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long double is no wider than double here")
    x, y = binary_arguments(name, np.float64)
    exact = reference(name, np.longdouble, x, y)
    check(name, native[f"{name}_f64x16"](x, y), exact, DOUBLE_BOUNDS[name], x, y)


def test_powers_of_a_base_have_whole_logarithms(native: Native) -> None:
    tens, twos = np.arange(-304.0, 304), np.arange(-1072.0, 1024)
    np.testing.assert_array_equal(native["log10_f64x16"](10.0**tens), tens)
    np.testing.assert_array_equal(native["log2_f64x16"](2.0**twos), twos)
    np.testing.assert_array_equal(native["exp2_f64x16"](twos), 2.0**twos)
    tens, twos = np.arange(16, dtype=np.float32) % 11, np.arange(-144, 128, dtype=np.float32)
    np.testing.assert_array_equal(native["log10_f32x16"](np.float32(10) ** tens), tens)
    np.testing.assert_array_equal(native["log2_f32x16"](np.float32(2) ** twos), twos)
    np.testing.assert_array_equal(native["exp2_f32x16"](twos), np.float32(2) ** twos)


INF, NAN = math.inf, math.nan
POWERS = [  # C, Annex F.10.4.4
    (0.0, -3.0, INF), (-0.0, -3.0, -INF), (0.0, -2.0, INF), (-0.0, -2.0, INF), (-0.0, -2.5, INF), (0.0, -INF, INF),
    (-0.0, -INF, INF), (0.0, 3.0, 0.0), (-0.0, 3.0, -0.0), (-0.0, 2.0, 0.0), (-0.0, 2.5, 0.0), (-1.0, INF, 1.0),
    (-1.0, -INF, 1.0), (1.0, NAN, 1.0), (1.0, INF, 1.0), (-1.0, NAN, NAN), (NAN, 0.0, 1.0), (NAN, -0.0, 1.0),
    (INF, 0.0, 1.0), (0.0, 0.0, 1.0), (-2.0, 0.5, NAN), (-2.0, NAN, NAN), (NAN, 1.0, NAN), (0.5, -INF, INF),
    (-0.5, -INF, INF), (2.0, -INF, 0.0), (-2.0, -INF, 0.0), (0.5, INF, 0.0), (2.0, INF, INF), (-2.0, INF, INF),
    (-INF, -3.0, -0.0), (-INF, -2.0, 0.0), (-INF, -2.5, 0.0), (-INF, 3.0, -INF), (-INF, 2.0, INF), (-INF, 2.5, INF),
    (INF, -1.0, 0.0), (INF, 1.0, INF), (-2.0, 3.0, -8.0), (-2.0, 4.0, 16.0), (-4.0, -1.0, -0.25), (-2.0, 1e30, INF),
    (2.0, -1e30, 0.0), (1e-30, 1e30, 0.0), (10.0, 2.0, 100.0), (3.0, 5.0, 243.0), (-2.0, 16777215.0, -INF),
    (4.0, 0.5, 2.0),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_pow_has_the_special_values_of_c(native: Native, kind: str) -> None:
    assert len(POWERS) % LANES == 0
    x, y, expected = np.array(POWERS, primitives.ELEMENTS[kind]).T.copy()
    got = native[f"pow_{kind}x16"](x, y)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(expected[got == 0]))


def test_pow_of_small_integers_is_exact(native: Native) -> None:
    x, y = (axis.ravel().astype(np.float64) for axis in np.meshgrid(np.arange(-40, 40), np.arange(8)))
    np.testing.assert_array_equal(native["pow_f64x16"](x, y), x**y)


@pytest.mark.parametrize("kind", ["f32", "f64"])
@pytest.mark.parametrize("name", sorted(maths.FUNCTIONS))
def test_scalar_and_lane_give_the_same_bits(native: Native, name: str, kind: str) -> None:
    x = every_class()[::16] if kind == "f32" else doubles()
    x = x[: x.size // LANES * LANES].copy()
    arguments = (x, x[::-1].copy()) if name in BINARY else (x,)
    scalar, vector = native[f"{name}_{kind}"](*arguments), native[f"{name}_{kind}x16"](*arguments)
    integer = np.dtype(f"i{x.itemsize}")
    number = ~(np.isnan(scalar) & np.isnan(vector))
    np.testing.assert_array_equal(scalar.view(integer)[number], vector.view(integer)[number])


@pytest.mark.parametrize("kind", ["f32", "f64x16"])
@pytest.mark.parametrize("name", sorted(maths.FUNCTIONS))
def test_uncompiled_gives_the_same_bits(native: Native, name: str, kind: str) -> None:
    dtype = primitives.ELEMENTS[element_of(kind)]
    x = np.concatenate([special_values(dtype)[: 3 * LANES], np.random.default_rng(4).normal(size=LANES).astype(dtype)])
    arguments = (x, x[::-1].copy()) if name in BINARY else (x,)
    got = np.empty_like(x)
    primitives.run(mapping(name, kind), *arguments, got, x.size)
    np.testing.assert_array_equal(got, native[f"{name}_{kind}"](*arguments))


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="runs code for x86-64")
def test_bounds_hold_without_fused_multiply_add() -> None:
    plain = load_mappings(["f32x16"], X86_64_V2)
    x = every_class()[::8]
    x = x[: x.size // LANES * LANES].copy()
    for name in UNARY:
        got = plain[f"{name}_f32x16"](x)
        phase = with_phase(name, x, PHASE_LOST_WITHOUT_FMA)
        exact = reference(name, np.float64, phase)
        check(name, np.where(np.isnan(phase), phase, got) if phase is not x else got, exact, 2.0, x)
    for name in BINARY:
        x, y = binary_arguments(name, np.float32)
        check(name, plain[f"{name}_f32x16"](x, y), reference(name, np.float64, x, y), 2.0, x, y)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_no_target_needs_a_library(target: Target) -> None:
    data, _ = build_mappings(["f32x16", "f64"], target)  # which refuses undefined symbols
    assert data


def test_every_instance_has_its_symbol_and_plain_name() -> None:
    for name in maths.FUNCTIONS:
        for kind in TYPES:
            function = maths.instance(name, kind)
            assert (function.name, function.plain_name, function.returns) == (f"{name}_{kind}", name, kind)


def test_equal_names_mean_equal_kernels() -> None:
    seen: dict[str, Kernel] = {}
    for name in maths.FUNCTIONS:
        for kind in TYPES:
            for kernel in closure([maths.instance(name, kind)]):
                assert seen.setdefault(kernel.name, kernel) == kernel


@pytest.mark.parametrize(("name", "kind"), [("gamma", "f32"), ("exp", "i32"), ("exp", "f32x8")])
def test_unknown_functions_and_types_are_refused(name: str, kind: str) -> None:
    with pytest.raises(KeyError):
        maths.instance(name, kind)
