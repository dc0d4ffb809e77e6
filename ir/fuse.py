"""Which values share one loop nest.

A group has a frame, the extents of its loops; the last axis is the lane axis, walked sixteen elements at a time. Every
value of a group lives on some of the frame's axes. Reductions along the lane axis alone are ready inside the loops (a
row's maximum, a row's sum); all others are ready after them, where arithmetic on whole columns or on scalars may
follow (a bias update after the column sums of its gradient). A matrix product is a group whose frame is its result.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from graphc.ir import ops
from graphc.ir.access import Access, follow, is_constant, memory_of, resolve
from graphc.ir.graph import Graph, Output, Value, located, reachable
from graphc.ir.layout import matrix_layout
from graphc.ir.ops.record import WHOLE
from graphc.ir.types import STAY, Extent, Shape, along, bound

Axes = tuple[int | None, ...]
Frame = tuple[Extent, ...]


@dataclass(eq=False)
class Group:
    """Values computed in one nest.

    axes[v]    the frame axis of each axis of v
    points[v]  the same for the points v is computed from: a reduction's operand has more axes than its result
    after      values complete only after the loops
    """

    frame: Frame
    axes: dict[Value, Axes] = field(default_factory=dict)
    points: dict[Value, Axes] = field(default_factory=dict)
    after: set[Value] = field(default_factory=set)

    @property
    def product(self) -> Value | None:
        """The matrix product whose result this group's frame is, if there is one."""
        return next((value for value in self.axes if value.op.kind == "contraction"), None)

    @property
    def whole(self) -> Value | None:
        """The sweep or loop this group is, if it is one; it has no frame and, but for parts, no other values."""
        return next((value for value in self.axes if value.op.kind in ("sweep", "loop")), None)

    @property
    def lane(self) -> int:
        return len(self.frame) - 1

    def walked(self, value: Value) -> set[int]:
        """The frame axes a value varies along."""
        return {axis for axis in self.axes[value] if axis is not None}

    def reads(self) -> Iterator[tuple[Value, Access]]:
        """Every operand of every value, as (reader, access)."""
        for value in self.axes:
            for access in accesses(value):
                yield value, access

    def axes_of(self, reader: Value, access: Access) -> Axes:
        """The frame axis that walks each axis of what a reader of this group reads by a plain access."""
        own = self.points[reader]
        return tuple(None if axis is None else own[axis] for axis in access.axes)

    def moved_by(self, reader: Value, access: Access) -> set[int | None]:
        """The frame axes that move what a reader reads."""
        return set() if access.whole else {self.points[reader][axis] for axis in access.walked}

    def framed(self, reader: Value, access: Access) -> Access:
        """What a reader of this group reads, with frame axes in place of the reader's own."""
        if access.whole:
            return access
        inner = tuple(STAY if at is None else along(at) for at in self.points[reader])
        guards = tuple((follow(walk, inner), extent) for walk, extent in access.guards)
        return Access(access.root, self.frame, tuple(follow(walk, inner) for walk in access.walks), guards)


def accesses(value: Value) -> list[Access]:
    """How a value reads its operands."""
    found: list[Access] | None = value.memo.get("accesses")
    if found is None:
        found = value.memo["accesses"] = find_accesses(value)
    return found


def find_accesses(value: Value) -> list[Access]:
    if value.op.kind == "contraction":
        layouts = (matrix_layout(operand) for operand in value.operands)
        return [Access(layout.root, (), (), whole=True) for layout in layouts if layout is not None]
    whole = WHOLE.get(value.op.kind, 0)
    reads = [resolve(operand) for operand in value.operands]
    return [replace(access, whole=True) if number < whole else access for number, access in enumerate(reads)]


def is_computed(value: Value) -> bool:
    """Made by arithmetic: neither a source nor a view."""
    return value.op.kind not in ("source", "view", "gradient")


def starts_alone(value: Value) -> bool:
    """A value whose nest is made for it; others may join."""
    return value.op.kind in ("contraction", "sweep", "loop")


def is_placed(value: Value) -> bool:
    """A value whose elements do not come in the order of its nest's frame: it can be read from memory only."""
    return value.op.kind in ("scatter", "sweep", "loop", "part")


def is_inlined(value: Value) -> bool:
    """One number made from nothing but constants and inputs: cheaper to compute again than to keep."""
    if is_constant(value) or value.op is ops.input:
        return True
    if bound(value.type.count) != 1 or value.op.kind not in ("elementwise", "view"):
        return False
    return all(is_inlined(operand) for operand in value.operands)


def is_deferred(update: Value) -> bool:
    """A copy of something computed earlier: an update that waits until its state was read by all others."""
    return update.op is ops.copy and is_computed(memory_of(resolve(update.operands[0]).root))


def points_shape(value: Value) -> Shape:
    """The shape of the points a value is computed from."""
    return value.operands[0].shape if value.op.kind in ("reduce", "scatter") else value.shape


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
        if value.op.kind in ("sweep", "loop"):
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
        if reduced != {group.lane}:
            group.after.add(value)

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
        return {axis for axis in walked if axis is not None} == set(range(len(group.frame)))

    def may_follow(self, value: Value, group: Group, walked: Axes, all_late: bool) -> bool:
        """After the loops there is room for arithmetic on scalars and on whole lane axes."""
        varies = {axis for axis in walked if axis is not None}
        return value.op.kind == "elementwise" and all_late and varies <= {group.lane}

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


def schedule(graph: Graph, groups: list[Group]) -> tuple[list[Group], Output | None]:
    """The groups in an order that respects data, checks before updates, and reads of a state before its update.

    Returns the first update that cannot be done in place as the second result, or None.
    """
    home = {value: group for group in groups for value in group.axes}
    readers: dict[Value, list[Group]] = {}
    after: dict[Group, set[Group]] = {group: set() for group in groups}
    for group in groups:
        for _, access in all_reads(group, home):
            root = memory_of(access.root)
            readers.setdefault(root, []).append(group)
            if root in home and home[root] is not group:
                after[group].add(home[root])
    states = {value.attrs["name"]: value for value in graph.of_role("state")}
    checks = {home[memory_of(output.value)] for output in graph.of_kind("check")}
    updates = graph.of_kind("update")
    for output in updates:
        group = home[memory_of(output.value)]
        state = states[output.name]
        if not in_place(group, memory_of(output.value), state):
            return [], output
        after[group] |= {reader for reader in readers.get(state, ()) if reader is not group} | (checks - {group})
    ordered = first_ready(groups, after)
    if len(ordered) < len(groups):
        stuck = (output for output in updates if home[memory_of(output.value)] not in set(ordered))
        return [], next(output for output in stuck if not is_deferred(output.value))
    return ordered, None


def first_ready(groups: list[Group], after: Mapping[Group, set[Group]]) -> list[Group]:
    """The groups, each as early in their order as those before it allow; without those that wait for each other."""
    waiting = {group: len(after[group]) for group in groups}
    followers: dict[Group, list[Group]] = {group: [] for group in groups}
    for group in groups:
        for other in after[group]:
            followers[other].append(group)
    place = {group: number for number, group in enumerate(groups)}
    ready = [place[group] for group in groups if not waiting[group]]
    ordered: list[Group] = []
    while ready:
        group = groups[heapq.heappop(ready)]
        ordered.append(group)
        for follower in followers[group]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, place[follower])
    return ordered


def all_reads(group: Group, home: Mapping[Value, Group]) -> Iterator[tuple[Value, Access]]:
    """What a group reads, the inputs of the numbers it computes again included."""
    seen: set[Value] = set()
    stack = list(group.reads())
    while stack:
        reader, access = stack.pop()
        yield reader, access
        root = access.root
        if root not in home and root not in seen and root.op.kind == "elementwise":
            seen.add(root)
            stack.extend((root, access) for access in accesses(root))


def in_place(group: Group, update: Value, state: Value) -> bool:
    """Writing `update` over `state` happens once a place and disturbs no other read of the state in the same nest."""
    if update not in group.after and group.walked(update) != set(range(len(group.frame))):
        return False
    for reader, access in group.reads():
        if memory_of(access.root) is not state:
            continue
        if access.root is not state or not access.is_plain:
            return False
        late_read, late_write = reader in group.after, update in group.after
        if late_read and not late_write:
            return False
        if late_read == late_write and group.axes_of(reader, access) != group.axes[update]:
            return False
    return True
