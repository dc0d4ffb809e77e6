"""The same elements in another shape."""

from graphc.tensor.views import *
