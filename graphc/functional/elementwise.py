"""Functions of one element at a time."""

from graphc.tensor.arithmetic import *
from graphc.tensor.comparison import *
from graphc.tensor.maths import *
