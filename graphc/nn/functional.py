"""`import graphc.nn.functional as F`: the functions of graphc.functional under PyTorch's address."""

from typing import TYPE_CHECKING

from graphc.later import imports_above

if TYPE_CHECKING:
    from graphc.functional import *
else:
    __getattr__, __dir__ = imports_above(__name__)
