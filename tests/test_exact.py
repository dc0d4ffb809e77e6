"""The quick way to native code takes only what it can read as it is, and gives what the long way gives."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.backends import exact
from graphc.backends.exact import data_offset, exact_call
from graphc.backends.runtime import address
from graphc.ir.types import multiply

MOST = 16


def compiled() -> gx.Function:
    """Two inputs and a parameter that counts calls; numbers and an array as results."""
    batch = gx.dim("batch", max=MOST)
    x, y = gx.input("x", gx.f32[batch, 3]), gx.input("y", gx.i64[batch])
    calls = gx.parameter("calls", np.zeros(1, np.float32))
    outputs = {"total": x.sum(), "labels": y.sum(), "twice": x * 2, "calls": calls.sum()}
    return gx.function([x, y], outputs, updates={calls: calls + 1})


@pytest.fixture(scope="module")
def step() -> gx.Function:
    return compiled()


def batch_of(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(3 * size, dtype=np.float32).reshape(size, 3), np.arange(size)


class Own(np.ndarray):
    """An array of a class of one's own, whose operators may mean anything."""


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def shifted(array: np.ndarray) -> np.ndarray:
    """Equal numbers at an odd address."""
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    memory[:] = np.frombuffer(array.tobytes(), np.uint8)
    return memory.view(array.dtype).reshape(array.shape)


X, Y = batch_of(5)
CONVERTED = {
    "a list": (X.tolist(), Y),
    "a class of its own": (X.view(Own), Y),
    "columns first": (np.asfortranarray(X), Y),
    "every other row": (np.repeat(X, 2, 0)[::2], Y),
    "at an odd address": (shifted(X), Y),
    "another byte order": (X.astype(">f4"), Y),
    "narrower labels": (X, Y.astype(np.int32)),
    "half floats": (X.astype(np.float16), Y),
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_what_has_to_be_converted_takes_the_long_way(kind: str, step: gx.Function) -> None:
    step(X, Y)  # so that this batch size is expected
    assert step.exact_call(CONVERTED[kind]) is None
    wanted, found = step(X, Y), step(*CONVERTED[kind])
    assert found.total == wanted.total and found.labels == wanted.labels
    np.testing.assert_array_equal(found.twice, wanted.twice)


def test_what_must_not_be_written_is_read_as_it_is(step: gx.Function) -> None:
    status, (total, *_) = step.exact_call((read_only(X.copy()), Y))
    assert status == 0 and total == X.sum()


@pytest.mark.parametrize("writeable", [True, False])
def test_memory_of_parameters_takes_the_long_way(writeable: bool) -> None:
    """Where it is copied, so that an update does not change what it is computed from."""
    w, v = gx.parameter("w", np.ones((4, 3), np.float32)), gx.parameter("v", np.ones((4, 3), np.float32))
    x = gx.input("x", gx.f32[4, 3])
    step = gx.function([x], x * 2, updates={w: w + x, v: v + w})
    apart = np.full((4, 3), 5, np.float32)
    assert step.exact_call((apart,)) is not None
    ours = w.storage.array if writeable else np.asarray(w)
    block = w.storage.array.base
    start = w.storage.array.ctypes.data - block.ctypes.data
    shifted_by_one = block[start + 4 : start + 4 + 48].view(np.float32).reshape(4, 3)
    for given in (ours, shifted_by_one):
        assert step.exact_call((given,)) is None
    before = w.numpy()
    np.testing.assert_array_equal(step(ours), 2 * before)
    np.testing.assert_array_equal(w.numpy(), 2 * before)


REFUSED = {
    "one array": (X,),
    "three arrays": (X, Y, Y),
    "none": (),
    "no rows": (X[:0], Y[:0]),
    "too many rows": batch_of(MOST + 1),
    "different numbers of rows": (X, Y[:-1]),
    "different numbers of rows, the other way": (X[:-1], Y),
    "rows of another length": (np.zeros((5, 4), np.float32), Y),
    "another rank": (np.zeros((5, 3, 1), np.float32), Y),
    "one number": (np.float32(1), Y),
    "wider floats": (X.astype(np.float64), Y),
    "a text": ("x", Y),
    "nothing": (None, None),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused_and_changes_nothing(kind: str, step: gx.Function) -> None:
    before = step(X, Y).calls
    assert step.exact_call(REFUSED[kind]) is None
    with pytest.raises(gx.errors.GraphcError):
        step(*REFUSED[kind])
    assert step(X, Y).calls == before + 1
    assert step(X, Y).total == X.sum()


def test_batches_of_any_size_in_any_order(step: gx.Function) -> None:
    for size in (1, 5, MOST, 1, 2, 2, MOST, 3):
        x, y = batch_of(size)
        status, (total, labels, twice, _) = step.exact_call((x, y))
        assert (status, total, labels) == (0, x.sum(), y.sum())
        np.testing.assert_array_equal(twice, 2 * x)
        long = step(x.tolist(), y.tolist())
        assert long.total == total and long.twice.shape == x.shape


def test_results_are_the_callers(step: gx.Function) -> None:
    first, second = step(X, Y), step(X + 1, Y)
    assert not np.may_share_memory(first.twice, second.twice)
    np.testing.assert_array_equal(first.twice, 2 * X)
    assert first.total == X.sum() != second.total and isinstance(first.total, np.float32)


def numbers_of(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


def several_dims() -> gx.Function:
    n, m = gx.dim("n", max=6), gx.dim("m", max=5)
    a, b, c = gx.input("a", gx.f32[n, m, 2]), gx.input("b", gx.f32[m, n]), gx.input("c", gx.f32[()])
    return gx.function([a, b, c], {"total": a.sum() + b.sum() * c, "turned": b.mT + c})


SEVERAL = {
    "all": (True, (4, 3, 2), (3, 4), ()),
    "the largest": (True, (6, 5, 2), (5, 6), ()),
    "the smallest": (True, (1, 1, 2), (1, 1), ()),
    "one dim differs": (False, (4, 3, 2), (4, 4), ()),
    "the other differs": (False, (4, 3, 2), (3, 3), ()),
    "they change places": (False, (4, 3, 2), (4, 3), ()),
    "an axis differs": (False, (4, 3, 3), (3, 4), ()),
    "too large": (False, (7, 3, 2), (3, 7), ()),
    "empty": (False, (0, 3, 2), (3, 0), ()),
    "a list of one number": (False, (4, 3, 2), (3, 4), (1,)),
    "a flat one": (False, (24,), (3, 4), ()),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_dims(kind: str) -> None:
    fits, *shapes = SEVERAL[kind]
    step, given = several_dims(), tuple(numbers_of(*shape) for shape in shapes)
    if not fits:
        assert step.exact_call(given) is None
        with pytest.raises(gx.errors.GraphcError):
            step(*given)
        return
    status, (total, turned) = step.exact_call(given)
    a, b, c = given
    assert status == 0 and total == a.sum() + b.sum() * c
    np.testing.assert_array_equal(turned, b.T + c)
    long = step(*(array.tolist() for array in given))
    assert long.total == total and np.array_equal(long.turned, turned)


def test_fixed_shapes_and_no_inputs() -> None:
    x = gx.input("x", gx.f32[4, 3])
    step = gx.function([x], [x * 2, x.sum()])
    given = numbers_of(4, 3)
    _, (twice, total) = step.exact_call((given,))
    assert np.array_equal(twice, 2 * given) and total == given.sum()
    for other in (numbers_of(3, 4), numbers_of(4, 3, 1), numbers_of(12), numbers_of(5, 3), numbers_of(4, 3).T):
        assert step.exact_call((other,)) is None
    calls = gx.parameter("calls", np.zeros(2, np.float32))
    count = gx.function([], calls + 0, updates={calls: calls + 1})
    assert count.exact_call(())[1][0].tolist() == [0, 0] and count().tolist() == [1, 1]
    assert count.exact_call((given,)) is None


def test_extents_that_are_computed_take_the_long_way() -> None:
    n = gx.dim("n", max=6)
    x, y = gx.input("x", gx.f32[n]), gx.input("y", gx.f32[multiply(2, n)])
    step = gx.function([x, y], x.sum() + y.sum())
    assert step.exact_call((numbers_of(3), numbers_of(6))) is None
    assert step(numbers_of(3), numbers_of(6)) == 18


def test_threads_wait_for_each_other(step: gx.Function) -> None:
    wrong: list[Any] = []
    start = step(X, Y).calls

    def work(number: int) -> None:
        x, y = batch_of(1 + number % MOST)
        for count in range(200):
            given = x + count
            found = step(given, y)
            if found.total != given.sum() or found.labels != y.sum() or (found.twice != 2 * given).any():
                wrong.append((number, count, found))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
    assert step(X, Y).calls == start + 8 * 200 + 1


def test_where_nothing_is_known_of_arrays_calls_take_the_long_way(
    step: gx.Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "data_offset", lambda: None)
    assert exact_call(step.runner)((X, Y)) is None


def test_addresses_are_found_in_array_objects() -> None:
    import ctypes

    offset = data_offset()
    assert offset is not None
    for array in (np.zeros(3), np.zeros((4, 5), np.int8)[1:, 2:], np.zeros(()), np.zeros(7, "f4")[::-1], X.T):
        assert ctypes.c_int64.from_address(id(array) + offset).value == address(array) == array.ctypes.data


def test_what_is_laid_out_in_another_way_is_not_read(step: gx.Function, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KIND", "RANK", "EXTENTS", "DTYPE", "FLAGS", "ITEMS"):
        with monkeypatch.context() as other:
            other.setattr(exact, name, getattr(exact, name) + 8)
            assert data_offset.__wrapped__() is None
    assert data_offset.__wrapped__() == data_offset()


def test_arrays_in_a_list_take_the_long_way(step: gx.Function) -> None:
    assert step.exact_call([X, Y]) is None
    assert step.run([X, Y])[0] == X.sum()


def test_new_numbers_of_scalars_count_from_the_next_call() -> None:
    x, rate = gx.input("x", gx.f32["batch", 2]), gx.scalar("rate", 0.0)
    step = gx.function([x], (1 / rate) + x.sum() * 0)
    other = gx.function([x], rate * 2 + x.sum() * 0)
    given = np.ones((3, 2), np.float32)
    for number, wanted in ((0.0, np.inf), (-0.0, -np.inf), (2, 0.5), (2.0, 0.5), (np.float32(4), 0.25)):
        step.set(rate=number)
        assert step(given) == wanted == step(given)
        assert other(given) == 2 * number


@pytest.mark.parametrize("kind", [tuple, list])
def test_settings_of_optimizers_count_from_the_next_call(kind: type) -> None:
    """Also numbers within a list, which stays the same object when they change."""
    net = nn.Linear(3, 1)
    opt = optim.AdamW(net.parameters(), lr=0.1)
    step = gx.train_step(net, nn.MSELoss(), opt, x=gx.f32["batch", 3], y=gx.f32["batch", 1])
    group = opt.param_groups[0]

    def known() -> list[float]:
        step(X, X[:, :1].copy())
        return sorted(float(place[()]) for place in step.runner.scalar_places)

    assert known() == [0.01, 0.1, 0.9, 0.999]
    group["betas"] = kind((0.5, 0.75))
    assert known() == [0.01, 0.1, 0.5, 0.75]
    if kind is list:
        group["betas"][0] = 0.25
    else:
        group["betas"] = (0.25, 0.75)
    assert known() == [0.01, 0.1, 0.25, 0.75]
    group["lr"] = np.float32(0.5)
    assert known() == [0.01, 0.25, 0.5, 0.75]
    group["lr"] = 1
    assert known() == [0.01, 0.25, 0.75, 1]
