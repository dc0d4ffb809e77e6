"""The least time a step can take on a machine: its operations, elementary functions and bytes, each at the best rate.

Counted by hand from the formulas of a workload. Operations: two for each multiply-add of a matrix product; a product
and its two gradients have as many each, the first layer has no gradient of its input. Elementary functions: each needed
once, gradients use what the forward part computed. Bytes: every weight and optimizer slot read and written once, every
array of the batch read once; what lies between may stay in the caches.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from graphc.bench.workloads import CHARACTERS, ELEMENTS, HEADS, HIDDEN, LENGTH, PLACES, WIDTH, Workload

SLOTS = {"sgd": 0, "momentum": 1, "adamw": 2}
FLOAT, WHOLE = 4, 8  # bytes


@dataclass(frozen=True)
class Counts:
    """What one step needs: operations of products, elementary functions by name, bytes."""

    operations: int
    functions: dict[str, int]
    bytes: int


def counts(workload: Workload) -> Counts:
    operations, functions = WORK[workload.model](workload)
    return Counts(operations, dict(functions), moved(workload))


def moved(workload: Workload) -> int:
    weights = sum(FLOAT * size(start.shape) for start in workload.initial.values())
    whole = workload.model in ("lstm", "transformer")
    x = workload.batch * size(workload.features) * (WHOLE if whole else FLOAT)
    y = {"regression": workload.batch * FLOAT, "lstm": x, "transformer": x, "chain": 0}
    x = 0 if workload.model == "chain" else x
    return 2 * weights * (1 + SLOTS[workload.optimizer]) + x + y.get(workload.model, workload.batch * WHOLE)


def size(shape: tuple[int, ...]) -> int:
    found = 1
    for extent in shape:
        found *= extent
    return found


def products(rows: int, shapes: list[tuple[int, ...]], first: bool = True) -> int:
    """Of linear layers [outputs, inputs] and their gradients; `first` says that nothing asks for the input's."""
    each = [2 * rows * size(shape) for shape in shapes]
    return 3 * sum(each) - (each[0] if first else 0)


def cross_entropy(rows: int, classes: int) -> Counter[str]:
    return Counter(exp=rows * classes, log=rows)


def layers(workload: Workload) -> tuple[int, Counter[str]]:
    shapes = [start.shape for name, start in workload.initial.items() if name.endswith("weight")]
    functions: Counter[str] = Counter()
    if workload.model == "layers":
        functions += cross_entropy(workload.batch, shapes[-1][0])
    if workload.activation == "tanh":
        functions["tanh"] += workload.batch * sum(shape[0] for shape in shapes[:-1])
    return products(workload.batch, shapes), functions


def lenet(workload: Workload) -> tuple[int, Counter[str]]:
    """A convolution is a product with a row for each place: 28 x 28 of 25 numbers, 10 x 10 of 150."""
    first = products(workload.batch * 28 * 28, [(6, 25)])
    second = products(workload.batch * 10 * 10, [(16, 150)], first=False)
    heads = products(workload.batch, [(120, 400), (84, 120), (10, 84)], first=False)
    return first + second + heads, cross_entropy(workload.batch, 10)


def chain(workload: Workload) -> tuple[int, Counter[str]]:
    """Two tanh, one of them gelu's; exp; and the exp of the sigmoid."""
    return 0, Counter(tanh=2 * ELEMENTS, exp=2 * ELEMENTS)


def lstm(workload: Workload) -> tuple[int, Counter[str]]:
    """At each place a product with the weights of four gates and one for the scores; 3 sigmoids, 2 tanh.

    What a character gives to the gates is the same at every place: it is a product, and has gradients, once for each.
    """
    rows = workload.batch * LENGTH
    gates = (4 * HIDDEN, HIDDEN)
    operations = products(rows, [gates, (CHARACTERS, HIDDEN)], first=False)
    operations += products(CHARACTERS, [gates], first=False)
    functions = Counter(exp=3 * rows * HIDDEN, tanh=2 * rows * HIDDEN)
    return operations, functions + cross_entropy(rows, CHARACTERS)


def transformer(workload: Workload) -> tuple[int, Counter[str]]:
    """Attention counts the pairs of places that see each other; gelu needs erf, and exp for its gradient."""
    rows, wide = workload.batch * PLACES, 4 * WIDTH
    shapes: list[tuple[int, ...]] = [(3 * WIDTH, WIDTH), (WIDTH, WIDTH), (wide, WIDTH), (WIDTH, wide)]
    pairs = workload.batch * HEADS * PLACES * (PLACES + 1) // 2
    operations = products(rows, [*shapes, (CHARACTERS, WIDTH)], first=False)
    operations += 3 * 2 * 2 * pairs * (WIDTH // HEADS)  # scores and mixture
    functions = Counter(erf=rows * wide, exp=rows * wide + pairs)
    return operations, functions + cross_entropy(rows, CHARACTERS)


WORK: dict[str, Any] = {
    "regression": layers, "layers": layers, "lenet": lenet, "chain": chain, "lstm": lstm, "transformer": transformer
}  # fmt: skip


def seconds(workload: Workload, machine: dict[str, Any]) -> dict[str, float]:
    """Seconds of each part by the rates of `machine.measured`; the largest is the floor."""
    needed = counts(workload)
    rate = max(machine["multiply_adds"], machine["products"])
    copies = {int(of): speed for of, speed in machine["copies"].items()}
    fits = [of for of in copies if of >= needed.bytes] or [max(copies)]
    return {
        "operations": needed.operations / rate,
        "functions": sum(count / machine["functions"][name] for name, count in needed.functions.items()),
        "bytes": needed.bytes / copies[min(fits)],
    }
