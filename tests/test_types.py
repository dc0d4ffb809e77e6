"""Extents and tensor types: one normal form, exact division, sizes at a call and at most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.ir.types import (
    DTYPES,
    NAMES,
    Dim,
    Product,
    Sum,
    TensorType,
    add,
    bound,
    content,
    divide,
    evaluate,
    leading,
    multiply,
    subtract,
)

BATCH, TIME = Dim("batch", 256), Dim("time", 12)
SIZES = {BATCH: 7, TIME: 5}

extents = st.builds(
    lambda factor, dims: multiply(factor, *dims),
    st.integers(1, 40),
    st.lists(st.sampled_from([BATCH, TIME]), max_size=3),
)
sums = st.builds(
    lambda plus, minus, number: add(*plus, *(multiply(-1, extent) for extent in minus), number),
    st.lists(extents, max_size=2),
    st.lists(extents, max_size=2),
    st.integers(-9, 9),
)


def test_products_have_one_normal_form() -> None:
    assert multiply() == 1
    assert multiply(3, 4) == 12
    assert multiply(BATCH) is BATCH
    assert multiply(1, BATCH, 1) is BATCH
    assert multiply(0, BATCH) == 0
    assert multiply(TIME, 28, BATCH, 28) == Product(784, (BATCH, TIME))
    assert multiply(multiply(2, TIME), BATCH) == multiply(BATCH, multiply(TIME, 2))


@given(st.lists(extents, max_size=4), st.randoms())
def test_order_of_factors_does_not_matter(parts, random) -> None:
    mixed = list(parts)
    random.shuffle(mixed)
    assert multiply(*mixed) == multiply(*parts)


def test_sums_have_one_normal_form() -> None:
    assert add() == 0 and add(3, 4) == 7 and add(BATCH, 0) is BATCH
    assert add(BATCH, BATCH) == multiply(2, BATCH) and subtract(add(BATCH, 3), BATCH) == 3
    assert add(1, TIME, BATCH, -3) == add(TIME, subtract(BATCH, 2)) == Sum((BATCH, TIME), -2)
    assert multiply(add(BATCH, 1), subtract(BATCH, 1)) == subtract(multiply(BATCH, BATCH), 1)


@given(sums, sums)
def test_sums_and_their_products_have_the_sizes_of_numbers(a, b) -> None:
    for sizes in (SIZES, {BATCH: 1, TIME: 12}):
        first, second = evaluate(a, sizes), evaluate(b, sizes)
        assert evaluate(add(a, b), sizes) == first + second
        assert evaluate(subtract(a, b), sizes) == first - second
        assert evaluate(multiply(a, b), sizes) == first * second
        assert first <= bound(a) and first % (content(a) or 1) == 0
    assert subtract(add(a, b), b) == a and add(a, b) == add(b, a)


@given(sums, extents)
def test_division_of_a_sum_undoes_multiplication(a, b) -> None:
    assert divide(multiply(a, b), b) == a


@given(extents, extents)
def test_division_undoes_multiplication(a, b) -> None:
    assert divide(multiply(a, b), b) == a


@given(extents, extents)
def test_a_quotient_times_its_divisor_is_the_whole(a, b) -> None:
    quotient = divide(a, b)
    if quotient is None:
        assert evaluate(a, {BATCH: 1, TIME: 1}) % evaluate(b, {BATCH: 1, TIME: 1}) or leading(a)[0] != leading(b)[0]
    else:
        assert multiply(quotient, b) == a


@pytest.mark.parametrize(
    ("whole", "part"), [(784, 10), (BATCH, TIME), (BATCH, 2), (3, BATCH), (multiply(4, BATCH), multiply(BATCH, BATCH))]
)
def test_no_quotient(whole, part) -> None:
    assert divide(whole, part) is None


def test_division_by_zero_has_no_quotient() -> None:
    assert divide(6, 0) is None


@given(extents, extents)
def test_sizes_multiply(a, b) -> None:
    assert evaluate(multiply(a, b), SIZES) == evaluate(a, SIZES) * evaluate(b, SIZES)
    assert bound(multiply(a, b)) == bound(a) * bound(b)


@given(extents)
def test_no_size_is_over_the_bound(extent) -> None:
    assert evaluate(extent, SIZES) <= bound(extent)


def test_dims_of_one_name_and_other_bounds_differ() -> None:
    assert Dim("batch", 8) != Dim("batch", 9)
    assert multiply(Dim("batch", 8), Dim("batch", 9)) == multiply(Dim("batch", 9), Dim("batch", 8))


def test_text() -> None:
    assert str(multiply(784, BATCH)) == "784*batch"
    assert str(multiply(TIME, BATCH)) == "batch*time"
    assert str(subtract(multiply(2, BATCH), add(TIME, 1))) == "2*batch-1*time-1"
    assert str(TensorType("f32", (BATCH, 10))) == "f32[batch,10]"
    assert str(TensorType("i64", ())) == "i64[]"


def test_tensor_type_measures() -> None:
    images = TensorType("f32", (BATCH, 28, 28))
    assert images.count == multiply(784, BATCH)
    assert images.max_bytes == 256 * 784 * 4
    assert TensorType("u8", (BATCH, 3)).max_bytes == 768
    assert TensorType("f64", ()).max_bytes == 8
    assert list(TensorType("f32", (multiply(BATCH, TIME), 3, BATCH)).dims()) == [BATCH, TIME, BATCH]
    assert images.with_shape((4,)) == TensorType("f32", (4,))
    assert images.with_dtype("u8") == TensorType("u8", (BATCH, 28, 28))


def test_dtype_names_go_both_ways() -> None:
    assert {name: NAMES[dtype] for name, dtype in DTYPES.items()} == {name: name for name in DTYPES}
