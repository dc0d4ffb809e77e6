"""Values that are cheaper to compute again where they are read than to bring there through memory."""

from __future__ import annotations

from graphc.ir.access import Access, memory_of
from graphc.ir.graph import Graph, Value
from graphc.ir.group import Group, accesses, is_inlined

CHEAP = 8  # additions an element that may be done once more
SMALL = 8  # a value so many times smaller than another costs nothing beside it
Reads = dict[Value, list[tuple[Value, Access]]]


class Recompute:
    """One go over all groups, later values first: what is computed again is one thing less to keep.

    wanted   values that have to be in memory
    written  states that are updated: what they were is gone when a later group wants to see it
    """

    def __init__(self, graph: Graph, groups: list[Group], wanted: set[Value]) -> None:
        self.groups = groups
        self.wanted = wanted
        self.home = {value: group for group in groups for value in group.axes}
        updated = {output.name for output in graph.of_kind("update")}
        self.written = {state for state in graph.of_role("state") if state.attrs["name"] in updated}
        self.reads: dict[Group, Reads] = {}
        self.users: dict[Value, set[Group]] = {}
        for group in groups:
            found: Reads = {}
            for reader, access in group.reads():
                found.setdefault(access.root, []).append((reader, access))
                self.users.setdefault(memory_of(access.root), set()).add(group)
            self.reads[group] = found

    def run(self) -> None:
        for group in reversed(self.groups):
            for value in reversed(list(group.axes)):
                others = [other for other in self.users.get(value, ()) if other is not group]
                if others and self.may_be_again(value, group, others):
                    self.try_again(value, group, others)

    def may_be_again(self, value: Value, group: Group, others: list[Group]) -> bool:
        """It is arithmetic on elements, and whoever reads it does so at every point of its loops."""
        if value in self.wanted or value in group.after or value.op.kind != "elementwise":
            return False
        return all(value in self.reads[other] and self.is_everywhere(value, other) for other in others)

    def is_everywhere(self, value: Value, other: Group) -> bool:
        found = self.reads[other][value]
        if any(access.whole or access.guards or reader in other.after for reader, access in found):
            return False
        everything = set(range(len(other.frame)))
        return all(everything <= other.moved_by(reader, access) for reader, access in found)

    def try_again(self, value: Value, group: Group, others: list[Group]) -> None:
        """Let all its readers compute it, if they then read less than it would take to write and read it."""
        cone = self.cone(value, group)
        if cone is None:
            return
        inside, leaves = cone
        size, spent = value.type.max_bytes, 0
        for leaf in leaves:
            new = [other for other in others if not self.is_at_hand(leaf, other)]
            if any(leaf in other.after for other in others):
                return
            spent += leaf.type.max_bytes * (len(new) + (not self.is_kept(leaf)))
        if spent >= size * (1 + len(others)):
            return
        self.users[value] -= set(others)
        for other in others:
            other.again.update(inside)
            del self.reads[other][value]
            for leaf in leaves:
                self.reads[other].setdefault(leaf, [])
                self.users.setdefault(memory_of(leaf), set()).add(other)

    def cone(self, value: Value, group: Group) -> tuple[list[Value], set[Value]] | None:
        """What is computed again for a value, and what is read for that; None where it is too much or cannot be had."""
        inside, leaves, stack = [value], set[Value](), accesses(value)[:]
        while stack:
            access = stack.pop()
            root = access.root
            if is_inlined(root) or root in inside or root in leaves:
                continue
            if root in self.written or root.op.kind == "view":
                return None
            if self.is_read(root, value, group) or access.guards:
                leaves.add(root)
                continue
            inside.append(root)
            stack += accesses(root)
        return None if sum(each.op.cost for each in inside) > CHEAP else (inside, leaves)

    def is_read(self, root: Value, value: Value, group: Group) -> bool:
        """It is read rather than computed again: in memory anyway, small, or no arithmetic on elements."""
        if root not in group.axes or root in group.after or root.op.kind != "elementwise" or self.is_kept(root):
            return True
        return root.type.max_bytes * SMALL <= value.type.max_bytes

    def is_kept(self, value: Value) -> bool:
        """It is in memory anyway."""
        owner = memory_of(value)
        home = self.home.get(owner)
        return home is None or owner in self.wanted or any(other is not home for other in self.users.get(owner, ()))

    def is_at_hand(self, leaf: Value, other: Group) -> bool:
        return leaf in self.reads[other] or leaf in other.axes
