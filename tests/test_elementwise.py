"""Functions of one element at a time: PyTorch's numbers, NumPy's values for all dtypes, edges, wrong arguments."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import elementwise_cases
import numpy as np
import pytest
from calls import INPUTS, check_slopes, compare, gradient, run
from cotangents import rising
from refusals import check_refusal

import graphc as gx
from graphc import functional as F

with np.load(Path(__file__).parent / "golden" / "torch_elementwise.npz") as stored:
    TORCH = dict(stored)

# -- PyTorch's numbers

ROUGH = {"F.hardsigmoid(a)"}  # its slope is 1/6 rounded to f32 in PyTorch even for f64


def parts(call, count):
    """The value of a call and its gradients with respect to `count` operands, as functions of these."""

    def value(*given):
        return eval(call, {"torch": gx, "F": F, **dict(zip(INPUTS, given))})

    def slope(number, *given):
        result = value(*given)
        return gradient((result * rising(result.shape)).sum(), given[number])

    return [value, *(partial(slope, number) for number in range(count))]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("group", elementwise_cases.CASES)
def test_value_and_gradient_are_pytorchs(group, dtype):
    arrays = [
        array.astype({"f32": np.float32, "f64": np.float64}[dtype]) for array in elementwise_cases.operands(group)
    ]
    calls = elementwise_cases.CASES[group]
    functions = {(call, n): part for call in calls for n, part in enumerate(parts(call, len(arrays)))}
    found = run({f"{call}, {n}": function for (call, n), function in functions.items()}, *arrays)
    for call in calls:
        close = 1e-5 if dtype == "f32" else 1e-7 if call in ROUGH else 1e-10
        for way, name in enumerate(("native", "reference")):
            got = np.concatenate([found[f"{call}, {n}"][way].ravel() for n in range(len(arrays) + 1)])
            np.testing.assert_allclose(got, TORCH[f"{group}|{call}"], close, close, err_msg=f"{call}, {name}")


# -- NumPy's values

UNARY = {
    name: (getattr(F, name), getattr(np, name))
    for name in (
        "abs", "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "ceil", "cos", "cosh",
        "deg2rad", "degrees", "exp", "exp2", "expm1", "fix", "floor", "isfinite", "isinf", "isnan", "log", "log10",
        "log1p", "log2", "logical_not", "nan_to_num", "negative", "positive", "rad2deg", "radians", "reciprocal",
        "rint", "round", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
    )
}  # fmt: skip
BINARY = {
    name: (getattr(F, name), getattr(np, name))
    for name in (
        "add", "arctan2", "divide", "equal", "floor_divide", "fmax", "fmin", "fmod", "greater", "greater_equal",
        "heaviside", "hypot", "isclose", "less", "less_equal", "logaddexp", "logical_and", "logical_or", "logical_xor",
        "maximum", "minimum", "mod", "multiply", "not_equal", "power", "remainder", "subtract", "true_divide",
    )
}  # fmt: skip
OF_NUMBERS = {name: BINARY[name] for name in BINARY if name not in ("arctan2", "divide", "heaviside", "hypot", "power")}
OF_BITS = {
    name: (getattr(F, name), getattr(np, name))
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift")
}
OPERATORS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "//": lambda a, b: a // b,
    "%": lambda a, b: a % b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "unary": lambda a, b: -a + abs(b),
    "reflected": lambda a, b: (7 - a) + 7 // b + 7 % b + 3 * a,
}  # fmt: skip


def mixed(rng, dtype):
    """Numbers of both signs, whole ones, halves, zeros, and what floats have besides."""
    numbers = np.concatenate([rng.uniform(-3, 3, 24), np.arange(-4, 5) / 2, [100.5, -1e4, 1e30, -1e30]])
    return np.concatenate([numbers, [0.0, -0.0, math.inf, -math.inf, math.nan]]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_of_floats_are_numpys(dtype, rng):
    a = mixed(rng, dtype)
    angles = {name: UNARY[name] for name in ("sin", "cos", "tan")}
    largest = {"nan_to_num": (F.nan_to_num, lambda x: np.nan_to_num(x.astype(dtype)))}
    compare({name: pair for name, pair in UNARY.items() if name not in angles} | largest, a)
    compare(angles, np.where(np.abs(a) == 1e30, dtype(1), a))  # which has no phase left


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_of_two_floats_are_numpys(dtype, rng):
    a, b = mixed(rng, dtype), rng.permutation(mixed(rng, dtype))
    apart = np.isnan(a) ^ np.isnan(b)  # np.hypot knows better than to make NaN of an infinity and NaN
    b[apart & np.isinf(a) | apart & np.isinf(b)] = 1
    compare(BINARY | OPERATORS_OF_BOTH, a, b)


OPERATORS_OF_BOTH = {name: (function, function) for name, function in OPERATORS.items()}


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_functions_of_integers_are_numpys(dtype, rng):
    signed = dtype is not np.uint8
    a, b = rng.integers(-9 if signed else 0, 10, (2, 60)).astype(dtype)
    unary = (
        "abs",
        "ceil",
        "floor",
        "isfinite",
        "isnan",
        "isinf",
        "logical_not",
        "nan_to_num",
        "rint",
        "sign",
        "square",
    )
    functions = OF_NUMBERS | OF_BITS | {name: UNARY[name] for name in unary} | {"~": (lambda a, b: ~a, lambda a, b: ~a)}
    functions |= {"negative": (lambda a, b: -a, lambda a, b: -a)}
    if signed:
        functions |= OPERATORS_OF_BOTH
    first = {name: (lambda a, b, f=pair[0]: f(a), lambda a, b, f=pair[1]: f(a)) for name, pair in UNARY.items()}
    functions |= {name: first[name] for name in unary}
    for name in ("logaddexp", "true_divide", "isclose"):
        functions.pop(name)
    found = run({name: pair[0] for name, pair in functions.items()}, a, b)
    with np.errstate(all="ignore"):
        for name, (native, interpreted) in found.items():
            wanted = functions[name][1](a, b)
            np.testing.assert_array_equal(native, wanted, name)
            np.testing.assert_array_equal(interpreted, wanted, name)
            assert native.dtype in (dtype, np.bool_), name


def test_extreme_integers():
    for dtype in (np.int32, np.int64):
        limits = np.iinfo(dtype)
        a = np.array([limits.min, limits.max, limits.min, limits.max, limits.min, -7, 7, 0], dtype)
        b = np.array([1, -1, limits.max, limits.min, 3, -2, 0, 0], dtype)
        names = ("floor_divide", "remainder", "fmod", "add", "subtract", "multiply", "bitwise_and", "right_shift")
        functions = {name: (getattr(F, name), getattr(np, name)) for name in names}
        for name, (native, _) in run({name: pair[0] for name, pair in functions.items()}, a, b).items():
            with np.errstate(all="ignore"):
                np.testing.assert_array_equal(native, functions[name][1](a, b), name)


def test_functions_of_bools_are_numpys():
    a, b = (np.array(row, bool) for row in ([0, 0, 1, 1], [0, 1, 0, 1]))
    names = (
        "add", "multiply", "maximum", "minimum", "equal", "not_equal", "less", "less_equal", "greater", "logical_and",
        "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
    )  # fmt: skip
    functions = {name: (getattr(F, name), getattr(np, name)) for name in names}
    functions |= {"not": (lambda a, b: ~a, lambda a, b: ~a), "^": (lambda a, b: a ^ b,) * 2}
    functions |= {"where": (lambda a, b: F.where(a, b, ~b), lambda a, b: np.where(a, b, ~b))}
    functions |= {"numbers": (lambda a, b: a + 1.5 * b, lambda a, b: a + 1.5 * b), "count": (lambda a, b: a + 1,) * 2}
    compare(functions, a, b)
    assert all(each.dtype == bool for each, _ in run({name: functions[name][0] for name in names}, a, b).values())


def test_powers(rng):
    whole = rng.integers(-4, 5, 20)
    compare({str(n): (lambda a, n=n: a**n, lambda a, n=n: a**n) for n in (0, 1, 2, 3, 5, 8, 13)}, whole)
    real = rng.uniform(0.2, 3, 20)
    exponents = (0, 1, 2, 3.0, 4, 7, -1, -2, -3, 0.5, -0.5, 1.5, 2.5)
    compare({str(n): (lambda a, n=n: a**n, lambda a, n=n: a**n) for n in exponents}, real)
    check_slopes({str(n): lambda a, n=n: a**n for n in exponents}, real[:4])
    with pytest.raises(gx.DTypeError, match="no integer"):
        gx.input("x", gx.i64[3]) ** -1


def test_slopes_of_xlogy_at_zero():
    """By x it is log(y) there too, where y has one, as in PyTorch; by y it is 0."""
    x, y = gx.input("x", gx.f32[6]), gx.input("y", gx.f32[6])
    value = gx.xlogy(x, y)
    ends = [0, 0, -0.0, 0, 0, 2], [0.5, 0, -1, math.inf, math.nan, 4]
    found = gx.function([x, y], [value, *gx.grad(value.sum(), [x, y])])(*ends)
    np.testing.assert_array_equal(found[0], np.float32([0, 0, 0, 0, math.nan, 2 * math.log(4)]))
    np.testing.assert_allclose(found[1], [math.log(0.5), 0, 0, 0, math.nan, math.log(4)], rtol=1e-6)
    np.testing.assert_array_equal(found[2], [0, 0, 0, 0, math.nan, 0.5])


def test_names_are_methods_too():
    """What PyTorch's tensors have as a method, ours have, and it is the function of that name."""
    assert [name for name in TENSOR_METHODS if getattr(gx.Tensor, name, None) is not getattr(F, name)] == ["where"]
    condition, a, b = gx.input("c", gx.bool_[3]), gx.input("a", gx.f32[3]), gx.input("b", gx.f32[3])
    assert a.where(condition, b).value.operands == (condition.value, a.value, b.value)


TENSOR_METHODS = """
    abs absolute acos acosh add all amax amin any arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin
    asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp clip cos cosh
    count_nonzero deg2rad detach diag diagonal div divide eq erf exp exp2 expm1 fix flatten floor floor_divide fmax
    fmin fmod frac ge greater greater_equal gt heaviside hypot isclose isfinite isinf isnan le lerp less less_equal
    log log10 log1p log2 log_softmax logaddexp logical_and logical_not logical_or logical_xor logit logsumexp lt
    masked_fill max maximum mean min minimum mul multiply nan_to_num ne neg negative norm not_equal permute positive
    pow prod rad2deg reciprocal relu remainder reshape round rsqrt sigmoid sign sin sinh softmax sqrt square squeeze
    std sub subtract sum tan tanh trace tril triu true_divide trunc unsqueeze var where xlogy
""".split()  # noqa: SIM905


def test_numpys_functions_of_a_tensor(rng):
    a = rng.uniform(0.1, 0.9, (3, 4)).astype(np.float32)
    b = rng.uniform(1, 2, 4).astype(np.float32)
    names = (
        "exp",
        "arcsin",
        "floor_divide",
        "remainder",
        "power",
        "arctan2",
        "logical_xor",
        "isnan",
        "rint",
        "true_divide",
    )
    named = {name: getattr(np, name) for name in names}
    functions = {name: lambda a, b, f=f: f(a, b) if f.nin == 2 else f(a) for name, f in named.items()}
    compare({name: (function, function) for name, function in functions.items()}, a, b)
    both = {"left": (lambda a, b: np.float64(2) * a,) * 2, "array": (lambda a, b: np.ones(4, np.float32) - a,) * 2}
    compare(both, a, b)
    with pytest.raises(gx.TraceError, match=r"np\.cbrt needs numbers"):
        np.cbrt(gx.input("x", gx.f32[3]))
    with pytest.raises(gx.TraceError, match=r"np\.median needs numbers"):
        np.median(gx.input("x", gx.f32[3]))


# -- shapes

SHAPED = {
    "add": (F.add, np.add), "remainder": (F.remainder, np.remainder), "hypot": (F.hypot, np.hypot),
    "where": (lambda a, b: F.where(a > b, a, b), lambda a, b: np.where(a > b, a, b)),
    "lerp": (lambda a, b: F.lerp(a, b, 0.3), lambda a, b: a + 0.3 * (b - a)),
    "clip": (lambda a, b: F.clip(a, -1, b), lambda a, b: np.clip(a, -1, b)),
    "floor": (lambda a, b: F.floor(a * b), lambda a, b: np.floor(a * b)),
    "atan2": (F.atan2, np.arctan2),
}  # fmt: skip
SHAPES = [
    ((3, 4), (4,)), ((3, 1), (1, 4)), ((2, 1, 4), (3, 1)), ((), (5,)), ((1,), (1, 1)), ((), ()), ((0,), (1,)),
    ((0, 3), (3,)), ((2, 0, 3), (1, 1, 3)), ((17, 33), (17, 1)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_operands_are_broadcast_as_in_numpy(shapes, rng):
    compare(SHAPED, *(rng.uniform(0.5, 3, shape).astype(np.float32) for shape in shapes))


def test_transposed_operands(rng):
    a, b = rng.uniform(0.5, 3, (2, 4, 6))
    turned = {name: (lambda a, b, f=pair[0]: f(a.T, b.reshape(6, 4)), lambda a, b, f=pair[1]: f(a.T, b.reshape(6, 4)))
              for name, pair in SHAPED.items()}  # fmt: skip
    compare(turned, a, b)
    arrays = np.asfortranarray(a), b[::-1]
    compare(SHAPED, *arrays)


def test_symbolic_rows(rng):
    kinds = (gx.f32["batch", 5], gx.f32["batch", 1])
    for rows in (1, 7, 40):
        arrays = [rng.uniform(0.5, 3, (rows, width)).astype(np.float32) for width in (5, 1)]
        compare(SHAPED, *arrays, types=kinds)


# -- conversion


def test_conversion_is_numpys():
    a = np.array([-2.7, -1.0, 0.0, 0.4, 3.9], np.float32)
    kinds = {"float": np.float32, "double": np.float64, "int": np.int32, "long": np.int64, "bool": np.bool_}
    compare({name: (lambda a, n=name: getattr(a, n)(), lambda a, d=d: a.astype(d)) for name, d in kinds.items()}, a)
    x = gx.input("x", gx.f32[3])
    assert x.byte().type == x.to(gx.u8).type == x.astype("uint8").type == gx.u8[3]
    assert x.to(np.float64).type == x.type_as(gx.input("y", gx.f64[2])).type == gx.f64[3]
    assert F.cast(x, gx.i32).type == gx.i32[3] and x.to(gx.f32) is x
    for wrong in ("float16", "cuda", None, int.__add__):
        with pytest.raises(gx.DTypeError, match="no element type"):
            x.astype(wrong)


def test_constants_of_f64_beside_f64():
    a = np.array([0.1, 0.2])
    third = np.array([1 / 3, 2 / 3])
    compare({"sum": (lambda a: a + third,) * 2, "where": (lambda a: F.where(a > 0, third, a), lambda a: third)}, a)
    assert (gx.input("x", gx.f32[2]) + third).dtype.name == "f32"


def test_slopes_keep_their_digits_near_1():
    formulas = {
        "asin": (lambda a, b: gx.grad(F.asin(a).sum(), a), lambda a, b: 1 / np.sqrt((1 - a) * (1 + a))),
        "acos": (lambda a, b: gx.grad(F.acos(a).sum(), a), lambda a, b: -1 / np.sqrt((1 - a) * (1 + a))),
        "atanh": (lambda a, b: gx.grad(F.atanh(a).sum(), a), lambda a, b: 1 / ((1 - a) * (1 + a))),
        "acosh": (lambda a, b: gx.grad(F.acosh(b).sum(), b), lambda a, b: 1 / np.sqrt((b - 1) * (b + 1))),
    }
    compare(formulas, np.array([0.5, 1 - 3e-9]), np.array([1.5, 1 + 3e-9]))


def test_the_angle_at_the_origin_has_slope_0():
    y, x = np.array([0.0, 0.0, 2.0]), np.array([0.0, 1.0, 0.0])
    slopes = [(lambda a, b, n=n: gx.grad(F.atan2(a, b).sum(), (a, b)[n])) for n in (0, 1)]
    compare({"y": (slopes[0], lambda a, b: [0, 1, 0]), "x": (slopes[1], lambda a, b: [0, 0, -0.5])}, y, x)


# -- wrong arguments


def test_wrong_arguments():
    x, n, u = gx.input("x", gx.f32[3]), gx.input("n", gx.i64[3]), gx.input("u", gx.u8[3])
    mask = n > 0
    check_refusal(lambda: x & 1, "bit_and(f32[3], f32[3]): dtype f32 is not one of", kind=gx.DTypeError)
    check_refusal(lambda: mask - mask, "sub(bool[3], bool[3]): dtype bool", kind=gx.DTypeError)
    check_refusal(lambda: -mask, "neg(bool[3]): dtype bool", kind=gx.DTypeError)
    check_refusal(lambda: F.left_shift(x, 1), "shift_left(f32[3], f32[3]): dtype f32", kind=gx.DTypeError)
    check_refusal(lambda: u + 300, "u8 cannot hold the number 300", kind=gx.DTypeError)
    check_refusal(lambda: u > -1, "u8 cannot hold the number -1", kind=gx.DTypeError)
    check_refusal(lambda: x + "1", "cannot use str", kind=gx.DTypeError)
    check_refusal(lambda: F.atan2(x, np.ones(4)), "cannot broadcast", kind=gx.ShapeError)
    check_refusal(lambda: F.div(x, 2, rounding_mode="up"), "rounding_mode is 'up'; it must be one of")


def test_no_gradient_through_rounding_and_choice():
    x = gx.input("x", gx.f32[3])
    for function in (F.floor, F.ceil, F.trunc, F.round, F.sign, F.isnan, lambda x: x // 1, lambda x: x > 0):
        assert run({"slope": lambda a, f=function: gx.grad((f(a) * a).sum(), a) - f(a)}, np.float32([1.5, -2.5, 0.25]))[
            "slope"
        ][0].tolist() == [0, 0, 0]
    assert F.stop_gradient(x).type == x.type
