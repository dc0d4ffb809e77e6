"""graphc: declare a model in Python, get its whole training step as one native function.

import graphc as gx
from graphc import nn, optim, data, datasets
"""

from typing import TYPE_CHECKING

from graphc.errors import (
    ArgumentError,
    BatchError,
    CheckpointError,
    DatasetError,
    DeviceError,
    DTypeError,
    GradientError,
    GraphcError,
    InternalError,
    LabelError,
    NumericsError,
    ShapeError,
    TargetError,
    TraceError,
    UnknownNameError,
)
from graphc.function import Function
from graphc.later import imports_above
from graphc.step import eval_step, function, predict_step, step, train_step
from graphc.tensor import (
    Parameter,
    Scalar,
    Tensor,
    bool_,
    dim,
    f32,
    f64,
    grad,
    i32,
    i64,
    input,
    no_grad,
    parameter,
    scalar,
    u8,
)

if TYPE_CHECKING:
    from graphc import checkpoint, cuda, data, datasets, errors, functional, init, nn, optim, plots, train
    from graphc.checkpoint import load, save
    from graphc.control import cond, scan
    from graphc.debugging import debug
    from graphc.derivatives import custom_vjp, hvp, jvp, per_sample_gradient_norms, vjp
    from graphc.exporting import export
    from graphc.functional import *
    from graphc.generator import get_rng_state, manual_seed, set_rng_state
    from graphc.halves import apply_step, gradient_step
    from graphc.probes import print, probe, sample
    from graphc.show import to_networkx
    from graphc.train import Callback, Checkpoint, EarlyStopping, History, LearningRateSchedule, evaluate, fit, predict
else:
    __getattr__, __dir__ = imports_above(__name__)

__version__ = "0.1.0"
