"""The weights of a result's elements in stored gradients, all different: 0.5 to 1.5."""

from __future__ import annotations

import numpy as np


def rising(shape: tuple[int, ...]) -> np.ndarray:
    """In row-major order; f64."""
    return np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(shape)


def waving(shape: tuple[int, ...]) -> np.ndarray:
    """Up and down; f32."""
    return (1 + 0.5 * np.cos(np.arange(np.prod(shape)))).astype(np.float32).reshape(shape)
