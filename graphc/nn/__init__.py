"""Modules, layers and losses with PyTorch's names, defaults, initialisation and state_dict keys."""

from graphc import init
from graphc.nn.activation import LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from graphc.nn.containers import ModuleList, Sequential
from graphc.nn.linear import Flatten, Identity, Linear
from graphc.nn.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss
from graphc.nn.module import Module, forget_gradient, name_parameters
from graphc.tensor import Parameter
