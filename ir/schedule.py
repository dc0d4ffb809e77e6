"""The order groups run in, and which updates can be written in place."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from graphc.ir.access import Access, memory_of
from graphc.ir.graph import Graph, Output, Value
from graphc.ir.group import Group, accesses, is_deferred


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
    """The groups, each as early in their order as those before it allow; without those that wait for each other.

    One that nobody waits for, as the update of a weight, runs as soon as it can: what it reads is at hand, and is not
    kept for it.
    """
    waiting = {group: len(after[group]) for group in groups}
    followers: dict[Group, list[Group]] = {group: [] for group in groups}
    for group in groups:
        for other in after[group]:
            followers[other].append(group)
    place = {group: (bool(followers[group]), number) for number, group in enumerate(groups)}
    ready = sorted(place[group] for group in groups if not waiting[group])
    ordered: list[Group] = []
    while ready:
        group = groups[heapq.heappop(ready)[1]]
        ordered.append(group)
        for follower in followers[group]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, place[follower])
    return ordered


def all_reads(group: Group, home: Mapping[Value, Group]) -> Iterator[tuple[Value, Access]]:
    """What a group reads, also for what it computes again."""
    seen: set[Value] = set()
    stack = list(group.reads())
    while stack:
        reader, access = stack.pop()
        root = access.root
        if root not in group.again:
            yield reader, access
        if root in group.again or (root not in home and root.op.kind == "elementwise"):
            stack.extend((root, access) for access in accesses(root) if root not in seen)
            seen.add(root)


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
