"""Optimizers with PyTorch's names, defaults and formulas: `step()` inside a traced step records the updates."""

from graphc.optim.adam import Adam, AdamW
from graphc.optim.optimizer import Optimizer
from graphc.optim.sgd import SGD
