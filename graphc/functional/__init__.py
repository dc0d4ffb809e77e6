"""Functions of tensors under NumPy's and PyTorch's names: compositions of ops, never ops.

`axis` and `dim`, `keepdims` and `keepdim` mean the same. Floats come out as f32 unless an f64 went in; integers are
converted where a function needs floats. Every loss raises ShapeError, naming both types, for operands that do not fit.
"""

from graphc.functional import activation, creation, elementwise, labels, losses, metrics, products, reduction, shape
from graphc.functional.activation import *
from graphc.functional.creation import *
from graphc.functional.elementwise import *
from graphc.functional.labels import *
from graphc.functional.losses import *
from graphc.functional.metrics import *
from graphc.functional.products import *
from graphc.functional.reduction import *
from graphc.functional.shape import *

__all__ = [
    *activation.__all__,
    *creation.__all__,
    *elementwise.__all__,
    *labels.__all__,
    *losses.__all__,
    *metrics.__all__,
    *products.__all__,
    *reduction.__all__,
    *shape.__all__,
]
