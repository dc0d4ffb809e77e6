"""`import graphc.nn.functional as F`: the functions of graphc.functional under PyTorch's address."""

from graphc.functional import *  # noqa: F403
