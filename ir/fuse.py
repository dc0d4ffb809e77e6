"""Which values share one loop nest.

A group has a frame, the extents of its loops; the last axis is the lane axis, walked sixteen elements at a time. Every
value of a group lives on some of the frame's axes. Reductions along the lane axis alone are ready inside the loops (a
row's maximum, a row's sum); all others are ready after them, where arithmetic on whole columns or on scalars may
follow (a bias update after the column sums of its gradient). A matrix product is a group whose frame is its result.
"""

from __future__ import annotations

from dataclasses import replace

from graphc.ir import ops
from graphc.ir.access import is_constant, memory_of, resolve
from graphc.ir.graph import Graph, Value, located, reachable
from graphc.ir.group import (
    Axes,
    Frame,
    Group,
    accesses,
    frame_axes,
    is_computed,
    is_deferred,
    is_inlined,
    is_placed,
    points_shape,
    starts_alone,
)
from graphc.ir.ops.record import FRAMELESS
from graphc.ir.recompute import Recompute
from graphc.ir.schedule import schedule
from graphc.ir.types import Shape, bound

LONG_ROW = 1 << 15


def fuse(graph: Graph) -> tuple[Graph, list[Group]]:
    """The groups of a graph in the order they run, with the graph they are of (updates that cannot be done in place
    get a copy of their own)."""
    while True:
        groups = Fusion(graph).run()
        ordered, blocked = schedule(graph, groups)
        if blocked is None:
            return graph, ordered
        with located(blocked.value.origin, role="update"):
            copied = replace(blocked, value=ops.copy(blocked.value))
        outputs = (copied if output is blocked else output for output in graph.outputs)
        graph = replace(graph, outputs=tuple(outputs))


class Fusion:
    """One greedy walk over a graph, operands first: each value joins the group of an operand where that is legal."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.groups: list[Group] = []
        self.group_of: dict[Value, Group] = {}
        self.before: dict[Group, set[Group]] = {}
        checked = tuple(output.value for output in graph.of_kind("check"))
        self.checked = set(reachable(checked))
        self.updates = {memory_of(output.value) for output in graph.of_kind("update")} if checked else set()
        self.wanted = {memory_of(output.value) for output in graph.outputs}
        reads = (access for value in graph.values() for access in accesses(value))
        self.wanted.update(memory_of(access.root) for access in reads if access.whole)
        deferred = [output.value for output in graph.of_kind("update") if is_deferred(output.value)]
        self.stands_alone = set(deferred)
        self.wanted.update(memory_of(resolve(copy.operands[0]).root) for copy in deferred)

    def run(self) -> list[Group]:
        for value in self.graph.values():
            if is_computed(value) and (value in self.wanted or not is_inlined(value)):
                self.place(value)
        self.merge_siblings()
        self.sink()
        Recompute(self.graph, self.groups, self.wanted).run()
        return self.groups

    def place(self, value: Value) -> None:
        if value.op.kind == "part":
            self.group_of[value] = self.group_of[value.operands[0]]
            self.enter(value, self.group_of[value], (None,) * len(value.shape))
            return
        roots = [memory_of(access.root) for access in accesses(value)]
        candidates = list(dict.fromkeys(self.group_of[root] for root in roots if root in self.group_of))
        candidates.sort(key=lambda group: (group.product is None, -len(group.frame)))
        joined = next((group for group in candidates if self.join(value, group)), None)
        if joined is None:
            joined = self.start(value)
        self.group_of[value] = joined
        self.link(joined, [group for group in candidates if group is not joined])
        for group in candidates:
            if group is not joined and group in self.before:
                joined = self.merge(joined, group) or joined

    def start(self, value: Value) -> Group:
        shape = points_shape(value)
        kept = iter(range(len(shape)))
        walked: Axes = tuple(None if extent == 1 else next(kept) for extent in shape)
        frame = tuple(extent for extent in shape if extent != 1)
        if value.op.kind in FRAMELESS:
            frame, walked = (), (None,) * len(shape)
        group = Group(frame)
        self.enter(value, group, walked)
        self.groups.append(group)
        self.before[group] = set()
        return group

    def enter(self, value: Value, group: Group, walked: Axes) -> None:
        """Add a value whose points lie at the frame axes `walked`."""
        group.axes[value] = group.points[value] = walked
        if is_placed(value):
            group.axes[value] = (None,) * len(value.shape)
            group.after.add(value)
        if value.op.kind != "reduce":
            return
        reduced = {walked[axis] for axis in value.attrs["axes"]} - {None}
        group.axes[value] = tuple(None if axis in value.attrs["axes"] else at for axis, at in enumerate(walked))
        if reduced != {group.lane} or self.is_long(group.frame):
            group.after.add(value)

    def is_long(self, frame: Frame) -> bool:
        """A single row so long that threads share it: its sums are complete after the loops."""
        return len(frame) == 1 and bound(frame[0]) >= LONG_ROW

    def join(self, value: Value, group: Group) -> bool:
        """Add the value to the group if that is legal."""
        if starts_alone(value) or group.whole or value in self.stands_alone or not self.may_mix(value, group):
            return False
        if is_placed(value) and group.product is not None:
            return False
        if any(group in self.before[other] for other in self.operand_groups(value) if other is not group):
            return False
        fitted = self.walk(value, group)
        if fitted is None:
            return False
        walked, frame = fitted
        if value.op.kind == "reduce" and not self.may_reduce(value, group, walked, len(frame) - 1):
            return False
        if value.op.kind == "scatter" and not set(range(len(frame))) <= set(walked):
            return False  # it would be added once for every step along the other axes
        roots = [access.root for access in map(resolve, value.operands) if access.root in group.axes]
        late = [root for root in roots if root in group.after]
        if not late and group.product is not None and not self.fits_tile(group, walked):
            return False
        if late and not self.may_follow(value, group, walked, len(late) == len(roots)):
            return False
        group.frame = frame
        self.enter(value, group, walked)
        if late:
            group.after.add(value)
        return True

    def may_mix(self, value: Value, group: Group) -> bool:
        """What is looked at by a check must be done before any update starts."""
        if value in self.updates and any(member in self.checked for member in group.axes):
            return False
        return not (value in self.checked and any(member in self.updates for member in group.axes))

    def may_reduce(self, value: Value, group: Group, walked: Axes, lane: int) -> bool:
        """A product's rows come in tiles, so only sums over all its rows fit into its nest.

        What does not vary along an outer axis would be counted once for every step along it.
        """
        reduced = {walked[axis] for axis in value.attrs["axes"]} - {None}
        if reduced != {lane} and not set(range(lane)) <= set(walked):
            return False
        return group.product is None or lane not in reduced or reduced >= set(range(lane + 1))

    def fits_tile(self, group: Group, walked: Axes) -> bool:
        """A product's result passes by tile after tile, so what is computed with it must be of its shape."""
        return frame_axes(walked) == set(range(len(group.frame)))

    def may_follow(self, value: Value, group: Group, walked: Axes, all_late: bool) -> bool:
        """After the loops there is room for arithmetic on scalars and on whole lane axes."""
        return value.op.kind == "elementwise" and all_late and frame_axes(walked) <= {group.lane}

    def operand_groups(self, value: Value) -> set[Group]:
        roots = (memory_of(access.root) for access in accesses(value))
        return {self.group_of[root] for root in roots if root in self.group_of}

    def walk(self, value: Value, group: Group) -> tuple[Axes, Frame] | None:
        """The frame axes of the points `value` is computed at, and the frame, grown by one lane axis if it has to be.

        None if the value does not fit.
        """
        shape = points_shape(value)
        found: list[int | None] = [None] * len(shape)
        for access in accesses(value):
            if access.root not in group.axes:
                if memory_of(access.root) in group.axes:
                    return None
                continue
            if not access.is_plain or is_placed(access.root):
                return None
            for axis, at in zip(access.axes, group.axes[access.root], strict=True):
                if axis is None or at is None:
                    continue
                if found[axis] not in (None, at):
                    return None
                found[axis] = at
        return self.fill(shape, found, group)

    def fill(self, shape: Shape, found: list[int | None], group: Group) -> tuple[Axes, Frame] | None:
        """Give the axes no operand decides a frame axis of the same extent, keeping the order of axes."""
        last, frame = -1, list(group.frame)
        for axis, extent in enumerate(shape):
            if found[axis] is None and extent != 1:
                limit = next((at for at in found[axis + 1 :] if at is not None), len(frame))
                free = [at for at in range(last + 1, limit) if frame[at] == extent]
                if not free and (limit < len(frame) or last != len(frame) - 1 or not self.may_grow(group)):
                    return None
                if not free:
                    frame.append(extent)
                found[axis] = free[0] if free else len(frame) - 1
            at = found[axis]
            if at is not None:
                if at <= last:
                    return None
                last = at
        return tuple(found), tuple(frame)

    def may_grow(self, group: Group) -> bool:
        return bool(group.frame) and all(value.op.kind == "elementwise" for value in group.axes)

    def link(self, group: Group, others: list[Group]) -> None:
        """Record that `group` runs after `others`, for all that run after it as well."""
        earlier = set(others).union(*(self.before[other] for other in others)) - self.before[group]
        if not earlier:
            return
        for other in self.groups:
            if other is group or group in self.before[other]:
                self.before[other] |= earlier

    def merge(self, later: Group, earlier: Group) -> Group | None:
        """One group in place of two, when every value keeps its place."""
        host, guest = (earlier, later) if earlier.product is not None else (later, earlier)
        between = any(earlier in self.before[other] for other in self.before[later] if other is not earlier)
        alone = any(value in self.stands_alone for value in (*later.axes, *earlier.axes))
        if between or alone or guest.product is not None or guest.whole or host.whole:
            return None
        if guest.frame != host.frame:
            return self.append_columns(later, earlier)
        if host.product is not None and any(value.op.kind in ("reduce", "scatter") for value in guest.axes):
            return None
        if not all(self.may_mix(value, host) for value in guest.axes):
            return None
        if not self.agree(later, earlier):
            return None
        host.axes, host.points = {**earlier.axes, **later.axes}, {**earlier.points, **later.points}
        host.after |= guest.after
        self.absorb(host, guest)
        return host

    def append_columns(self, later: Group, earlier: Group) -> Group | None:
        """Arithmetic on a column that only the columns of `later` read moves behind its loops."""
        if earlier.frame != later.frame[-1:] or any(value.op.kind != "elementwise" for value in earlier.axes):
            return None
        if not all(self.may_mix(value, later) for value in earlier.axes):
            return None
        found = [(reader, access) for reader, access in later.reads() if memory_of(access.root) in earlier.axes]
        readers = {reader for reader, _ in found}
        if not all(access.is_plain for _, access in found):
            return None
        if not readers <= later.after or any(reader.op.kind == "reduce" for reader in readers):
            return None
        moved = {None: None, 0: later.lane}
        columns = {value: tuple(moved[axis] for axis in axes) for value, axes in earlier.axes.items()}
        later.axes, later.points = {**columns, **later.axes}, {**columns, **later.points}
        later.after |= set(columns)
        self.absorb(later, earlier)
        return later

    def agree(self, later: Group, earlier: Group) -> bool:
        """All that `later` reads of `earlier` is ready in the loops, at the very point where it is read."""
        for reader, access in later.reads():
            if memory_of(access.root) in earlier.axes and (
                access.root in earlier.after
                or access.root not in earlier.axes
                or not access.is_plain
                or later.axes_of(reader, access) != earlier.axes[access.root]
            ):
                return False
        return True

    def absorb(self, host: Group, guest: Group) -> None:
        for value in guest.axes:
            self.group_of[value] = host
        self.groups.remove(guest)
        gone = self.before.pop(guest)
        self.before[host] = (self.before[host] | gone) - {host, guest}
        for earlier in self.before.values():
            if guest in earlier:
                earlier.discard(guest)
                earlier.add(host)
        for group in self.groups:
            if host in self.before[group]:
                self.before[group] |= self.before[host]

    def merge_siblings(self) -> None:
        """Groups over one frame that read the same array go over it together."""
        reads = {group: self.whole_reads(group) for group in self.groups}
        readers: dict[tuple[Frame, Value], list[Group]] = {}
        for group, found in reads.items():
            for root in found:
                readers.setdefault((group.frame, root), []).append(group)
        for group in list(self.groups):
            others = {other for root in reads[group] for other in readers[group.frame, root]}
            for other in (each for each in reads if each in others and each is not group):
                if group in self.before and other in self.before and self.are_siblings(group, other):
                    self.merge(group, other)

    def are_siblings(self, group: Group, other: Group) -> bool:
        if group.frame != other.frame or group.product or other.product or group.whole or other.whole:
            return False
        return other not in self.before[group] and group not in self.before[other]

    def whole_reads(self, group: Group) -> set[Value]:
        """What a group reads along every axis of its frame."""
        everything = set(range(len(group.frame)))
        if not everything:
            return set()
        return {
            access.root
            for reader, access in group.reads()
            if access.root not in group.axes and everything <= group.moved_by(reader, access)
        }

    def sink(self) -> None:
        """What only one later group uses is computed there, if that group has all of its operands at hand."""
        users: dict[Value, set[Group]] = {}
        for group in self.groups:
            for _, access in group.reads():
                users.setdefault(memory_of(access.root), set()).add(group)
        for group in self.groups:
            for value in reversed(list(group.axes)):
                target = next(iter(users.get(value, ())), group)
                if len(users.get(value, ())) == 1 and target is not group and self.may_sink(value, group, target):
                    target.axes[value], target.points[value] = group.axes.pop(value), group.points.pop(value)
                    self.group_of[value] = target

    def may_sink(self, value: Value, group: Group, target: Group) -> bool:
        if value.op.kind != "elementwise" or value in self.wanted or value in group.after or len(group.axes) == 1:
            return False
        if group.frame != target.frame or not self.agree(target, group) or not self.may_mix(value, target):
            return False
        at_hand = {access.root for _, access in target.reads()}
        roots = {access.root for access in accesses(value)}
        return all(root in at_hand for root in roots if not is_constant(root))
