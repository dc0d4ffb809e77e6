"""Optimizers with PyTorch's names, defaults and formulas: `step()` inside a traced step records the updates."""

from typing import TYPE_CHECKING

from graphc.later import imports_above

if TYPE_CHECKING:
    from graphc.optim import lr_scheduler
    from graphc.optim.accumulate import Accumulate
    from graphc.optim.adagrad import Adadelta, Adagrad, RMSprop
    from graphc.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
    from graphc.optim.optimizer import Optimizer
    from graphc.optim.sgd import SGD, Lion
else:
    __getattr__, __dir__ = imports_above(__name__)
