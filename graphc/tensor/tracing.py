"""What is going on while a step is traced: current values and gradients of parameters, and no_grad."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from graphc.errors import TraceError
from graphc.ir.graph import in_role, user_origin

if TYPE_CHECKING:
    from graphc.ir.graph import Value
    from graphc.plan import Probe
    from graphc.tensor.parameter import Parameter
    from graphc.tensor.tensor import Tensor


class Trace:
    """What a traced function did to parameters: their current values, their gradients; and which values it marked.

    sums    what metrics compute that is added up over the batches of an epoch
    layers  the class of each module that was called, by its path
    probes  what is to be looked at after each call
    """

    def __init__(self) -> None:
        self.current: dict[Parameter, Tensor] = {}
        self.gradients: dict[Parameter, Tensor] = {}
        self.sums: list[Value] = []
        self.layers: dict[str, str] = {}
        self.probes: list[Probe] = []


_TRACE: ContextVar[Trace | None] = ContextVar("trace", default=None)
_NO_GRAD: ContextVar[bool] = ContextVar("no_grad", default=False)


@contextmanager
def tracing() -> Iterator[Trace]:
    """Inside, in-place changes of parameters are recorded as updates of the returned trace."""
    trace = Trace()
    token = _TRACE.set(trace)
    try:
        yield trace
    finally:
        _TRACE.reset(token)


@contextmanager
def no_grad() -> Iterator[None]:
    """No gradient flows through what is computed inside; updates are written in it, as in PyTorch."""
    token = _NO_GRAD.set(True)
    try:
        with in_role("update"):
            yield
    finally:
        _NO_GRAD.reset(token)


def current_trace() -> Trace | None:
    return _TRACE.get()


def gradients_stop() -> bool:
    """Inside of no_grad()."""
    return _NO_GRAD.get()


def active_trace(action: str) -> Trace:
    trace = _TRACE.get()
    if trace is None:
        raise TraceError(
            f"{action} outside of a traced step has nothing to act on",
            user_origin(),
            ["write it inside a function under @gx.step, or give gx.function(updates={...}) the new value"],
        )
    return trace
