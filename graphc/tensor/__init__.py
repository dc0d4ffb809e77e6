"""Symbolic tensors: types, tracing, operators, parameters."""

from graphc.tensor.dtypes import DType, as_extent, bool_, dim, f32, f64, i32, i64, u8
from graphc.tensor.parameter import Gradient, Parameter, Scalar, check_scalar, grad, input, parameter, scalar
from graphc.tensor.tensor import (
    Size,
    Tensor,
    apply,
    as_tensor,
    cast_value,
    common_dtype,
    common_shape,
    elementwise,
    floating,
    is_plain_number,
    lift,
    matmul,
    normal_axes,
    reduce,
    stretch,
    where,
)
from graphc.tensor.tracing import Trace, active_trace, no_grad, tracing
