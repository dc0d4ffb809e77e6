"""`with gx.debug(...)`: steps that look at their own numbers, kernel by kernel if asked.

The calls of compiled functions are others for as long as a block runs, so that nobody pays for them outside of one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from graphc import epochs
from graphc.backends.cache import default_cache
from graphc.blame import explain, floats_of, is_finite
from graphc.cuda import at_home
from graphc.errors import DeviceError, GraphcError, InternalError
from graphc.failures import fail
from graphc.function import Function
from graphc.ir.frozen import dataclass
from graphc.ir.graph import user_origin
from graphc.limits import check_limits
from graphc.plan import is_shown
from graphc.settings import check_choice, require

if TYPE_CHECKING:
    from graphc.backends.stepping import Stepper

Arrays = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Look:
    """What a block looks at: numbers that are not finite, kernels that are not what the reference computes."""

    nan: bool
    check: bool


_LOOK: ContextVar[Look | None] = ContextVar("look", default=None)
PLAIN_RUN, PLAIN_EPOCH = Function.run, Function.epoch
LOCK = threading.Lock()
OPEN: list[Look] = []  # blocks of all threads
STEPPERS: WeakKeyDictionary[Function, Stepper] = WeakKeyDictionary()


def debug(*, nan: str | None = "raise", check: str | None = None) -> AbstractContextManager[None]:
    """Look into the calls of compiled functions that are made inside of the block, epochs among them.

    nan    "raise": a result or a parameter that is not finite after a call raises NumericsError. It names the first
           value that is not, in the forward pass, the backward pass or the update, on the user's line, with the numbers
           it was computed of. Infinities that constants or data bring in, as masks do, are no fault by themselves
    check  "reference": the native kernels run one by one, and each is compared with the NumPy reference, computed of
           the numbers that were there before it. InternalError names the first that differs and tells of a script that
           reproduces it. Kernels of the CPU only: DeviceError for a step on a GPU

    Nothing is updated when either is found. An epoch goes from batch to batch. A call is as quick as ever up to the
    first fault without `check`, but for a copy of all states; with it, it takes as long as NumPy does.
    """
    check_choice("nan", nan, ("raise", None))
    check_choice("check", check, ("reference", None))
    return looking(Look(nan is not None, check is not None))


@contextmanager
def looking(look: Look) -> Iterator[None]:
    """Such a block. It is apart from `debug` so that wrong arguments are refused on the line that gives them."""
    token = _LOOK.set(look)
    with LOCK:
        OPEN.append(look)
        Function.run, Function.epoch = run, epoch  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        with LOCK:
            OPEN.pop()
            if not OPEN:
                Function.run, Function.epoch = PLAIN_RUN, PLAIN_EPOCH  # type: ignore[method-assign]
        _LOOK.reset(token)


def run(function: Function, arrays: Arrays) -> list[Any]:
    """`Function.run` with a look at the numbers, where this thread is inside of a block."""
    look = _LOOK.get()
    if look is None:
        return PLAIN_RUN(function, arrays)
    function.write_scalars()
    ready, sizes = function.fit(arrays)
    # Kernels one by one are one call: none of another thread may come between, nor use the memory they work in.
    with function.runner.lock if look.check and function.device == "cpu" else nullcontext():
        return looked_at(function, look, ready, sizes)


def looked_at(function: Function, look: Look, ready: Arrays, sizes: Sequence[int]) -> list[Any]:
    """The results of a call; where something is found, an error and the states as they were."""
    storages = [parameter.storage for parameter in function.parameters.values()]
    before = [storage.array.copy() for storage in storages]
    try:
        results = by_kernels(function, ready, sizes, before) if look.check else at_once(function, ready, sizes)
        if look.nan:
            check_finite(function, ready, before, results)
    except BaseException:
        for storage, array in zip(storages, before, strict=True):
            storage.array[...] = array
        raise
    return results


def epoch(function: Function, loader: Any, progress: Any = None, slices: int = 1) -> Any:
    """`Function.epoch`, batch by batch where this thread is inside of a block."""
    if _LOOK.get() is None:
        return PLAIN_EPOCH(function, loader, progress, slices)
    require(hasattr(loader, "dataset"), "loader", loader, "a loader, such as DataLoader(TensorDataset(x, y), 64)")
    counted = Counted(loader)
    try:
        return epochs.of_batches(function, counted, progress)
    except GraphcError as error:
        error.message += f" in step {counted.number} of the epoch"
        raise


class Counted:
    """A loader that knows which batch it gave last."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.number = 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self.loader):
            self.number = number
            yield batch


def at_once(function: Function, arrays: Arrays, sizes: Sequence[int]) -> list[Any]:
    status, results = function.run_fitted(arrays, sizes)
    if status:
        fail(function, status, [*map(at_home, arrays)])
    return results


def by_kernels(function: Function, arrays: Arrays, sizes: Sequence[int], before: Arrays) -> list[Any]:
    """The results of a call whose kernels are compared with the reference one by one."""
    if function.device != "cpu":
        text = f"check='reference' looks at kernels of the CPU, and {function.name} runs on a GPU"
        raise DeviceError(text, user_origin(), ["compile it with device='cpu', or leave check out"])
    if function.limits:
        check_limits(function.name, function.limits, dict(zip(function.runner.dims, sizes, strict=True)))
    stepper = stepper_of(function)
    scalars = [scalar.number for scalar in function.scalars.values()]
    checks = stepper.program.checks
    for number, known in stepper.run(arrays, sizes, scalars):
        found = stepper.difference(number, known, sizes)
        if found is not None:
            from graphc.reproduction import told, write_script

            script = write_script(found, stepper, known, named(function, arrays, before))
            text = f"{function.name}: {told(found)}"
            raise InternalError(text, found.value.origin, [f"reproduce it: python {script}"])
        for index, check in enumerate(checks):
            if check.nest == number and known[check.buffer.value].any():
                fail(function, index + 1, arrays)
    return [stepper.results[name] for name, _ in function.runner.results]


def stepper_of(function: Function) -> Stepper:
    """The kernels of a function one by one; made when first asked for, and kept."""
    from graphc.backends.stepping import Stepper

    found = STEPPERS.get(function)
    if found is None:
        storages = [*function.runner.storages]
        found = STEPPERS[function] = Stepper(function.artifact.blueprint, storages, default_cache())
    return found


def named(function: Function, arrays: Arrays, states: Arrays) -> dict[str, Any]:
    """All inputs of a function by name, with its states as they were before the call."""
    found = dict(zip((value.attrs["name"] for value in function.inputs), map(at_home, arrays), strict=True))
    found |= dict(zip(function.parameters, states, strict=True))
    return found | {name: scalar.number for name, scalar in function.scalars.items()}


def check_finite(function: Function, arrays: Arrays, before: Arrays, results: Sequence[Any]) -> None:
    """NumericsError for a result or a state that is not finite."""
    shown = zip(function.runner.results, results, strict=True)
    bad = [name for (name, _), result in shown if not is_shown(name) and not is_finite(np.asarray(result))]
    bad += [name for name in floats_of(function.traced) if not is_finite(function.parameters[name].storage.array)]
    if bad:
        raise explain(function.name, function.traced, named(function, arrays, before), bad)
