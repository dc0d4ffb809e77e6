"""Optimizers with PyTorch's names, defaults and formulas: `step()` inside a traced step records the updates."""

from graphc.optim import lr_scheduler
from graphc.optim.accumulate import Accumulate
from graphc.optim.adagrad import Adadelta, Adagrad, RMSprop
from graphc.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from graphc.optim.optimizer import Optimizer
from graphc.optim.sgd import SGD, Lion
