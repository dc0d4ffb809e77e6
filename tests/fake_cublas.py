"""cuBLASLt as far as graphc calls it, on a fake driver's device: NumPy does a product when its stream gets to it.

Matrices are taken as the library takes them: column by column, with the distance from one to the next that was told.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NOT_SUPPORTED = 15
FLOAT32 = 0
RELU, BIAS, RELU_BIAS = 2, 4, 6  # of cublasLtEpilogue_t


@dataclass
class FakeCublas:
    """The library.

    driver    whose streams it is given
    products  what was asked for: (compute type, transposes, sizes)
    """

    driver: Any
    calls: list[str] = field(default_factory=list)
    products: list[tuple[Any, ...]] = field(default_factory=list)
    failing: dict[str, int] = field(default_factory=dict)
    wishes: dict[int, bytes] = field(default_factory=dict)
    ways: tuple[int, ...] = (77,)  # numbers of its algorithms, the most promising first
    keeps_nan: bool = True  # where it cuts off at 0

    def __post_init__(self) -> None:
        self.things: dict[int, dict[Any, Any]] = {}
        self.endings: list[int] = []  # of the products
        self.used: list[int] = []  # the algorithms of the products
        self.cublasLtGetVersion = Version()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cublasLt"):
            raise AttributeError(name)
        work = getattr(self, "do_" + name.removeprefix("cublasLt"))

        def called(*arguments: Any) -> int:
            self.calls.append(name)
            return self.failing[name] if name in self.failing else work(*arguments) or 0

        return called

    def keep(self, out: Any, thing: dict[Any, Any]) -> None:
        out._obj.value = 0x700000 + 16 * len(self.things)
        self.things[out._obj.value] = thing

    def do_Create(self, out: Any) -> None:
        self.keep(out, {})

    def do_MatmulDescCreate(self, out: Any, compute: int, scale: int) -> None:
        assert scale == FLOAT32
        self.keep(out, {"compute": compute, 3: 0, 4: 0, 7: 1, 8: 0})

    def do_MatrixLayoutCreate(self, out: Any, kind: int, rows: Any, columns: Any, apart: Any) -> None:
        assert kind == FLOAT32 and apart.value >= rows.value
        self.keep(out, {"shape": (rows.value, columns.value), "apart": apart.value, 5: 1, 6: 0})

    def do_MatmulPreferenceCreate(self, out: Any) -> None:
        self.keep(out, {})

    def do_MatmulPreferenceDestroy(self, wishes: Any) -> None:
        self.wishes = self.things[wishes.value]

    def tell(self, thing: Any, attribute: int, value: Any, size: Any) -> None:
        assert ctypes.sizeof(value._obj) == size.value
        self.things[thing.value][attribute] = value._obj.value

    do_MatmulDescSetAttribute = do_MatrixLayoutSetAttribute = do_MatmulPreferenceSetAttribute = tell

    def do_MatmulAlgoGetHeuristic(self, *arguments: Any) -> None:
        *_, wanted, found, count = arguments
        assert ctypes.sizeof(found) == 96 * wanted
        for each, way in zip(found, self.ways, strict=False):
            each.algorithm[0] = way
        count._obj.value = min(wanted, len(self.ways))

    def do_Matmul(self, *arguments: Any) -> None:
        _, about, one, first, a, second, b, zero, _, _, target, d, algorithm, _, size, stream = arguments
        assert one._obj.value == 1.0 and zero._obj.value == 0.0 and size.value > 0
        assert algorithm._obj[0] in self.ways
        told, shapes = {**self.things[about.value]}, [self.things[each.value] for each in (a, b, d)]
        places = [each.value for each in (first, second, target)]
        self.products.append((told["compute"], told[3], told[4], *(each["shape"] for each in shapes), shapes[2][5]))
        self.endings.append(told[7])
        self.used.append(algorithm._obj[0])
        assert bool(told[8]) == (told[7] in (BIAS, RELU_BIAS))

        def work() -> None:
            left, right, out = (view(place, each) for place, each in zip(places, shapes, strict=True))
            left = left.swapaxes(1, 2) if told[3] else left
            right = right.swapaxes(1, 2) if told[4] else right
            found = left.astype(np.float64) @ right
            if told[8]:  # numbers of its rows, which are our columns
                rows, _ = shapes[2]["shape"]
                found += np.ctypeslib.as_array((ctypes.c_float * rows).from_address(told[8]))[:, None]
            if told[7] in (RELU, RELU_BIAS):
                found = np.maximum(found, 0) if self.keeps_nan else np.fmax(found, 0)
            out[...] = found

        self.driver.give(stream, work)


class Version:
    restype: Any = None

    def __call__(self) -> int:
        return 130000


def view(place: int, layout: dict[Any, Any]) -> np.ndarray[Any, Any]:
    """The matrices of a batch, as arrays that share the device's memory."""
    (rows, columns), batch = layout["shape"], layout[5]
    most = layout[6] * (batch - 1) + layout["apart"] * (columns - 1) + rows
    numbers = np.ctypeslib.as_array((ctypes.c_float * most).from_address(place))
    return np.lib.stride_tricks.as_strided(numbers, (batch, rows, columns), (4 * layout[6], 4, 4 * layout["apart"]))
