"""Boxes of any size in layers, one above the other, and the lines between them, none over a box.

Method: Sugiyama, Tagawa & Toda (1981): layers by longest path, places for lines that pass through a layer, order by
barycentres, then the horizontal places that minimise the squares of the deviations from straight lines, found for each
layer exactly by pooling neighbours that come too close (isotonic regression).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]
GAP, APART, LANE = 30.0, 18.0, 12.0  # between layers, between boxes, for a line that passes
SWEEPS, STRAIGHTEN = 8, 6
WIDEST, SHAPE = 1100.0, 1.3  # a layer no wider is left alone; and none narrower than so many roots of the area


@dataclass(frozen=True, slots=True)
class Placed:
    """Left upper corner of each box, and for each line the points it runs through: straight down inside a layer, from
    one to the next in a curve."""

    corners: list[Point]
    routes: list[list[Point]]
    width: float
    height: float


def lay_in_layers(
    sizes: Sequence[Point], edges: Sequence[tuple[int, int]], first: Iterable[int] = (), last: Iterable[int] = ()
) -> Placed:
    """Boxes by width and height; edges by the numbers of their boxes.

    first, last  boxes that stand in the first and the last layer
    """
    return Layering(sizes, edges, set(first), set(last)).run()


class Layering:
    """One layout. Lines of one box that pass through a layer share a place there, a box without width."""

    def __init__(
        self, sizes: Sequence[Point], edges: Sequence[tuple[int, int]], first: set[int], last: set[int]
    ) -> None:
        self.count = len(sizes)
        self.widths = [width for width, _ in sizes]
        self.heights = [height for _, height in sizes]
        self.edges = edges
        self.first, self.last = first, last

    def run(self) -> Placed:
        self.rank()
        self.pass_through()
        self.order()
        self.straighten()
        return self.place()

    # -- layers

    def rank(self) -> None:
        downward = without_cycles(self.count, self.edges)
        before: list[list[int]] = [[] for _ in range(self.count)]
        after: list[list[int]] = [[] for _ in range(self.count)]
        for upper, lower in downward:
            before[lower].append(upper)
            after[upper].append(lower)
        turn = topological(self.count, after)
        self.layer = [0] * self.count
        for box in turn:
            least = 0 if box in self.first or not self.first else 1
            self.layer[box] = max([least, *(self.layer[upper] + 1 for upper in before[box])])
        for box in reversed(turn):  # what nothing leads to stands just above where it is used
            if not before[box] and after[box] and box not in self.first:
                self.layer[box] = min(self.layer[lower] for lower in after[box]) - 1
        deepest = max(self.layer, default=0)
        inner = [self.layer[box] for box in range(self.count) if box not in self.last]
        for box in self.last:
            self.layer[box] = max(deepest, max(inner, default=-1) + 1)
        self.split_wide()

    def split_wide(self) -> None:
        """Layers that are much too wide for the whole become several, the tallest boxes first."""
        area = sum((self.widths[box] + APART) * (self.heights[box] + GAP) for box in range(self.count))
        limit = max(WIDEST, SHAPE * area**0.5)
        layers: list[list[int]] = [[] for _ in range(max(self.layer, default=-1) + 1)]
        for box in range(self.count):
            layers[self.layer[box]].append(box)
        number = 0
        for layer in layers:
            left = limit
            wide = sum(self.widths[box] + APART for box in layer) > limit
            for box in sorted(layer, key=lambda box: -self.heights[box]) if wide else layer:
                if wide and left < self.widths[box] and left < limit:
                    number, left = number + 1, limit
                left -= self.widths[box] + APART
                self.layer[box] = number
            number += 1

    def pass_through(self) -> None:
        """A chain of places through the layers between for each box whose lines go further than the next."""
        self.links: list[tuple[int, int]] = []
        self.ways: list[list[int]] = []
        self.upward: list[bool] = []
        chains: dict[int, list[int]] = {}
        known: set[tuple[int, int]] = set()
        for source, target in self.edges:
            upper, lower = (source, target) if self.layer[source] <= self.layer[target] else (target, source)
            chain = chains.setdefault(upper, [upper])
            while self.layer[upper] + len(chain) < self.layer[lower]:
                self.widths.append(0.0)
                self.heights.append(0.0)
                self.layer.append(self.layer[upper] + len(chain))
                chain.append(len(self.widths) - 1)
            way = [*chain[: max(1, self.layer[lower] - self.layer[upper])], lower]
            for link in pairwise(way):
                if link not in known:
                    known.add(link)
                    self.links.append(link)
            self.ways.append(way)
            self.upward.append(upper != source)
        self.layers: list[list[int]] = [[] for _ in range(max(self.layer, default=0) + 1)]
        for box, layer in enumerate(self.layer):
            self.layers[layer].append(box)
        self.above: list[list[int]] = [[] for _ in self.widths]
        self.below: list[list[int]] = [[] for _ in self.widths]
        for upper, lower in self.links:
            self.above[lower].append(upper)
            self.below[upper].append(lower)

    # -- order

    def order(self) -> None:
        self.at = [0] * len(self.widths)
        self.number(self.layers)
        best, fewest = [list(layer) for layer in self.layers], self.crossings()
        for sweep in range(SWEEPS):
            if not fewest:
                break
            down = sweep % 2 == 0
            near = self.above if down else self.below
            for layer in self.layers[1:] if down else self.layers[-2::-1]:
                self.sort_by_neighbours(layer, near)
            found = self.crossings()
            if found < fewest:
                best, fewest = [list(layer) for layer in self.layers], found
        self.layers = best

    def number(self, layers: Iterable[list[int]]) -> None:
        for layer in layers:
            for place, box in enumerate(layer):
                self.at[box] = place

    def sort_by_neighbours(self, layer: list[int], near: list[list[int]]) -> None:
        weight = {
            box: sum(self.at[other] for other in near[box]) / len(near[box]) if near[box] else float(place)
            for place, box in enumerate(layer)
        }
        layer.sort(key=weight.__getitem__)
        self.number([layer])

    def crossings(self) -> int:
        found = 0
        for layer in self.layers[:-1]:
            seen: list[int] = []
            for box in layer:
                ends = sorted(self.at[lower] for lower in self.below[box])
                found += sum(len(seen) - bisect_right(seen, end) for end in ends)
                for end in ends:
                    insort(seen, end)
        return found

    # -- places

    def straighten(self) -> None:
        self.middle = [0.0] * len(self.widths)
        for layer in self.layers:
            self.settle(layer, [0.0] * len(layer))
        for sweep in range(STRAIGHTEN):
            down = sweep % 2 == 0
            near = self.above if down else self.below
            for layer in self.layers if down else self.layers[::-1]:
                self.settle(layer, [self.wanted(box, near[box]) for box in layer])

    def wanted(self, box: int, near: list[int]) -> float:
        return sum(self.middle[other] for other in near) / len(near) if near else self.middle[box]

    def settle(self, layer: list[int], wanted: list[float]) -> None:
        """As near as can be to what is wanted, in order, none too close to the next."""
        offsets, offset = [], 0.0
        for number, box in enumerate(layer):
            if number:
                offset += (self.room(layer[number - 1]) + self.room(box)) / 2
            offsets.append(offset)
        pools: list[tuple[float, float, int]] = []  # mean, weight, boxes
        for box, want, shift in zip(layer, wanted, offsets, strict=True):
            pool = (want - shift, 3.0 if box >= self.count else 1.0, 1)
            while pools and pools[-1][0] >= pool[0]:
                mean, weight, boxes = pools.pop()
                whole = weight + pool[1]
                pool = ((mean * weight + pool[0] * pool[1]) / whole, whole, boxes + pool[2])
            pools.append(pool)
        means = [mean for mean, _, boxes in pools for _ in range(boxes)]
        for box, mean, shift in zip(layer, means, offsets, strict=True):
            self.middle[box] = mean + shift

    def room(self, box: int) -> float:
        return self.widths[box] + APART if box < self.count else LANE

    def place(self) -> Placed:
        left = min((self.middle[box] - self.widths[box] / 2 for box in range(len(self.widths))), default=0.0)
        right = max((self.middle[box] + self.widths[box] / 2 for box in range(len(self.widths))), default=0.0)
        tops, bottoms, y = [], [], 0.0
        for layer in self.layers:
            tops.append(y)
            y += max((self.heights[box] for box in layer), default=0.0)
            bottoms.append(y)
            y += GAP
        corners = [(self.middle[box] - self.widths[box] / 2 - left, tops[self.layer[box]]) for box in range(self.count)]
        ends = self.spread_ends()
        routes = []
        for number, way in enumerate(self.ways):
            points: list[Point] = []
            for at, box in enumerate(way):
                top, bottom = tops[self.layer[box]], bottoms[self.layer[box]]
                x = self.middle[box] - left + (ends[number] if at == len(way) - 1 else 0.0)
                if box >= self.count:
                    points += [(x, top), (x, bottom)]
                elif at == 0:
                    points += [(x, top + self.heights[box]), (x, bottom)]
                else:
                    points += [(x, top), (x, top)]
            routes.append(points[::-1] if self.upward[number] else points)
        return Placed(corners, routes, right - left, max(y - GAP, 0.0))

    def spread_ends(self) -> list[float]:
        """How far from the middle of its target each line arrives: side by side, in the order they come in."""
        arriving: dict[int, list[int]] = {}
        for number, way in enumerate(self.ways):
            arriving.setdefault(way[-1], []).append(number)
        found = [0.0] * len(self.ways)
        for box, numbers in arriving.items():
            numbers.sort(key=lambda number: self.middle[self.ways[number][-2]] if len(self.ways[number]) > 1 else 0.0)
            step = min(14.0, self.widths[box] * 0.8 / len(numbers))
            for place, number in enumerate(numbers):
                found[number] = (place - (len(numbers) - 1) / 2) * step
        return found


def without_cycles(count: int, edges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The edges, those turned round that would lead back."""
    after: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        after[source].append(target)
    done, entered = [False] * count, [False] * count
    back: set[tuple[int, int]] = set()
    for root in range(count):
        stack = [(root, iter(after[root]))] if not entered[root] else []
        entered[root] = True
        while stack:
            box, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                done[box] = True
                stack.pop()
            elif not entered[following]:
                entered[following] = True
                stack.append((following, iter(after[following])))
            elif not done[following]:
                back.add((box, following))
    turned = [(b, a) if (a, b) in back else (a, b) for a, b in edges]
    return [(a, b) for a, b in turned if a != b]


def topological(count: int, after: list[list[int]]) -> list[int]:
    waiting = [0] * count
    for lower in (lower for each in after for lower in each):
        waiting[lower] += 1
    ready = [box for box in range(count) if not waiting[box]]
    for box in ready:  # grows as it goes
        for lower in after[box]:
            waiting[lower] -= 1
            if not waiting[lower]:
                ready.append(lower)
    return ready
