"""Symbolic tensors: types, tracing, parameters, and the functions that are methods of tensors, by subject."""

from graphc.tensor.building import (
    apply,
    as_floats,
    as_tensor,
    cast_value,
    common_dtype,
    common_shape,
    elementwise,
    floating,
    is_plain_number,
    lift,
    stretch,
    where,
)
from graphc.tensor.dtypes import DType, as_dtype, as_extent, bool_, dim, dtype_name, f32, f64, i32, i64, u8
from graphc.tensor.parameter import Gradient, Parameter, Scalar, grad, input, parameter, scalar
from graphc.tensor.products import matmul
from graphc.tensor.size import Size
from graphc.tensor.tensor import Tensor
from graphc.tensor.tracing import Trace, active_trace, no_grad, tracing
