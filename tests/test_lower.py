"""Every primitive means natively what it means in NumPy; the text is stable."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lowered import (
    ALL,
    FLOATS,
    INTEGERS,
    assert_same,
    check,
    modest,
    numbers,
    product_kernel,
    run_native,
    run_python,
)

from graphc.backends import meanings, primitives
from graphc.backends.lacking import EXTREMES, LONG, ROUNDING
from graphc.backends.lower import LoweringError, lower
from graphc.backends.primitives import ELEMENTS, LANES, Kernel
from graphc.backends.target import TARGETS, BuildError, assembly, build, host

# --- one expression at a time -----------------------------------------------------------------------------------------

SAME = "same"
OPERATORS = [
    *((f"a {symbol} b", FLOATS + INTEGERS + ("u8",), SAME, numbers) for symbol in "+-*"),
    ("a / b", FLOATS, SAME, numbers),
    *((f"a {symbol} (b + c)", INTEGERS, SAME, modest) for symbol in ("//", "%")),
    ("-a", FLOATS + INTEGERS, SAME, numbers),
    *((f"a {symbol} b", FLOATS + INTEGERS + ("u8",), "bool", numbers) for symbol in ("<", "<=", ">", ">=")),
    *((f"a {symbol} b", ALL, "bool", numbers) for symbol in ("==", "!=")),
    ("a != a", FLOATS, "bool", numbers),
    *((f"a {symbol} b", (*INTEGERS, "u8", "bool"), SAME, numbers) for symbol in "&|^"),
    ("~a", (*INTEGERS, "u8", "bool"), SAME, numbers),
    *((f"{side} {symbol} b", INTEGERS, SAME, modest) for symbol in ("<<", ">>") for side in ("a", "~a")),
]
FUNCTIONS = [
    ("fma(a, b, c)", FLOATS, SAME, numbers),
    ("select(a < b, b, c)", FLOATS + INTEGERS, SAME, numbers),
    ("select(a, b, c)", ("bool",), SAME, numbers),
    *((f"{name}(a, b)", FLOATS + INTEGERS + ("u8",), SAME, numbers) for name in ("maximum", "minimum")),
    ("absolute(a)", FLOATS + INTEGERS, SAME, numbers),
    *((f"{name}(a)", FLOATS, SAME, numbers) for name in ("sqrt", "floor", "ceil", "rint", "trunc")),
    ("copysign(a, b)", FLOATS, SAME, numbers),
    ("bits_of(a)", ("f32",), "i32", modest),
    ("bits_of(a)", ("f64",), "i64", modest),
    ("float_of(a)", ("i32",), "f32", modest),
    ("float_of(a)", ("i64",), "f64", modest),
    *((f"as_{kind}(a)", ALL, kind, modest) for kind in ALL),
    ("as_bool(a)", FLOATS, "bool", numbers),
    ("as_f32(a)", ("f64", "i64"), "f32", numbers),
    *((f"as_{kind}(a)", INTEGERS, kind, numbers) for kind in INTEGERS),
]
EXPRESSIONS = [
    pytest.param(expression, element, element if result == SAME else result, draw, id=f"{expression} {element}")
    for expression, elements, result, draw in (*OPERATORS, *FUNCTIONS)
    for element in elements
]


def expression_kernel(expression: str, element: str, result: str) -> Kernel:
    """The expression over the three vectors of p, first with vectors and then element by element."""
    for_element = re.sub(r"\b([abc])\b", r"\g<1>1", expression)
    text = f"""def probe(p, lanes, elements):
    a = load_lanes(p, 0)
    b = load_lanes(p, 16)
    c = load_lanes(p, 32)
    store_lanes(lanes, 0, {expression})
    for i in range(16):
        a1 = load(p, i)
        b1 = load(p, i + 16)
        c1 = load(p, i + 32)
        store(elements, i, {for_element})
"""
    return Kernel("probe", text, (("p", f"{element}*"), ("lanes", f"{result}*"), ("elements", f"{result}*")))


@pytest.mark.parametrize(("expression", "element", "result", "draw"), EXPRESSIONS)
def test_expression_equals_numpy(expression: str, element: str, result: str, draw: Any) -> None:
    kernel = expression_kernel(expression, element, result)
    outputs = (np.zeros(LANES, ELEMENTS[result]) for _ in range(2))
    check(kernel, draw(element, seed=len(expression)), *outputs)


# --- what a processor may lack ----------------------------------------------------------------------------------------

_LACKED = re.compile(r"^(floor|ceil|rint|trunc|maximum|minimum|as_)|//|%")
LACKED = [each for each in EXPRESSIONS if _LACKED.search(str(each.values[0]))]


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, as one without rounding, extremes of f64 and long integers."""
    lesser = replace(host(), lacks=(ROUNDING, EXTREMES, LONG))
    monkeypatch.setitem(globals(), "host", lambda: lesser)


@pytest.mark.usefixtures("lacking")
@pytest.mark.parametrize(("expression", "element", "result", "draw"), LACKED)
def test_what_is_lacking_is_spelled_out_to_the_same_bits(expression: str, element: str, result: str, draw: Any) -> None:
    outputs = (np.zeros(LANES, ELEMENTS[result]) for _ in range(2))
    check(expression_kernel(expression, element, result), draw(element, seed=1), *outputs, codegen="direct")


@pytest.mark.usefixtures("lacking")
def test_long_integers_are_converted_and_divided_to_the_bit() -> None:
    random = np.random.default_rng(2)
    shifted = random.integers(-(2**63), 2**63, 960, np.int64) >> random.integers(0, 63, 960)
    ties = (random.integers(2**23, 2**24, 96) << 39) + random.choice([0, 1, -1, 2**38, 2**38 + 1, 2**38 - 1], 96)
    whole = np.concatenate([shifted, ties, -ties, [0, 1, -1, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 5]])
    whole = np.concatenate([whole, np.zeros(-whole.size % LANES, np.int64)])
    for element in FLOATS:
        text = f"""def convert(source, lanes, single, count):
    for i in range(0, count, 16):
        store_lanes(lanes, i, as_{element}(load_lanes(source, i)))
    for i in range(count):
        store(single, i, as_{element}(load(source, i)))
"""
        pointers = (("source", "i64*"), ("lanes", f"{element}*"), ("single", f"{element}*"))
        outputs = [np.zeros(whole.size, ELEMENTS[element]) for _ in range(2)]
        run_native(Kernel("convert", text, (*pointers, ("count", "i64"))), whole, *outputs, whole.size)
        for output in outputs:
            np.testing.assert_array_equal(output, whole.astype(ELEMENTS[element]))
        back = [np.zeros(whole.size, np.int64) for _ in range(2)]
        pointers = (("source", f"{element}*"), ("lanes", "i64*"), ("single", "i64*"))
        numbers_of = outputs[0] * ELEMENTS[element](0.49)
        text = text.replace(f"as_{element}", "as_i64")
        run_native(Kernel("convert", text, (*pointers, ("count", "i64"))), numbers_of, *back, whole.size)
        for each in back:
            np.testing.assert_array_equal(each, numbers_of.astype(np.int64))
    left = whole & (2**63 - 1)
    right = np.maximum(np.roll(left, 7), 1)
    text = """def divide(a, b, times, rest, lanes, count):
    for i in range(count):
        store(times, i, load(a, i) // load(b, i))
        store(rest, i, load(a, i) % load(b, i))
    for i in range(0, count, 16):
        store_lanes(lanes, i, load_lanes(a, i) // load_lanes(b, i))
"""
    kernel = Kernel(
        "divide", text, (*((name, "i64*") for name in ("a", "b", "times", "rest", "lanes")), ("count", "i64"))
    )
    times, rest, lanes = (np.zeros(whole.size, np.int64) for _ in range(3))
    run_native(kernel, left, right, times, rest, lanes, whole.size)
    np.testing.assert_array_equal(times, left // right)
    np.testing.assert_array_equal(rest, left % right)
    np.testing.assert_array_equal(lanes, times)


def test_every_meaning_in_numpy_has_one_in_llvm() -> None:
    from graphc.backends.lower.operations import operation

    constants_and_range = {"range", "true", "false", "inf", "nan"}
    assert [name for name in primitives.MEANINGS if name not in constants_and_range and operation(name) is None] == []


def test_fma_rounds_once() -> None:
    random = np.random.default_rng(3)
    for element in FLOATS:
        a, b = (random.normal(size=4000).astype(ELEMENTS[element]) for _ in range(2))
        c = (-(a * b) * (1 + random.integers(-2, 3, 4000) * np.finfo(ELEMENTS[element]).eps)).astype(a.dtype)
        # (1 + 2^-12)^2 lies between two f32, and an f64 sum forgets to which side 2^-60 moves it.
        a[:2] = b[:2] = 1 + 2**-12
        c[:2] = 2.0**-60, -(2.0**-60)
        a[2:4], b[2:4], c[2:4] = np.finfo(a.dtype).max, (2, -2), 1
        kernel = Kernel(
            "fused",
            "def fused(a, b, c, out):\n    for i in range(4000):\n"
            "        store(out, i, fma(load(a, i), load(b, i), load(c, i)))\n",
            tuple((name, f"{element}*") for name in ("a", "b", "c", "out")),
        )
        native = np.zeros_like(a)
        run_native(kernel, a, b, c, native)
        with np.errstate(over="ignore"):
            assert_same(native, meanings.fma(a, b, c))
            assert np.any(native != a * b + c)


# --- lanes and memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sum_lanes", "prod_lanes", "max_lanes", "min_lanes"])
@pytest.mark.parametrize("element", [*FLOATS, *INTEGERS, "u8"])
def test_reductions_follow_one_tree(name: str, element: str) -> None:
    stores = (f"    store(out, {n}, {name}(load_lanes(p, {32 * n})))\n" for n in range(2))
    text = "def reduce(p, out):\n" + "".join(stores)
    kernel = Kernel("reduce", text, (("p", f"{element}*"), ("out", f"{element}*")))
    check(kernel, numbers(element, seed=5), np.zeros(2, ELEMENTS[element]))


@pytest.mark.parametrize("element", ALL)
@pytest.mark.parametrize("count", [7 - 2**40, -1, 0, 1, 7, 15, 16, 17, 2**40 + 3])
def test_live_lanes_are_copied_and_dead_ones_left(element: str, count: int) -> None:
    text = """def copy(source, target, seen, count):
    m = live(count)
    v = load_live(source, 1, m)
    store_live(target, 3, v, m)
    store_lanes(seen, 0, v)
"""
    pointers = ("source", "target", "seen")
    kernel = Kernel("copy", text, (*((name, f"{element}*") for name in pointers), ("count", "i64")))
    source, target = numbers(element, seed=1), numbers(element, seed=2)
    check(kernel, source, target, np.zeros(LANES, ELEMENTS[element]), count)


@pytest.mark.parametrize("element", ALL)
@pytest.mark.parametrize(("count", "step"), [(1, 9), (7, 3), (16, 2), (40, 1)])
def test_spaced_loads(element: str, count: int, step: int) -> None:
    text = """def spaced(source, seen, count, step):
    store_lanes(seen, 0, load_spaced(source, 1, step, live(count)))
"""
    pointers = tuple((name, f"{element}*") for name in ("source", "seen"))
    kernel = Kernel("spaced", text, (*pointers, ("count", "i64"), ("step", "i64")))
    check(kernel, numbers(element, seed=1), np.zeros(LANES, ELEMENTS[element]), count, step)


@pytest.mark.parametrize("element", ALL)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 16, 40])
def test_pairs(element: str, count: int) -> None:
    """To the end of what they are read from and written to, and not beyond."""
    text = """def pairs(source, target, seen, count):
    store_lanes(seen, 0, load_even(source, 1, live(count)))
    store_lanes(seen, 16, load_odd(source, 1, live(count)))
    store_pairs(target, 1, load_lanes(seen, 16), load_lanes(seen, 0), live(count))
"""
    pointers = tuple((name, f"{element}*") for name in ("source", "target", "seen"))
    kernel = Kernel("pairs", text, (*pointers, ("count", "i64")))
    size = 1 + 2 * min(count, LANES)
    check(kernel, numbers(element, 1)[:size], numbers(element, 2)[:size], np.zeros(2 * LANES, ELEMENTS[element]), count)


@pytest.mark.parametrize("element", ALL)
@pytest.mark.parametrize(("count", "step"), [(1, 9), (7, 3), (16, 2), (40, 1)])
def test_spaced_stores(element: str, count: int, step: int) -> None:
    text = """def spaced(source, target, count, step):
    store_spaced(target, 1, step, load_lanes(source, 0), live(count))
"""
    pointers = tuple((name, f"{element}*") for name in ("source", "target"))
    kernel = Kernel("spaced", text, (*pointers, ("count", "i64"), ("step", "i64")))
    check(kernel, numbers(element, seed=1), numbers(element, seed=2), count, step)


@pytest.mark.parametrize("element", [element for element in ALL if element != "bool"])
@pytest.mark.parametrize("count", [0, 5, 16])
def test_looked_up_places(element: str, count: int) -> None:
    """Loads and sums at places in any order; those of the sums repeat."""
    text = """def look_up(source, places, seen, sums, count):
    at = load_lanes(places, 0)
    m = live(count) & (at >= spread(2))
    v = load_at(source, at, m)
    store_lanes(seen, 0, v)
    add_at(sums, at, v, m)
"""
    pointers = (("source", f"{element}*"), ("places", "i64*"), ("seen", f"{element}*"), ("sums", f"{element}*"))
    places = np.array([3, 0, 7, 3, 3, 1, 9, 7, 2, 5, 3, 8, 0, 4, 4, 6], np.int64)
    kernel = Kernel("look_up", text, (*pointers, ("count", "i64")))
    check(kernel, numbers(element, seed=1), places, np.zeros(LANES, ELEMENTS[element]), numbers(element, seed=2), count)


@pytest.mark.parametrize("element", ALL)
@pytest.mark.parametrize("place", [1, 10**9])
def test_prefetching_changes_nothing(element: str, place: int) -> None:
    text = "def fetch(p, i):\n    prefetch(p, i)\n    prefetch(shift(p, 1), i)\n    store(p, 0, load(p, 1))\n"
    kernel = Kernel("fetch", text, (("p", f"{element}*"), ("i", "i64")))
    check(kernel, numbers(element, seed=1), place)
    for codegen in ("numba", "direct"):
        for target in TARGETS.values():
            kind = target.name.partition("-")[0]
            fetching = {"aarch64": "prfm\tpldl2keep", "armv7": "pld\t"}.get(kind, "prefetcht1")
            wanted = 2 if target.has_prefetch else 0
            assert assembly([lower(kernel, codegen)], ["fetch"], target).count(fetching) == wanted, target.name


def test_pointers_of_several_types_are_prefetched() -> None:
    text = "def fetch(p, q, r):\n    prefetch(p, 1)\n    prefetch(q, 1)\n    prefetch(r, 1)\n"
    kernel = Kernel("fetch", text, (("p", "f32*"), ("q", "bool*"), ("r", "i64*")))
    check(kernel, *(numbers(element, seed=1) for element in ("f32", "bool", "i64")))


def test_indices_spread_shift_and_mask_reductions() -> None:
    text = """def fill(out, flags, count):
    store_lanes(shift(out, 2), 1, indices(count) * spread(count))
    store_lanes(out, 20, spread(load(out, 3)))
    store(flags, 0, any_lanes(live(count)))
    store(flags, 1, all_lanes(live(count)))
    store(flags, 2, any_lanes(live(count) & ~live(count - 1)))
    store_lanes(out, 20, select(count == 5, indices(count), load_lanes(out, 20)))
"""
    kernel = Kernel("fill", text, (("out", "i64*"), ("flags", "bool*"), ("count", "i64")))
    for count in (-3, 0, 5, 16, 40):
        check(kernel, np.zeros(40, np.int64), np.zeros(3, np.bool_), count)


def test_constants() -> None:
    text = """def constants(f, d, i, u, o):
    store(f, 0, f32(0.1))
    store(f, 1, f32(3))
    store(f, 2, f32(-inf))
    store(f, 3, f32(nan))
    store(f, 4, sum_lanes(spread(f32(1e-3))))
    store(d, 0, f64(0.1))
    store(d, 1, -inf)
    store(i, 0, i32(-7))
    store(u, 0, u8(200))
    store(o, 0, true)
    store(o, 1, false)
    store(o, 2, any_lanes(spread(true)))
"""
    kinds = {"f": "f32", "d": "f64", "i": "i32", "u": "u8", "o": "bool"}
    kernel = Kernel("constants", text, tuple((name, f"{kind}*") for name, kind in kinds.items()))
    check(kernel, *(np.zeros(5, ELEMENTS[kind]) for kind in kinds.values()))


def test_control_flow() -> None:
    text = """def collatz(steps, best, n):
    longest = 0
    total = spread(f32(0.0))
    mask = live(0)
    for start in range(1, n, 3):
        value = start
        count = 0
        while value != 1 and count < 500:
            if value % 2 == 0:
                value = value // 2
            else:
                value = 3 * value + 1
            count += 1
        if count > longest or start == 1:
            longest = count
            mask = mask | live(count % 16)
        before = total
        total += spread(as_f32(count))
        total = total + before * spread(f32(0.5))
        store(steps, start, count)
    store(best, 0, longest)
    store(best, 1, as_i64(sum_lanes(select(mask, total, -total))))
"""
    kernel = Kernel("collatz", text, (("steps", "i64*"), ("best", "i64*"), ("n", "i64")))
    for n in (0, 2, 60):
        check(kernel, np.zeros(60, np.int64), np.zeros(2, np.int64), n)


def test_calls_are_resolved_by_argument_types() -> None:
    twice = [
        Kernel(f"twice_{kind}", f"def twice(x):\n    return x + x + {one}\n", (("x", kind),), kind, inline=inline)
        for kind, one, inline in (("f32", "f32(1.0)", True), ("f32x16", "spread(f32(2.0))", False), ("i64", "3", False))
    ]
    fill = Kernel(
        "fill_f32", "def fill(p, v):\n    store_lanes(p, 0, v)\n", (("p", "f32*"), ("v", "f32x16")), inline=False
    )
    text = """def caller(p, q):
    fill(shift(p, 16), twice(load_lanes(p, 0)))
    store(p, 0, twice(load(p, 0)))
    store(q, 0, twice(twice(load(q, 0))))
"""
    kernel = Kernel("caller", text, (("p", "f32*"), ("q", "i64*")), calls=(*twice, fill))
    check(kernel, numbers("f32", seed=4)[:32], np.array([20]))
    assert len(re.findall(r"^declare .*@(?:twice|fill)_", lower(kernel), re.MULTILINE)) == 4


# --- the text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codegen", ["numba", "direct"])
def test_the_function_is_plain_and_attributed(codegen: Any) -> None:
    text = "def scale(p, s, n):\n    for i in range(n):\n        store(p, i, load(p, i) * s + s)\n"
    kernel = Kernel("scale_f32", text, (("p", "f32*"), ("s", "f32"), ("n", "i64")))
    head = "define void @scale_f32(ptr noalias %p, float %s, i64 %n) {} nounwind "
    head += '"no-builtins" "prefer-vector-width"="512" {{'
    lines = lower(kernel, codegen).splitlines()
    assert head.format("alwaysinline") in lines
    assert any(re.search(r"= fmul float ", line) for line in lines)
    assert not any(line.startswith(("target ", "source_filename", "; ", "attributes ")) for line in lines)
    apart = Kernel("scale_f32", text, kernel.parameters, inline=False)
    assert head.format("noinline") in lower(apart, codegen).splitlines()


def test_nothing_carries_fast_math_flags() -> None:
    flags = re.compile(r"\b(?:fast|nnan|ninf|nsz|arcp|contract|afn|reassoc)\b")
    for expression, elements, result, _ in (*OPERATORS, *FUNCTIONS):
        kernel = expression_kernel(expression, elements[0], elements[0] if result == SAME else result)
        assert not flags.search(lower(kernel)), expression


def test_lowering_is_the_same_in_every_process() -> None:
    program = (
        "from graphc.backends.lower import lower\nfrom graphc.backends.primitives import Kernel\n"
        f"first = lower({expression_kernel('a / b', 'f32', 'f32')!r})\n"
        f"kernel = {product_kernel(3, 2)!r}\nprint(lower(kernel))\nassert lower(kernel) == lower(kernel)\n"
    )
    runs = [run_python(program, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    assert runs[0] == runs[1] == lower(product_kernel(3, 2)) + "\n"


WRONG = [
    ("store(p, 0, load(p, 0) + load(q, 0))", r"\+ takes two floats or integers of one type, got \(f32, i64\)"),
    (
        "store(p, 0, load(q, 0))",
        r"store takes a pointer, an i64 and a value of the element type, got \(f32\*, i64, i64\)",
    ),
    ("store(p, 0, load_lanes(p, 0) * load(p, 0))", r"got \(f32x16, f32\)"),
    ("store(p, 0, sinh(load(p, 0)))", "sinh is neither a primitive nor among the kernel's calls"),
    ("store(p, 0, helper(load(q, 0)))", r"0 instances of helper take \(i64\); known: helper_f32\(f32\)"),
    ("p[0] = load(p, 0)", "not part of the kernel language"),
    ("raise ValueError(3)", "ValueError is neither a primitive nor among the kernel's calls"),
    ("x = [1, 2]", "build_list"),
    ("t = tile_zeros_15x2()", "at most 14x3"),
    ("return load(p, 0)", "float32"),
    ("x = load(p, 0) if load(q, 0) > 0 else 1\n    store(p, 0, x)", r"store takes .*, got \(f32\*, i64, f64\)"),
    (
        "x = load(p, 0)\n    for i in range(9):\n        x = i\n    store(p, 0, as_f32(x))",
        "a name is f64 in one place and",
    ),
    ("for i in range(load(p, 0)):\n        store(p, i, load(p, i))", r"range takes one to three i64, got \(f32\)"),
]


@pytest.mark.parametrize(("line", "message"), WRONG)
def test_wrong_texts_show_the_kernel_and_the_reason(line: str, message: str) -> None:
    helper = Kernel("helper_f32", "def helper(x):\n    return x\n", (("x", "f32"),), "f32")
    kernel = Kernel("wrong", f"def wrong(p, q):\n    {line}\n", (("p", "f32*"), ("q", "i64*")), calls=(helper,))
    with pytest.raises(LoweringError, match=message) as caught:
        lower(kernel)
    assert "kernel wrong cannot be lowered" in str(caught.value)
    assert f"   2     {line.splitlines()[0]}" in str(caught.value)


def test_parameters_and_text_must_agree() -> None:
    with pytest.raises(LoweringError, match=r"its text takes \('p',\), its parameters are \('q',\)"):
        lower(Kernel("named", "def named(p):\n    store(p, 0, 1)\n", (("q", "i64*"),)))


def test_uncompiled_runs_check_bounds_and_types() -> None:
    kernel = Kernel(
        "copy",
        "def copy(p, q, n):\n    store_lanes(q, n, load_lanes(p, n))\n",
        (("p", "f32*"), ("q", "f32*"), ("n", "i64")),
    )
    with pytest.raises(IndexError, match="elements 1 to 16 of a pointer to 16 float32"):
        primitives.run(kernel, np.zeros(16, "f"), np.zeros(32, "f"), 1)
    with pytest.raises(TypeError, match=r"q is f32\*, got float64\[32\]"):
        primitives.run(kernel, np.zeros(16, "f"), np.zeros(32), 0)


# --- building ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_objects_for_other_machines_need_nothing(target: Any) -> None:
    for expression, elements, result, _ in (*OPERATORS, *FUNCTIONS):
        kernel = expression_kernel(expression, elements[0], elements[0] if result == SAME else result)
        assert build([lower(kernel)], ["probe"], target)


def test_builds_are_equal_and_export_only_what_is_named() -> None:
    called = Kernel("inner", "def inner(p):\n    store(p, 0, 5)\n", (("p", "i64*"),), inline=False)
    kernel = Kernel("outer", "def outer(p):\n    inner(p)\n", (("p", "i64*"),), calls=(called,))
    texts = [lower(kernel), lower(called)]
    data = build(texts, ["outer"], TARGETS["x86-64-v3"])
    assert data == build(texts, ["outer"], TARGETS["x86-64-v3"])
    assert ".globl\touter" in assembly(texts, ["outer"], TARGETS["x86-64-v3"])
    assert ".globl\tinner" not in assembly(texts, ["outer"], TARGETS["x86-64-v3"])
    with pytest.raises(BuildError, match="undefined symbols: inner"):
        build(texts[:1], ["outer"], host())
    with pytest.raises(BuildError, match="do not define the exports missing"):
        build(texts, ["missing"], host())
    with pytest.raises(BuildError, match="LLVM refuses"):
        build(["define void @f() { ret i32 1 }"], ["f"], host())


def test_a_warm_start_imports_no_compiler() -> None:
    program = (
        "import sys\nfrom graphc.backends.machine import host_signature\nfrom graphc.backends.target import TARGETS\n"
        "print(host_signature())\n"
        "assert not {'numba', 'llvmlite'} & set(sys.modules)\n"
    )
    assert re.fullmatch(r"\w+-[0-9a-f]{16}\n", run_python(program))
