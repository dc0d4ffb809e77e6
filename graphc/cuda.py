"""Which devices steps can run on, and GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from graphc.arrays import LITERALS, check_rows, fit_shape, input_name
from graphc.backends.cache import default_cache
from graphc.backends.interface import BYTES_AS_IMAGE, PLAIN
from graphc.backends.runtime import Refused
from graphc.errors import DeviceError, DTypeError, TraceError
from graphc.ir.graph import Origin, user_origin
from graphc.ir.types import DTYPES, FLOATS
from graphc.settings import check_choice, require

if TYPE_CHECKING:
    from graphc.backends.cuda.artifact import DeviceArtifact
    from graphc.backends.cuda.cublas import Cublas
    from graphc.backends.cuda.driver import Device
    from graphc.backends.cuda.lending import DeviceArray, Lent
    from graphc.backends.cuda.runtime import DeviceRunner
    from graphc.backends.runtime import Storage
    from graphc.function import Function
    from graphc.ir.graph import Graph, Value
    from graphc.ir.types import Dim

DEVICES = ("cpu", "cuda", "auto")
PRECISIONS = ("highest", "tf32", "bf16")


def is_available() -> bool:
    """Whether there is a GPU, and a driver that can run what is compiled for it."""
    from graphc.backends.cuda.driver import DriverError, open_driver

    try:
        open_driver()
    except DriverError:
        return False
    return True


def check_device(device: str, precision: str = "highest") -> str:
    """Either "cpu" or "cuda"; "auto" is the GPU where there is one.

    precision  of products of matrices: less than the highest is for GPUs

    Raises TraceError for another name, DeviceError where there is no GPU that can be used, ArgumentError for a
    precision that is not known, or not to be had there.
    """
    check_choice("precision", precision, PRECISIONS)
    place = checked(device)
    text = "'highest' on the CPU: only products on a GPU can be done with less"
    require(place == "cuda" or precision == "highest", "precision", precision, text)
    return place


def checked(device: str) -> str:
    if not isinstance(device, str) or device not in DEVICES:
        names = ", ".join(map(repr, DEVICES))
        raise TraceError(f"device {device!r} is none that steps can run on: {names}", user_origin())
    if device == "auto":
        return "cuda" if is_available() else "cpu"
    if device == "cuda":
        the_device()
    return device


def the_device() -> Device:
    """The first GPU. Raises DeviceError where there is none that can be used."""
    from graphc.backends.cuda.driver import first_device

    try:
        return first_device()
    except Refused as error:
        raise refused(error) from None


@cache
def library_for(device: Device, precision: str) -> Cublas | None:
    """NVIDIA's library for products, None where there is none that works."""
    from graphc.backends.cuda import cublas

    loaded = cublas.load_library()
    if loaded is None:
        return None
    try:
        return cublas.Cublas(loaded, device, precision, default_cache())
    except (Refused, AttributeError):
        return None


def compiled(
    graph: Graph, storages: Sequence[Storage], precision: str = "highest"
) -> tuple[DeviceArtifact, DeviceRunner]:
    """The kernels of a traced graph for the first GPU, loaded there. Raises DeviceError."""
    from graphc.backends.cuda.artifact import obtain
    from graphc.backends.cuda.choosing import Chooser
    from graphc.backends.cuda.runtime import DeviceRunner
    from graphc.backends.cuda.threads import NotCovered

    device, store = the_device(), default_cache()
    library = library_for(device, precision)
    try:
        if library is None:
            artifact = obtain(graph, store, device.architecture, precision=precision)
        else:
            choose = Chooser(device, library, precision, store)
            artifact = obtain(graph, store, device.architecture, choose, precision)
        return artifact, DeviceRunner(artifact, storages, device, library)
    except NotCovered as error:
        raise not_covered(graph.name, error, user_origin()) from None
    except Refused as error:
        raise refused(error) from None


def fit_afar(value: Value, given: Any, sizes: dict[Dim, int], name: str) -> Lent:
    """An array in the memory of the GPU as a step there reads it, without a way over the host; fills `sizes`.

    given  what has `__dlpack__` or `__cuda_array_interface__`: a tensor of PyTorch, an array of CuPy or JAX

    Raises ShapeError or BatchError, and DTypeError for another element type than the input's or elements apart.
    """
    from graphc.backends.cuda.lending import lent

    place, title = the_device(), input_name(value, name)
    try:
        found = lent(given, place)
    except Refused as error:
        raise DTypeError(f"{title} cannot be read on the GPU: {error.message}", user_origin(), [error.remedy]) from None
    check_dtype_afar(value, found.dtype, title)
    fit_shape(value, found.shape, sizes, name)
    return found


def fit_data_afar(value: Value, data: DeviceArray, name: str) -> tuple[DeviceArray, int]:
    """What `fit_data` does, for data on the GPU."""
    check_rows(value, data.shape, name)
    if data.dtype == np.uint8 and value.dtype in FLOATS:
        return data, BYTES_AS_IMAGE
    check_dtype_afar(value, data.dtype, input_name(value, name))
    return data, PLAIN


def check_dtype_afar(value: Value, dtype: np.dtype[Any], title: str) -> None:
    wanted = DTYPES[value.dtype]
    if dtype != wanted:
        advice = [f"on a GPU nothing is converted on the way: give it {wanted.name}"]
        raise DTypeError(f"{title} is {value.type}, got dtype {dtype}", user_origin(), advice)


def samples_afar(given: Any, title: str) -> DeviceArray:
    """An array in the memory of the GPU as a data set keeps it. Raises DTypeError for what cannot be read there."""
    from graphc.backends.cuda.lending import DeviceArray

    try:
        return DeviceArray(given, the_device())
    except Refused as error:
        raise DTypeError(f"{title} cannot be read on the GPU: {error.message}", user_origin(), [error.remedy]) from None


def is_afar(given: Any) -> bool:
    """Whether it is an array in the memory of a GPU."""
    if isinstance(given, (np.ndarray, *LITERALS)):  # what most arrays are
        return False
    from graphc.backends.cuda.lending import is_afar

    return is_afar(given)


def at_home(array: Any) -> Any:
    """What `fit_afar` gave as a NumPy array; any other array as it is."""
    return array if isinstance(array, np.ndarray) else array.fetched(the_device())


def parts_of(function: Function) -> tuple[DeviceArtifact, DeviceRunner]:
    """The kernels of a step on the GPU, and what runs them."""
    artifact, runner = cast("Any", function.artifact), cast("Any", function.runner)  # a Function knows the CPU's types
    return artifact, runner


def not_covered(name: str, error: Exception, origin: Origin | None) -> DeviceError:
    """What no kernel for GPUs does, as an error for the user."""
    return DeviceError(f"{name} cannot run on a GPU: {error}", origin, ["compile it with device='cpu'"])


def refused(error: Refused) -> DeviceError:
    """What a driver refused, as an error for the user."""
    return DeviceError(error.message, user_origin(), [error.remedy])
