"""Functions that combine the elements along axes."""

from graphc.tensor.reduction import *
