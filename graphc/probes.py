"""Looking at values inside of a model: `gx.probe` keeps them, `gx.print` prints them, `gx.sample` gives numbers while
tracing.

A compiled function computes what it returns and nothing else, so what is to be looked at becomes a result of its own.
"""

from __future__ import annotations

import ast
import builtins
import linecache
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import generator
from graphc.arrays import fit_array
from graphc.errors import TraceError
from graphc.evaluation import evaluate, is_known
from graphc.ir import ops
from graphc.ir.graph import Origin, is_recording, reachable, user_origin
from graphc.plan import Probe
from graphc.settings import require
from graphc.tensor import Tensor, as_tensor
from graphc.tensor.tracing import current_trace

SAMPLE = "sample"  # in the memo of an input: the numbers it is shown with
ELSEWHERE = "outside of a traced step, name it among the results: gx.function(inputs, {'loss': loss, 'h': h})"


def probe(x: Any, name: str) -> Tensor:
    """Keep a value of a traced step: after a call, `step.probes[name]` is the array it had; returns x.

    After an epoch it is that of the last batch, and the epoch goes from batch to batch. What a call returns stays as it
    is. Raises TraceError outside of a traced step, inside of a function given to scan, cond or custom_vjp, whose values
    are others in every step, and for a second probe of the same name.
    """
    require(isinstance(name, str) and name != "", "the name of a probe", name, "a text")
    return marked(as_tensor(x), name, printed=False, what="gx.probe")


def print(x: Any, name: str = "") -> Tensor:
    """Print a value of a traced step after every call; of an epoch, that of the last batch; returns x.

    name  what stands before the numbers; the expression in the user's line if none is given

    Outside of a traced step, what is known already is printed at once. Raises TraceError as `probe` does.
    """
    require(isinstance(name, str), "the name of what is printed", name, "a text")
    tensor, origin = as_tensor(x), user_origin()
    label = name or argument(origin) or "value"
    if current_trace() is None and is_known(tensor):
        write(Probe(label, tensor.value, True, origin), evaluate(tensor))
        return tensor
    return marked(tensor, label, printed=True, what="gx.print")


def marked(tensor: Tensor, name: str, *, printed: bool, what: str) -> Tensor:
    """The tensor, which the step that is traced shows under a name."""
    trace, origin = current_trace(), user_origin()
    if trace is None:
        raise TraceError(f"{what} of {tensor.type} has no step that could show it", origin, [ELSEWHERE])
    if is_recording():
        text = f"{what} of {tensor.type} inside of a function given to scan, cond or custom_vjp"
        raise TraceError(text, origin, ["it has no one value there: return it, and look at what comes out"])
    taken = {each.name for each in trace.probes}
    if name in taken and not printed:
        raise TraceError(f"two probes of one step are called {name!r}; each needs a name of its own", origin)
    number, title = 1, name
    while title in taken:
        number, title = number + 1, f"{name} ({number + 1})"
    trace.probes.append(Probe(title, tensor.value, printed, origin))
    return tensor


def argument(origin: Origin | None) -> str:
    """The first argument of the call at a place, as it is written; "" where that cannot be read."""
    if origin is None or origin.column is None or origin.end_column is None:
        return ""
    code = linecache.getline(origin.file, origin.line).encode()[origin.column : origin.end_column].decode()
    try:
        call = ast.parse(code, mode="eval").body
    except SyntaxError:
        return ""
    return ast.unparse(call.args[0]) if isinstance(call, ast.Call) and call.args else ""


def show(probes: Sequence[Probe], numbers: Sequence[Any]) -> None:
    """Print the values of a call that are to be printed."""
    for each, found in zip(probes, numbers, strict=True):
        if each.printed:
            write(each, np.asarray(found))


def write(probed: Probe, numbers: np.ndarray[Any, Any]) -> None:
    place = f" at {probed.origin}" if probed.origin else ""
    kind = f"{probed.value.type.dtype}{list(numbers.shape)}".replace(" ", "")
    builtins.print(f"{probed.name}: {kind}{place}\n{numbers}" if numbers.ndim else f"{probed.name}: {numbers}{place}")


def sample(x: Any, array: Any) -> Tensor:
    """Give an input of a traced step numbers to be shown with: from then on `print(h)` of what is computed of it shows
    the numbers that h has for them, with parameters as they are; returns x.

    x      an input: a parameter of the function under @gx.step, or what gx.input made
    array  as a call takes it, of any batch size

    Only for reading: the step is traced as ever, and a condition on h is still refused. Raises TraceError for what is
    no input, ShapeError, DTypeError and BatchError for an array that does not fit.
    """
    tensor = as_tensor(x)
    value = tensor.value
    if value.op is not ops.input or value.attrs["role"] != "data":
        text = f"only inputs have samples, {tensor.type} is computed by {value.op.name}"
        raise TraceError(text, user_origin(), ["give the sample to the input it is computed of"])
    value.memo[SAMPLE] = fit_array(value, array, {}, "the sample")
    return tensor


def sampled(tensor: Tensor) -> np.ndarray[Any, Any] | None:
    """The numbers a tensor has for the samples of the inputs it depends on; None unless all of them have one."""
    inputs = [value for value in reachable((tensor.value,)) if value.op is ops.input and value.owner is None]
    if not inputs or any(SAMPLE not in value.memo for value in inputs):
        return None
    before = generator.state.storage.array.copy()
    try:
        return evaluate(tensor, {value: value.memo[SAMPLE] for value in inputs})
    finally:
        generator.state.storage.array[...] = before  # to look at random numbers draws none of those of the calls
