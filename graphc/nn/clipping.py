"""Gradients kept within bounds, inside a traced step; and the numbers of many parameters as one vector."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from graphc.arrays import as_array
from graphc.errors import GradientError, ShapeError, TraceError
from graphc.functional import abs as absolute
from graphc.functional import cast, clip, maximum, minimum, pow, sqrt
from graphc.ir.graph import user_origin
from graphc.settings import check_list, check_number, check_switch, require
from graphc.tensor import Gradient, Parameter, Tensor, active_trace, as_tensor, no_grad

PARAMETERS = "a list of parameters, such as net.parameters()"


def clip_grad_norm_(parameters: Any, max_norm: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients together by min(1, max_norm / (norm + 1e-6)); returns their norm before that.

    parameters  one parameter or several; those without a gradient do not count
    max_norm    a number from 0 on, or a gx.scalar
    norm_type   p of the norm over all elements of all gradients; math.inf for the largest of them

    Call it between loss.backward() and optimizer.step(). Raises ArgumentError for a norm_type or max_norm that makes no
    sense, TraceError outside of a traced step, GradientError when no parameter has a gradient.
    error_if_nonfinite is a matter of the whole step: return the norm from it and make it with nan="raise".
    """
    held = with_gradients("clip_grad_norm_", parameters)
    norm = get_total_norm([parameter.grad for parameter in held], norm_type, error_if_nonfinite)
    clip_grads_with_norm_(held, max_norm, norm)
    return norm


def get_total_norm(tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """The norm of all elements of all tensors as one vector; errors as in clip_grad_norm_."""
    if check_switch("error_if_nonfinite", error_if_nonfinite):
        advice = ['return the norm from the step, and make the step with nan="raise"']
        raise TraceError("error_if_nonfinite=True: a traced step cannot stop halfway", user_origin(), advice)
    several = [tensors] if isinstance(tensors, Tensor) else check_list("tensors", tensors)
    given = [as_tensor(tensor) for tensor in several]
    require(bool(given), "tensors", given, "at least one")
    check_number("norm_type", norm_type, 0, above=True)
    with no_grad():
        if norm_type == math.inf:
            return functools.reduce(maximum, [absolute(tensor).max() for tensor in given])
        if norm_type == 2:
            return sqrt(total([tensor * tensor for tensor in given]))
        return pow(total([pow(absolute(tensor), norm_type) for tensor in given]), 1 / norm_type)


def clip_grads_with_norm_(parameters: Any, max_norm: Any, total_norm: Tensor) -> None:
    """Scale all gradients by min(1, max_norm / (total_norm + 1e-6)); errors as in clip_grad_norm_."""
    check_bound("max_norm", max_norm)
    with no_grad():
        scale = minimum(max_norm / (total_norm + 1e-6), 1.0)
        for parameter in with_gradients("clip_grads_with_norm_", parameters):
            parameter.grad = Gradient((parameter.grad * cast(scale, parameter.dtype)).value)


def clip_grad_value_(parameters: Any, clip_value: Any) -> None:
    """Limit every element of every gradient to -clip_value .. clip_value; errors as in clip_grad_norm_."""
    check_bound("clip_value", clip_value)
    with no_grad():
        for parameter in with_gradients("clip_grad_value_", parameters):
            parameter.grad = Gradient(clip(parameter.grad, -clip_value, clip_value).value)


def parameters_to_vector(parameters: Iterable[Parameter]) -> np.ndarray[Any, Any]:
    """The present numbers of all parameters, one after the other."""
    return np.concatenate([parameter.numpy().reshape(-1) for parameter in listed(parameters)])


def vector_to_parameters(vec: Any, parameters: Iterable[Parameter]) -> None:
    """Put the numbers of parameters_to_vector back. Raises ShapeError, before anything changes, for another length."""
    held, vector = listed(parameters), as_array(vec, "vec")
    sizes = [parameter.storage.array.size for parameter in held]
    if vector.shape != (sum(sizes),):
        found = "x".join(str(extent) for extent in vector.shape)
        raise ShapeError(f"the vector has shape [{found}], the parameters hold {sum(sizes)} numbers", user_origin())
    for parameter, part in zip(held, np.split(vector, np.cumsum(sizes)[:-1]), strict=True):
        parameter.copy_(part.reshape(parameter.storage.array.shape))


def with_gradients(what: str, parameters: Any) -> list[Any]:
    """The parameters that have a gradient in this trace. Raises GradientError where none has."""
    active_trace(f"{what}()")
    given = listed(parameters)
    held = [parameter for parameter in given if parameter.grad is not None]
    if not held:
        advice = ["call loss.backward() before it, on a loss that depends on the parameters"]
        raise GradientError(f"{what} found no gradient for any of {len(given)} parameters", user_origin(), advice)
    return held


def listed(parameters: Any) -> list[Parameter]:
    """One parameter or several, as a list that is not empty."""
    given = [parameters] if isinstance(parameters, Parameter) else check_list("parameters", parameters, PARAMETERS)
    for parameter in given:
        require(isinstance(parameter, Parameter), "one of the parameters", parameter, "a gx.Parameter")
    require(bool(given), "parameters", given, PARAMETERS)
    return given


def check_bound(name: str, bound: Any) -> None:
    """Refuse what is neither a number from 0 on nor a tensor of one number."""
    if isinstance(bound, Tensor):
        return require(bound.ndim == 0, name, bound, "a number, or a tensor of one number")
    check_number(name, bound, 0)


def total(tensors: list[Tensor]) -> Tensor:
    return functools.reduce(lambda a, b: a + b, [tensor.sum() for tensor in tensors])
