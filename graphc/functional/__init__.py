"""Functions of tensors under NumPy's and PyTorch's names: compositions of ops, never ops.

Those that are methods of tensors too are defined in graphc.tensor, by subject, and gathered here with the others.

`axis` and `dim`, `keepdims` and `keepdim` mean the same. Floats come out as f32 unless an f64 went in; integers are
converted where a function needs floats. Every loss raises ShapeError, naming both types, for operands that do not fit.
"""

from typing import TYPE_CHECKING

from graphc.later import imports_above

if TYPE_CHECKING:
    from graphc.functional.activation import *
    from graphc.functional.attention import *
    from graphc.functional.convolution import *
    from graphc.functional.creation import *
    from graphc.functional.distances import *
    from graphc.functional.dropouts import *
    from graphc.functional.labels import *
    from graphc.functional.losses import *
    from graphc.functional.metrics import *
    from graphc.functional.normalization import *
    from graphc.functional.padding import *
    from graphc.functional.pooling import *
    from graphc.functional.products import *
    from graphc.functional.random import *
    from graphc.functional.recurrent import *
    from graphc.functional.resampling import *
    from graphc.functional.tables import *
    from graphc.functional.windows import *
    from graphc.tensor.arithmetic import *
    from graphc.tensor.comparison import *
    from graphc.tensor.diagonals import *
    from graphc.tensor.indexing import *
    from graphc.tensor.joining import *
    from graphc.tensor.maths import *
    from graphc.tensor.placing import *
    from graphc.tensor.reduction import *
    from graphc.tensor.sorting import *
    from graphc.tensor.views import *
else:
    __getattr__, __dir__ = imports_above(__name__)
