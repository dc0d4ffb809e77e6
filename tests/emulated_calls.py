"""Every call of a compiled function done a second time, by its kernels for GPUs on the CPU, and compared.

`pytest --emulate-cuda` switches it on, so that what the tests call on the CPU tests the kernels for GPUs as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from graphc.backends.cuda.emulation.machine import Emulator
from graphc.backends.cuda.passes import passed_for_device
from graphc.backends.cuda.plan import draw
from graphc.backends.cuda.threads import NotCovered
from graphc.errors import LabelError, NumericsError
from graphc.function import Function
from graphc.ir.types import Dim

TOLERANCE = 3e-4  # of a number and of a twentieth of the largest beside it: sums have other shapes there
ILL_CONDITIONED = ("large_scores",)  # functions with a difference of equal sums of another order, times a million
emulators: WeakKeyDictionary[Function, Emulator | None] = WeakKeyDictionary()
run_natively = Function.run


def compare_all_calls() -> None:
    """From now on a call whose kernels for GPUs give other numbers raises AssertionError."""
    Function.run = run_twice  # type: ignore[method-assign]
    globals()["__name__"] = "graphc.emulated_calls"  # in whose place it stands: errors tell of the line that calls it


def run_twice(function: Function, arrays: Sequence[Any]) -> list[Any]:
    emulator = emulator_of(function)
    if emulator is None:
        return run_natively(function, arrays)
    given, sizes = function.fit(arrays)
    extents = dict(zip(function.runner.dims, sizes, strict=True))
    status, results, states = emulated(function, emulator, [array.copy() for array in given], extents)
    try:
        found = run_natively(function, arrays)
    except (LabelError, NumericsError):
        assert status, f"{function.name}: a check failed, and the kernels for GPUs say that none did"
        raise
    assert status == 0, f"{function.name}: the kernels for GPUs say that check {status} failed, the CPU's do not"
    for (name, _), number in zip(function.runner.results, found, strict=True):
        check_close(f"{function.name}: result {name}", results[name], number)
    for name, parameter in function.parameters.items():
        check_close(f"{function.name}: {name}", decided(name, states[name]), decided(name, parameter.storage.array))
    return found


def decided(name: str, numbers: np.ndarray) -> np.ndarray:
    """Without the bias of an attention's keys: its gradient is 0 but for rounding, of which Adam makes whole steps."""
    if not name.endswith("in_proj_bias"):
        return numbers
    queries, _, values = np.split(numbers, 3)
    return np.concatenate([queries, values])


def emulator_of(function: Function) -> Emulator | None:
    """What has the kernels of a function; None for what no kernel for GPUs does, and for functions of a GPU."""
    if function not in emulators:
        is_compared = function.device == "cpu" and function.name not in ILL_CONDITIONED
        try:
            emulators[function] = Emulator(draw(passed_for_device(function.traced))) if is_compared else None
        except NotCovered:
            emulators[function] = None
    return emulators[function]


def emulated(
    function: Function, emulator: Emulator, arrays: Sequence[np.ndarray], extents: Mapping[Dim, int]
) -> tuple[int, Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """(status, results, states) of the same call by the kernels for GPUs."""
    function.write_scalars()
    emulator.put("state", {name: each.storage.array for name, each in function.parameters.items()})
    size = 8 * len(function.scalars)
    emulator.scalars[:size] = function.runner.scalars[:size]
    status = emulator.run(arrays, extents)
    return status, emulator.get("results", extents), emulator.get("state", {})


def check_close(what: str, found: Any, wanted: Any) -> None:
    """Whole numbers are equal, others close, and no fewer and no more of them finite."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    if wanted.dtype.kind in "iub":
        assert np.array_equal(found, wanted), f"{what} is {found} by the kernels for GPUs, not {wanted}"
        return
    finite = np.isfinite(wanted)
    assert np.array_equal(np.isfinite(found), finite), f"{what} is {found} by the kernels for GPUs, not {wanted}"
    if finite.any():
        found, wanted = found / 4, wanted / 4  # the largest numbers would not bear what comes
        scale = TOLERANCE * (np.abs(wanted[finite]) + np.abs(wanted[finite]).max() / 20) + 1e-7
        apart = np.abs(found[finite].astype(np.float64) - wanted[finite])
        assert (apart <= scale).all(), f"{what} is up to {4 * apart.max()} away by the kernels for GPUs"
