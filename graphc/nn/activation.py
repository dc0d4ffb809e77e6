"""Activation layers: each applies the function of its name in graphc.functional, with the settings it was made with.

`inplace` has no meaning here and is accepted for PyTorch's sake: memory is planned for the whole step.
"""

from __future__ import annotations

from typing import Any, ClassVar

from graphc import functional, init
from graphc.nn.misfit import check_sizes, misfit
from graphc.nn.module import Applied, Module, new_parameter
from graphc.settings import check_number, check_switch, check_whole
from graphc.tensor import DType, Tensor, as_tensor


class Activation(Applied):
    """A function of one tensor and some settings, which are attributes of the layer."""

    settings: ClassVar[tuple[str, ...]] = ()

    def forward(self, x: Any) -> Tensor:
        return type(self).function(x, **{name: getattr(self, name) for name in self.settings})

    def keep(self, inplace: bool = False, **settings: Any) -> None:
        """Settings as attributes; what the function refuses is refused here rather than at the first call."""
        check_switch("inplace", inplace)
        self.__dict__.update(settings)
        self.forward(0.0)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)


class InPlace(Activation):
    """One that takes nothing but `inplace`."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        check_switch("inplace", inplace)


class ReLU(InPlace):
    function = staticmethod(functional.relu)


class ReLU6(InPlace):
    function = staticmethod(functional.relu6)


class SELU(InPlace):
    function = staticmethod(functional.selu)


class SiLU(InPlace):
    function = staticmethod(functional.silu)


class Mish(InPlace):
    function = staticmethod(functional.mish)


class Hardsigmoid(InPlace):
    function = staticmethod(functional.hardsigmoid)


class Hardswish(InPlace):
    function = staticmethod(functional.hardswish)


class Sigmoid(Activation):
    function = staticmethod(functional.sigmoid)


class Tanh(Activation):
    function = staticmethod(functional.tanh)


class LogSigmoid(Activation):
    function = staticmethod(functional.logsigmoid)


class Softsign(Activation):
    function = staticmethod(functional.softsign)


class Tanhshrink(Activation):
    function = staticmethod(functional.tanhshrink)


class LeakyReLU(Activation):
    function = staticmethod(functional.leaky_relu)
    settings = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.keep(inplace, negative_slope=negative_slope)


class ELU(Activation):
    function = staticmethod(functional.elu)
    settings = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.keep(inplace, alpha=alpha)


class CELU(Activation):
    function = staticmethod(functional.celu)
    settings = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.keep(inplace, alpha=alpha)


class GELU(Activation):
    """approximate: "none" with the error function, "tanh" with a formula near it."""

    function = staticmethod(functional.gelu)
    settings = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.keep(approximate=approximate)


class Hardtanh(Activation):
    """Limited to [min_val, max_val]."""

    function = staticmethod(functional.hardtanh)
    settings = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.keep(inplace, min_val=min_val, max_val=max_val)


class Softplus(Activation):
    function = staticmethod(functional.softplus)
    settings = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.keep(beta=beta, threshold=threshold)


class Hardshrink(Activation):
    function = staticmethod(functional.hardshrink)
    settings = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.keep(lambd=lambd)

    def extra_repr(self) -> str:
        return str(self.lambd)


class Softshrink(Hardshrink):
    function = staticmethod(functional.softshrink)


class Threshold(Activation):
    """x where it is above the threshold, `value` elsewhere."""

    function = staticmethod(functional.threshold)
    settings = ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.keep(inplace, threshold=threshold, value=value)


class Softmax(Activation):
    """Along the last axis if none is named; PyTorch guesses one and warns."""

    function = staticmethod(functional.softmax)
    settings = ("dim",)

    def __init__(self, dim: int | None = -1) -> None:
        super().__init__()
        self.dim = dim if dim is None else check_whole("dim", dim)


class LogSoftmax(Softmax):
    function = staticmethod(functional.log_softmax)


class Softmin(Softmax):
    function = staticmethod(functional.softmin)


class Softmax2d(Module):
    """Softmax over the channels of [n, channels, height, width], or of one sample without n."""

    def forward(self, x: Any) -> Tensor:
        tensor = as_tensor(x)
        if tensor.ndim not in (3, 4):
            raise misfit(self, "Softmax2d()", f"an input of {tensor.ndim} axes; it takes 3 or 4", tensor)
        return functional.softmax(tensor, -3)


class PReLU(Module):
    """x where it is positive, weight * x elsewhere; one weight, or one for each channel of [n, channels, ...]."""

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: DType | None = None
    ) -> None:
        super().__init__()
        check_sizes("PReLU", num_parameters=num_parameters)
        self.num_parameters, self.init = num_parameters, check_number("init", init)
        self.weight = new_parameter((num_parameters,), device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights of the number given."""
        init.constant_(self.weight, self.init)

    def forward(self, x: Any) -> Tensor:
        tensor = as_tensor(x)
        channels = tensor.shape[1] if tensor.ndim > 1 else 1
        if self.num_parameters not in (1, channels):
            raise misfit(self, f"PReLU({self.num_parameters})", f"an input of {channels} channels", tensor)
        return functional.prelu(tensor, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
