"""The order of an epoch, drawn natively: the one that is defined in NumPy."""

import numpy as np
import pytest

from graphc.backends.shuffling import fill
from graphc.ir.random import permutation


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 1000])
def test_the_order_is_the_permutation(count):
    order = np.empty(count, np.int64)
    fill(order, 2**63 - 1, 7)
    assert np.array_equal(order, permutation(count, 2**63 - 1, 7))
