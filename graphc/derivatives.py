"""Derivatives beyond the gradient of a loss: pullbacks, directional and second derivatives, gradients of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graphc.control import BodyWriter, scan
from graphc.errors import GradientError, ShapeError, TraceError
from graphc.ir import ops
from graphc.ir.graph import Graph, Output, recording, user_origin
from graphc.ir.types import FLOATS
from graphc.settings import check_function, require
from graphc.structure import leaves, rebuilt
from graphc.tensor import Tensor, apply, as_tensor, grad


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Tensor, Callable[[Any], tuple[Tensor, ...]]]:
    """f(*primals), and the function from a cotangent of its shape to the cotangents of the primals, Jᵀ times it."""
    check_function("f", f, takes=len(primals))
    points = [variable(primal) for primal in primals]
    out = as_tensor(f(*points))

    def pull_back(cotangent: Any) -> tuple[Tensor, ...]:
        weights = as_tensor(cotangent)
        check_alike("the cotangent", weights, out)
        return tuple(grad((out * weights.detach()).sum(), points))

    return out, pull_back


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """f(*primals), and its derivative along the tangents, J times them; both of the shape of f's result.

    Taken as the derivative of Jᵀ u by u, which J is the transpose of: two backward sweeps and no third kind of rule.
    """
    for name, given in (("primals", primals), ("tangents", tangents)):
        require(isinstance(given, (list, tuple)), name, given, "a tuple, with one for each argument of f")
    check_function("f", f, takes=len(primals))
    points, directions = [variable(primal) for primal in primals], [as_tensor(tangent) for tangent in tangents]
    if len(points) != len(directions):
        raise ShapeError(f"jvp got {len(points)} primals and {len(directions)} tangents", user_origin())
    for number, (point, direction) in enumerate(zip(points, directions, strict=True)):
        check_alike(f"tangent {number}", direction, point)
    out = as_tensor(f(*points))
    weights = variable(Tensor(ops.full(value=0.0, type=out.type)))
    slopes = grad((out * weights).sum(), points)
    along = sum(((slope * direction).sum() for slope, direction in zip(slopes, directions, strict=True)), start=0.0)
    return out, as_tensor(grad(as_tensor(along), weights))


def hvp(f: Callable[..., Any], x: Any, v: Any) -> Tensor:
    """The Hessian of a scalar function at x times v; x, v and the result have one shape.

    Source: Pearlmutter 1994, Fast exact multiplication by the Hessian.
    """
    check_function("f", f, takes=1)
    point, direction = variable(x), as_tensor(v)
    check_alike("v", direction, point)
    slope = grad(as_tensor(f(point)), point)
    return as_tensor(grad((slope * direction.detach()).sum(), point))


def per_sample_gradient_norms(f: Callable[..., Any], parameters: Sequence[Any], *batch: Any) -> Tensor:
    """The Euclidean norm of every sample's own gradient, over all parameters together: [n].

    f           loss of one sample; its arguments are slices of the batch with a leading axis of 1
    parameters  what the gradients are taken by
    batch       arrays [n, ...]
    """
    check_function("f", f, takes=len(batch))
    rows = [as_tensor(array) for array in batch]
    fits = isinstance(parameters, Iterable) and not isinstance(parameters, Tensor)
    wanted = list(parameters) if fits else []
    require(wanted != [], "parameters", parameters, "a list of parameters, such as net.parameters()")

    def one(state: None, sample: tuple[Tensor, ...]) -> tuple[None, Tensor]:
        loss = as_tensor(f(*(part.unsqueeze(0) for part in sample))).sum()
        squares = [(slope * slope).sum() for slope in grad(loss, wanted)]
        return state, sum(squares[1:], start=squares[0]).sqrt()

    return as_tensor(scan(one, None, tuple(rows))[1])


def variable(x: Any) -> Tensor:
    """x as a value of its own, that a derivative can be taken by."""
    tensor = as_tensor(x)
    if tensor.value.dtype not in FLOATS:
        raise GradientError(f"only floats have derivatives, got {tensor.type}", user_origin(), ["cast it first"])
    return tensor if tensor.value.op is ops.input else apply(ops.copy, tensor.value)


def check_alike(name: str, found: Tensor, wanted: Tensor) -> None:
    if found.type != wanted.type:
        raise ShapeError(f"{name} is {found.type} but must be {wanted.type}", user_origin())


class custom_vjp:
    """Decorator: a function whose gradient its author gives, as `jax.custom_vjp` does.

    @gx.custom_vjp
    def clipped(x): return x

    @clipped.defvjp
    def _(inputs, out, ct): return gx.clip(ct, -1, 1)

    The rule takes the tuple of inputs, the output and its cotangent and returns one cotangent, or a tuple of one, or
    None, for each input. JAX's pair `f.defvjp(forward, backward)` works as well: forward(*inputs) -> (out, residuals),
    backward(residuals, ct) -> cotangents. Inputs and output are single tensors.
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        check_function("f", f)
        self.forward: Callable[..., tuple[Any, Any]] = lambda *inputs: (f(*inputs), inputs)
        self.backward: Callable[[Any, Any, Any], Any] | None = None
        self.__name__, self.__doc__ = getattr(f, "__name__", type(f).__name__), f.__doc__

    def defvjp(self, rule: Callable[..., Any], backward: Callable[[Any, Any], Any] | None = None) -> Callable[..., Any]:
        """The gradient: one rule (inputs, out, ct), or JAX's two functions."""
        check_function("rule", rule, takes=3 if backward is None else None)
        if backward is None:
            self.backward = rule
        else:
            check_function("backward", backward, takes=2)
            self.forward, self.backward = rule, lambda residuals, out, ct: backward(residuals, ct)
        return rule

    def __call__(self, *inputs: Any) -> Tensor:
        if self.backward is None:
            raise TraceError(
                f"{self.__name__} has no gradient yet; give it one with @{self.__name__}.defvjp", user_origin()
            )
        tensors = [as_tensor(each) for each in inputs]
        out, residuals = self.forward(*tensors)
        result = as_tensor(out)
        kept = [as_tensor(leaf) for leaf in leaves(residuals)]
        inner_out = ops.input(name="out", role="data", type=result.type)
        ct = ops.input(name="ct", role="data", type=result.type)
        places = [ops.input(name=f"r{number}", role="data", type=each.type) for number, each in enumerate(kept)]
        with recording() as made:
            found = self.backward(rebuilt(residuals, map(Tensor, iter(places))), Tensor(inner_out), Tensor(ct))
        cotangents = self.check(found, tensors)
        body = BodyWriter({ct, inner_out, *places}, made)
        outputs = tuple(
            Output("result", f"d{number}", body.own(each.value))
            for number, each in enumerate(cotangents)
            if each is not None
        )
        graph = Graph("rule", (ct, inner_out, *places, *body.captured.values()), outputs)
        operands = [result.value, *(each.value for each in (*tensors, *kept)), *body.captured]
        return apply(ops.custom, *operands, rule=ops.Body(graph), inputs=len(tensors))

    def check(self, found: Any, inputs: Sequence[Tensor]) -> list[Tensor | None]:
        """One cotangent of the type of each input, or None."""
        given = list(found) if isinstance(found, (tuple, list)) else [found]
        if len(given) != len(inputs):
            raise GradientError(
                f"the gradient of {self.__name__} gives {len(given)} cotangents for {len(inputs)} inputs", user_origin()
            )
        cotangents = [None if each is None else as_tensor(each) for each in given]
        for number, (cotangent, each) in enumerate(zip(cotangents, inputs, strict=True)):
            if cotangent is not None and cotangent.type != each.type:
                raise GradientError(
                    f"the gradient of {self.__name__} gives {cotangent.type} for input {number}, which is {each.type}",
                    user_origin(),
                )
        return cotangents
