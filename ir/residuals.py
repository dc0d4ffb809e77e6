"""What a loop backwards is brought of the steps gone by, and what it computes again: the cheapest choice.

Every array it reads costs memory, a store and a load in every step, but what is simple arithmetic of others can be
computed from these. Which are brought is a cut of the graph between what cannot be computed again and what is read; the
least one is found as the most that flows. Source: Ford & Fulkerson 1956, Maximal flow through a network.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from graphc.ir import ops
from graphc.ir.access import is_constant
from graphc.ir.graph import Value

STACKED = 16  # the price of a byte that is stored in one loop and loaded in the other,
LOADED = 8  # of one that lies there anyway,
COMPUTED = 1  # and of one that is the result of an addition

Node = tuple[Value, bool] | str  # what goes into a value, and (True) what comes out of it


def computed_again(read: Iterable[Value], price: Callable[[Value], int]) -> set[Value]:
    """The values that are computed again where `read` are read; all others that those need are brought.

    price  of a byte of a value that is brought: STACKED, LOADED or 0
    """
    room: dict[Node, dict[Node, float]] = defaultdict(lambda: defaultdict(float))
    stack = list(read)
    for value in stack:
        room[value, True]["end"] = math.inf
    seen = set(stack)
    while stack:
        value = stack.pop()
        size = value.type.max_bytes
        is_view = value.op.kind == "view"
        room[value, False][value, True] = math.inf if is_view else price(value) * size
        room["start"][value, False] = 0 if is_view else COMPUTED * size if is_simple(value) else math.inf
        if not is_view and not is_simple(value):
            continue
        for operand in value.operands:
            if is_constant(operand):
                continue
            room[operand, True][value, False] = math.inf
            if operand not in seen:
                seen.add(operand)
                stack.append(operand)
    fill(room)
    ends = leading_to_the_end(room)
    return {value for value in seen if (value, False) in ends and value.op.kind != "view"}


def is_simple(value: Value) -> bool:
    """An addition or as quick as one."""
    return value.op.kind == "elementwise" and value.op.cost <= 1 and value.op is not ops.copy


def fill(room: dict[Node, dict[Node, float]]) -> None:
    """Lets as much flow from start to end as there is room for; what is left, and the way back, stays in `room`."""
    while True:
        before: dict[Node, Node] = {"start": "start"}
        waiting = deque[Node](["start"])
        while waiting and "end" not in before:
            node = waiting.popleft()
            for other, free in room[node].items():
                if free > 0 and other not in before:
                    before[other] = node
                    waiting.append(other)
        if "end" not in before:
            return
        way: list[tuple[Node, Node]] = []
        node = "end"
        while node != "start":
            way.append((before[node], node))
            node = before[node]
        most = min(room[one][other] for one, other in way)
        for one, other in way:
            room[one][other] -= most
            room[other][one] += most


def leading_to_the_end(room: dict[Node, dict[Node, float]]) -> set[Node]:
    """The nodes from which something could still flow to the end."""
    into: dict[Node, list[Node]] = defaultdict(list)
    for node, others in room.items():
        for other, free in others.items():
            if free > 0:
                into[other].append(node)
    found: set[Node] = {"end"}
    stack: list[Node] = ["end"]
    while stack:
        fresh = [node for node in into[stack.pop()] if node not in found]
        found.update(fresh)
        stack += fresh
    return found
