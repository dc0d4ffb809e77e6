"""Stand-ins for the arrays of other libraries, which the tests do not need."""

from __future__ import annotations

import numpy as np


class WithArray:
    def __init__(self, numbers):
        self.numbers = numbers

    def __array__(self, dtype=None, copy=None):
        return np.array(self.numbers, dtype, copy=copy)


class WithInterface:
    def __init__(self, numbers):
        self.numbers = numbers
        self.__array_interface__ = numbers.__array_interface__


class WithDLPack:
    def __init__(self, numbers):
        self.numbers = numbers

    def __dlpack__(self, **options):
        return self.numbers.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.numbers.__dlpack_device__()


class Recording(WithArray):
    """Like a PyTorch tensor that records gradients."""

    requires_grad = True

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")

    def detach(self):
        return WithArray(self.numbers)


class OnDevice(WithArray):
    """Like a PyTorch tensor in the memory of a GPU."""

    requires_grad = False

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy.\nUse Tensor.cpu() first.")


class Unsupported(WithDLPack):
    def __dlpack__(self, **options):
        raise BufferError("unsupported element type bfloat16")
