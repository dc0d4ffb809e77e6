"""`import graphc.nn.init as init`: the functions of graphc.init under PyTorch's address."""

from graphc.init import *  # noqa: F403
