"""Lines between cards that never run over a card: along the gaps between rows and the channels between columns.

Gap g lies above row g, channel c to the left of column c. A line that shares a stretch of gap or channel with another
has a track of its own there. Method: channel routing with left-edge track assignment (Hashimoto & Stevens, 1971).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from graphc.ir.dot.cards import Place, Wire
from graphc.picture.placement import Cell

Key = TypeVar("Key")
Point = tuple[float, float]
GAP, CHANNEL, STACK = 42.0, 44.0, 16.0  # between rows, columns, cards of one cell
LABEL_ROOM, HEAD_ROOM, MARGIN = 22.0, 12.0, 17.0  # free of tracks: below a card, above a card, beside a card
TRACK, CLEARANCE, SPREAD = 9.0, 8.0, 14.0  # between tracks, ends on one track, lines on one side of a card
APART = 4.0  # between lines that face each other across a channel


@dataclass(frozen=True, slots=True)
class Box:
    """A card's place in pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """The form of one line.

    form   "straight" (down or up a column), "level" (along a row), "corner" (along the row, then up or down a column),
           "step" (down, along a gap, down), "channel" (along, up or down a channel, along), "bridge" (the same with two
           channels and a gap between them)
    sides  the side of the source it leaves from and the side of the target it comes in at
    """

    wire: Wire
    form: str
    sides: tuple[str, str]
    gap: int = 0
    channels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Boxes, the points each line runs through, and the size of all of it."""

    boxes: dict[Place, Box]
    lines: list[tuple[Wire, str, list[Point]]]
    width: float
    height: float


def lay_out(
    cells: Mapping[Place, Cell],
    sizes: Mapping[Place, tuple[float, float]],
    wires: Iterable[Wire],
    origin: Point,
    column_width: Mapping[int, float],
) -> Layout:
    """Pixels for everything, the left upper corner at `origin`.

    sizes         width and least height of each card; a card is centred in its column
    column_width  the width of each column
    """
    return Router(cells, sizes, wires, origin, column_width).run()


class Router:
    """One layout: forms of the lines, then heights, then widths, then points."""

    def __init__(
        self,
        cells: Mapping[Place, Cell],
        sizes: Mapping[Place, tuple[float, float]],
        wires: Iterable[Wire],
        origin: Point,
        column_width: Mapping[int, float],
    ) -> None:
        self.cells, self.origin, self.column_width = cells, origin, column_width
        self.rows = 1 + max((cell.row for cell in cells.values()), default=0)
        self.columns = 1 + max((cell.column for cell in cells.values()), default=0)
        self.stacks: dict[tuple[int, int], list[Place]] = {}
        for place, cell in sorted(cells.items(), key=lambda item: item[1].rank):
            self.stacks.setdefault((cell.row, cell.column), []).append(place)
        self.in_column = [
            [place for row in range(self.rows) for place in self.stacks.get((row, column), ())]
            for column in range(self.columns)
        ]
        self.position = {place: at for places in self.in_column for at, place in enumerate(places)}
        self.ways = [self.choose(wire) for wire in wires]
        self.ports: dict[tuple[Place, str], list[Way]] = {}
        for way in self.ways:
            self.ports.setdefault((way.wire.source, way.sides[0]), []).append(way)
            self.ports.setdefault((way.wire.target, way.sides[1]), []).append(way)
        self.sizes = {place: (width, max(height, self.least_height(place))) for place, (width, height) in sizes.items()}

    def run(self) -> Layout:
        self.gap_track, gap_tracks = self.share_gaps()
        self.place_rows(gap_tracks)
        self.port_height = {key: height for side in self.ports for key, height in self.spread_ports(*side)}
        self.separate_ports()
        self.channel_track, channel_tracks = self.share_channels()
        self.place_columns(channel_tracks)
        self.boxes = {place: self.box(place) for place in self.cells}
        lines = [(way.wire, way.form, self.points(way)) for way in self.ways]
        return Layout(self.boxes, lines, self.width, self.height)

    def least_height(self, place: Place) -> float:
        """Room for all lines at the busier side of a card."""
        return APART * (3 + max(len(self.ports.get((place, side), ())) for side in ("left", "right")))

    # -- forms

    def choose(self, wire: Wire) -> Way:
        source, target = self.cells[wire.source], self.cells[wire.target]
        down = (source.row, source.rank) < (target.row, target.rank)
        if source.column == target.column:
            return self.choose_in_column(wire, source.column, down)
        rightwards = source.column < target.column
        sides = ("right", "left") if rightwards else ("left", "right")
        if source.row == target.row and source.rank == target.rank == 0 and self.is_free(source, target.column, False):
            return Way(wire, "level", sides)
        if self.has_corner(wire, source, target, down):
            return Way(wire, "corner", (sides[0], "top" if down else "bottom"))
        if wire.kind == "forward" and target.row == source.row + 1 and target.rank == 0 and self.is_lowest(wire.source):
            return Way(wire, "step", ("bottom", "top"), target.row)
        leave, arrive = (source.column + 1, target.column) if rightwards else (source.column, target.column + 1)
        if leave == arrive:
            return Way(wire, "channel", sides, channels=(leave,))
        gap = target.row if target.row > source.row else target.row + 1
        return Way(wire, "bridge", sides, gap, (leave, arrive))

    def choose_in_column(self, wire: Wire, column: int, down: bool) -> Way:
        if abs(self.position[wire.source] - self.position[wire.target]) == 1:
            return Way(wire, "straight", ("bottom", "top") if down else ("top", "bottom"))
        if wire.kind == "forward":
            return Way(wire, "channel", ("left", "left"), channels=(column,))
        return Way(wire, "channel", ("right", "right"), channels=(column + 1,))

    def is_free(self, source: Cell, column: int, inclusive: bool) -> bool:
        """No card stands on the source's row on the way to a column."""
        first, last = sorted((source.column, column))
        between = [at for at in range(first, last + 1) if at != source.column and (inclusive or at != column)]
        return not any((source.row, at) in self.stacks for at in between)

    def is_lowest(self, place: Place) -> bool:
        cell = self.cells[place]
        return self.stacks[cell.row, cell.column][-1] == place

    def has_corner(self, wire: Wire, source: Cell, target: Cell, down: bool) -> bool:
        if source.row == target.row or not self.is_free(source, target.column, True):
            return False
        if target.rank != 0 if down else not self.is_lowest(wire.target):
            return False
        first, last = sorted((source.row, target.row))
        return not any((row, target.column) in self.stacks for row in range(first + 1, last))

    # -- gaps and rows

    def share_gaps(self) -> tuple[dict[Way, int], list[int]]:
        """The track of each line in its gap, and how many tracks each gap has."""
        spans: list[list[tuple[float, float, Way]]] = [[] for _ in range(self.rows + 1)]
        for way in self.ways:
            if way.form == "step":
                first, last = sorted(2 * self.cells[end].column + 1 for end in (way.wire.source, way.wire.target))
            elif way.form == "bridge":
                first, last = sorted(2 * channel for channel in way.channels)
            else:
                continue
            spans[way.gap].append((first, last, way))
        return assign_tracks(spans, 0)

    def place_rows(self, tracks: list[int]) -> None:
        self.row_top: list[float] = []
        y = self.origin[1]
        for row in range(self.rows + 1):
            room = tracks[row] * TRACK + HEAD_ROOM if tracks[row] else 0
            y += max(GAP, LABEL_ROOM + room) if 0 < row < self.rows else room
            self.row_top.append(y)
            if row < self.rows:
                y += max((self.stack_height(row, column) for column in range(self.columns)), default=0)
        self.height = y - self.origin[1]

    def stack_height(self, row: int, column: int) -> float:
        places = self.stacks.get((row, column), [])
        return sum(self.sizes[place][1] for place in places) + STACK * max(0, len(places) - 1)

    def top(self, place: Place) -> float:
        cell = self.cells[place]
        above = self.stacks[cell.row, cell.column][: cell.rank]
        return self.row_top[cell.row] + sum(self.sizes[other][1] + STACK for other in above)

    def gap_height(self, way: Way) -> float:
        """Where a line runs in its gap: the lowest tracks lie just above the row below."""
        return self.row_top[way.gap] - HEAD_ROOM - self.gap_track[way] * TRACK

    # -- ports

    def spread_ports(self, place: Place, side: str) -> Iterable[tuple[tuple[Way, Place], float]]:
        """Heights of the ports on the left or right side: what comes from above or goes there at the top, and so on."""
        if side in ("top", "bottom"):
            return
        top, height = self.top(place), self.sizes[place][1]
        ways = self.ports[place, side]
        level = [way for way in ways if way.form == "level"]
        heights = [self.level_height(way) for way in level]
        yield from zip(((way, place) for way in level), heights, strict=True)
        middle = top + height / 2
        above = sorted((way for way in ways if self.direction(way, place) < 0), key=lambda way: self.order(way, place))
        below = sorted((way for way in ways if self.direction(way, place) > 0), key=lambda way: self.order(way, place))
        upper, lower = min(heights, default=middle), max(heights, default=middle)
        if not level and not (above and below):  # the half of the side that is free is taken where it is needed
            upper = max(upper, top + 4 + APART * (len(above) + 1))
            lower = min(lower, top + height - 4 - APART * (len(below) + 1))
        for band, first, last in ((above, top + 4, upper), (below, lower, top + height - 4)):
            for number, way in enumerate(band, 1):
                yield (way, place), first + (last - first) * number / (len(band) + 1)

    def separate_ports(self) -> None:
        """Ports that face each other across a channel move down until no two lines leave at one height."""
        facing: list[list[tuple[float, Way, Place]]] = [[] for _ in range(self.columns + 1)]
        for place, side in self.ports:
            if side in ("left", "right"):
                strip = facing[self.cells[place].column + (side == "right")]
                strip += [(self.port_height[way, place], way, place) for way in self.ports[place, side]]
        for strip in facing:
            last, neighbour = float("-inf"), None
            for height, way, place in sorted(strip, key=lambda port: port[0]):
                if way.form != "level" and way is not neighbour and height < last + APART:
                    lowest = self.top(place) + self.sizes[place][1] - APART
                    height = self.port_height[way, place] = max(height, min(last + APART, lowest))
                last, neighbour = height, way

    def level_height(self, way: Way) -> float:
        ends = (way.wire.source, way.wire.target)
        level = [other for other in self.ports[ends[0], way.sides[0]] if other.form == "level"]
        pair = [other for other in level if other.wire.target == ends[1]]
        reach = min(self.sizes[end][1] for end in ends) / 2
        return self.row_top[self.cells[ends[0]].row] + reach + (pair.index(way) - (len(pair) - 1) / 2) * CLEARANCE

    def direction(self, way: Way, place: Place) -> int:
        """-1 when the line goes up from this end, 1 when it goes down, 0 when it stays level."""
        if way.form == "level":
            return 0
        here = self.cells[place]
        if way.form == "bridge":
            return 1 if way.gap > here.row else -1
        other = self.cells[way.wire.target if place == way.wire.source else way.wire.source]
        return 1 if (other.row, other.rank) > (here.row, here.rank) else -1

    def order(self, way: Way, place: Place) -> tuple[int, int]:
        """Ports in an order in which lines of one side do not cross each other."""
        source, target = self.cells[way.wire.source], self.cells[way.wire.target]
        leaves = place == way.wire.source
        direction = self.direction(way, place)
        if way.form == "corner":
            columns = abs(source.column - target.column)
            return (1, columns) if direction < 0 else (0, -columns)
        rows = abs((way.gap if way.form == "bridge" else target.row) - source.row)
        return (0 if direction < 0 else 1, rows if leaves == (direction > 0) else -rows)

    # -- channels and columns

    def share_channels(self) -> tuple[dict[tuple[Way, int], int], list[int]]:
        spans: list[list[tuple[float, float, tuple[Way, int]]]] = [[] for _ in range(self.columns + 1)]
        for way in self.ways:
            if not way.channels:
                continue
            first, last = self.port_height[way, way.wire.source], self.port_height[way, way.wire.target]
            if way.form == "bridge":
                between = self.gap_height(way)
                spans[way.channels[0]].append((*ordered(first, between), (way, 0)))
                spans[way.channels[1]].append((*ordered(between, last), (way, 1)))
            else:
                spans[way.channels[0]].append((*ordered(first, last), (way, 0)))
        return assign_tracks(spans, CLEARANCE)

    def place_columns(self, tracks: list[int]) -> None:
        self.column_left: list[float] = []
        self.channel_left: list[float] = []
        x = self.origin[0]
        for column in range(self.columns + 1):
            inner = 0 < column < self.columns
            self.channel_left.append(x + MARGIN)
            room = 2 * MARGIN + TRACK * max(0, tracks[column] - 1)
            x += max(CHANNEL, room) if inner else room if tracks[column] else 0
            self.column_left.append(x)
            x += self.column_width.get(column, 0)
        self.width = x - self.origin[0]

    def channel_x(self, way: Way, number: int) -> float:
        return self.channel_left[way.channels[number]] + self.channel_track[way, number] * TRACK

    def box(self, place: Place) -> Box:
        column, (width, height) = self.cells[place].column, self.sizes[place]
        left = self.column_left[column] + (self.column_width[column] - width) / 2
        return Box(left, self.top(place), width, height)

    # -- points

    def points(self, way: Way) -> list[Point]:
        first, last = self.end(way, way.wire.source, way.sides[0]), self.end(way, way.wire.target, way.sides[1])
        if way.form == "straight":
            return [first, (first[0], last[1])]
        if way.form == "level":
            return [first, last]
        if way.form == "corner":
            return [first, (last[0], first[1]), last]
        if way.form == "step":
            return [first, (first[0], self.gap_height(way)), (last[0], self.gap_height(way)), last]
        leave = self.channel_x(way, 0)
        if way.form == "channel":
            return [first, (leave, first[1]), (leave, last[1]), last]
        arrive, y = self.channel_x(way, 1), self.gap_height(way)
        return [first, (leave, first[1]), (leave, y), (arrive, y), (arrive, last[1]), last]

    def end(self, way: Way, place: Place, side: str) -> Point:
        box = self.boxes[place]
        if side in ("left", "right"):
            return (box.x if side == "left" else box.right, self.port_height[way, place])
        return (box.middle + self.offset(way, place, side), box.y if side == "top" else box.bottom)

    def offset(self, way: Way, place: Place, side: str) -> float:
        """How far from the middle of a card's upper or lower side a line starts: straight lines have the middle."""
        ways = self.ports[place, side]
        straight = [other for other in ways if other.form == "straight"]
        others = [other for other in ways if other.form != "straight"]
        own = straight if way.form == "straight" else others
        if way.form == "straight" or not straight:
            return (own.index(way) - (len(own) - 1) / 2) * SPREAD
        sign = self.leans(way, place)
        same = [other for other in others if self.leans(other, place) == sign]
        return sign * (self.boxes[place].width / 4 + same.index(way) * SPREAD)

    def leans(self, way: Way, place: Place) -> int:
        """-1 when the other end lies to the left, else 1."""
        far = self.cells[way.wire.target if place == way.wire.source else way.wire.source].column
        return -1 if far < self.cells[place].column else 1


def ordered(one: float, other: float) -> tuple[float, float]:
    return (one, other) if one <= other else (other, one)


def assign_tracks(spans: list[list[tuple[float, float, Key]]], clearance: float) -> tuple[dict[Key, int], list[int]]:
    """A track for each span so that no two on one track come closer than `clearance`; long spans choose first."""
    tracks: dict[Key, int] = {}
    counts: list[int] = []
    for strip in spans:
        taken: list[list[tuple[float, float]]] = []
        for first, last, key in sorted(strip, key=lambda span: (span[0] - span[1], span[0])):
            free = (
                number
                for number, used in enumerate(taken)
                if all(last + clearance < start or end + clearance < first for start, end in used)
            )
            track = next(free, len(taken))
            if track == len(taken):
                taken.append([])
            taken[track].append((first, last))
            tracks[key] = track
        counts.append(len(taken))
    return tracks, counts
