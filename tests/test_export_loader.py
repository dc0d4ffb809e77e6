"""The loader of an exported library: what a call remembers of the call before, and what it looks at anew."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from test_export import needs_c

import graphc as gx

pytestmark = needs_c


def load(export):
    """The loader that was written, as a module."""
    name = export.library.name
    spec = importlib.util.spec_from_file_location(name, export.folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """Functions of none to four arrays, each of which sums up all it is given; `count` counts its calls."""
    batch, functions = gx.dim("batch", max=8), {}
    for count in range(1, 5):
        inputs = [gx.input(f"x{number}", gx.f32[batch, 2]) for number in range(count)]
        total = sum(each * 10.0**number for number, each in enumerate(inputs))
        functions[f"sum{count}"] = gx.function(inputs, {"total": total.sum(), "rows": total}, name=f"sum{count}")
    w = gx.parameter("calls", np.zeros(()))
    functions["count"] = gx.function([], {"calls": w + 1.0}, updates={w: w + 1.0}, name="count")
    functions["state"] = gx.function([], {"calls": w + 0.0}, name="state")
    return load(gx.export(functions, tmp_path_factory.mktemp("sums") / "sums"))


def wanted(arrays):
    return sum(10.0**number * each for number, each in enumerate(arrays))


def test_no_arrays(sums):
    count = sums.Model().count
    assert [count().calls for _ in range(3)] == [1, 2, 3]
    with pytest.raises(sums.LibraryError, match="count takes 0 arrays, got 1"):
        count(np.ones(2))
    assert count().calls == 4


def test_a_function_with_a_name_that_is_taken_is_among_the_functions(sums):
    model = sums.Model()
    assert model.count().calls == 1 == model.functions["state"]().calls
    assert model.state.dtype == np.uint8 and model.functions["count"] is model.count


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_each_call_sees_the_arrays_it_is_given(count, sums):
    """The same ones with other numbers, others in some place, of other sizes and back, of other dtypes and strides."""
    call, random = getattr(sums.Model(), f"sum{count}"), np.random.default_rng(count)
    arrays = [random.integers(0, 9, (4, 2)).astype(np.float32) for _ in range(count)]
    kept = []
    for turn in range(40):
        place = turn % count
        if turn % 5 == 0:
            arrays[place][...] += 1
        elif turn % 5 == 1:
            arrays[place] = arrays[place].copy()
        elif turn % 5 == 2:
            rows = (4, 7, 1, 8)[turn // 5 % 4]
            arrays = [random.integers(0, 9, (rows, 2)).astype(np.float32) for _ in range(count)]
        elif turn % 5 == 3:
            arrays[place] = random.integers(0, 9, arrays[place].shape)
        else:
            arrays[place] = np.asfortranarray(arrays[place][::-1], np.float32)
        for _ in range(2):
            total, rows = call(*arrays)
            np.testing.assert_array_equal(rows, wanted(arrays))
            assert total.total == wanted(arrays).sum()
            kept.append((rows, wanted(arrays)))
    for rows, first in kept:  # a later call writes into no earlier result
        np.testing.assert_array_equal(rows, first)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_refused_call_is_refused_again_and_leaves_the_one_before(count, sums):
    call, ones = getattr(sums.Model(), f"sum{count}"), [np.ones((4, 2), np.float32) for _ in range(count)]
    before = call(*ones)[0]
    for wrong in (ones[:-1], [*ones, ones[0]], [*ones[:-1], np.ones((4, 3))], [*ones[:-1], None], [None, *ones]):
        for _ in range(2):
            with pytest.raises(sums.LibraryError, match=r"takes \d arrays|is \[.*\], expected"):
                call(*wrong)
        assert call(*ones)[0] == before


def test_an_array_of_the_call_before_keeps_its_memory(sums):
    call, x = sums.Model().sum1, np.ones((4, 2), np.float32)
    assert call(x)[0].total == 8
    with pytest.raises(ValueError, match="cannot resize"):
        x.resize((400_000, 2), refcheck=False)
    assert call(x)[0].total == 8
    call(np.ones((4, 2), np.float32))
    x.resize((6, 2), refcheck=False)
    assert call(x)[0].total == 8


def test_an_array_that_lies_oddly_is_refused(sums):
    odd = np.frombuffer(bytes(33), np.float32, 8, 1).reshape(4, 2)
    with pytest.raises(sums.LibraryError, match="a pointer is not aligned"):
        sums.Model().sum1(odd)
