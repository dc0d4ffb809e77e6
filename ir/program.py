"""The plan of a whole call: nests in order, checks between them, every buffer at its place in one arena.

The plan holds for the largest size of every dim, so that nothing is allocated while it runs. Buffers whose lives do not
overlap share bytes.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate

from graphc.ir import blocking, ops
from graphc.ir.access import memory_of, resolve, strides
from graphc.ir.builder import Builder, Part, Parts, Places, home
from graphc.ir.checkpointing import let_go, operations
from graphc.ir.frozen import dataclass
from graphc.ir.fuse import fuse
from graphc.ir.graph import Graph, IRError, TooLittleMemory, Value
from graphc.ir.group import Group
from graphc.ir.loops import (
    Buffer,
    LoopNest,
    Repetition,
    Term,
    print_buffer,
    print_nest,
    row_room,
    rows_together,
    verify_nest,
)
from graphc.ir.partition import partition
from graphc.ir.reuse import in_place
from graphc.ir.schedule import all_reads
from graphc.ir.tiling import tiled_nest
from graphc.ir.triangles import Found, triangles
from graphc.ir.types import DTYPES, Dim, Extent, add, bound, multiply, round_up

TRIES = 8  # things to compute again for every nest of a program
SHARED = ("sums", "parts")  # scratch of a nest that all threads work in


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes of the work arena, in use from nest `first` to nest `last`."""

    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Check:
    """After nest `nest`, the i64 in `buffer` must be 0; otherwise the call stops with this check's number."""

    nest: int
    buffer: Buffer
    message: str


@dataclass(frozen=True, slots=True)
class Program:
    """What one call does.

    apart          the nests as they were before values took the places of others
    work           where each buffer that is neither an input nor a result lies in the arena, or, if it is private, in
                   each thread's own
    work_bytes     of the arena all threads share
    private_bytes  of the arena of each thread
    """

    graph: Graph
    nests: tuple[LoopNest, ...]
    apart: tuple[LoopNest, ...]
    checks: tuple[Check, ...]
    work: dict[tuple[int, Buffer], Region]
    work_bytes: int
    private_bytes: int

    def walk(self) -> Iterator[LoopNest]:
        """Every nest that is a kernel, those of repeated programs in their place."""
        for nest in self.nests:
            if nest.repetition is None:
                yield nest
            else:
                yield from nest.repetition.program.walk()

    @property
    def is_shared_out(self) -> bool:
        """Whether there is anything to do for a second thread."""
        return any(nest.partition is not None for nest in self.walk())

    @property
    def dims(self) -> tuple[Dim, ...]:
        """Those of its graph, and those of the rows its loops go through at a time."""
        loops = (nest.repetition for nest in self.nests if nest.repetition is not None)
        return (*self.graph.dims, *(loop.rows[0] for loop in loops if loop.rows is not None))

    def scratch_of(self, nest: int) -> list[Buffer]:
        """The scratch of a nest of its own."""
        return [buffer for number, buffer in self.work if number == nest]

    def region(self, nest: int, buffer: Buffer) -> Region:
        """Where a buffer lies, as seen from a nest: scratch is each nest's own."""
        return self.work[nest if buffer.kind == "scratch" else -1, buffer]


def plan(graph: Graph, panel_width: int) -> Program:
    """The program of a graph that went through the passes.

    panel_width  columns of a packed panel of the target's matrix products (its scratch depends on it)
    """
    graph, fused = fuse(graph)
    places = stored_places(graph, fused)
    parts = parts_of_joins(fused, places)
    groups = [group for group in fused if has_nest(group, places, parts)]
    found = triangles(graph)
    nests = tuple(verify_nest(build_nest(group, places, parts, found, panel_width)) for group in groups)
    return laid_out(graph, nests, panel_width)


def laid_out(graph: Graph, apart: tuple[LoopNest, ...], panel_width: int) -> Program:
    """The program of nests in their order."""
    written = {buffer: number for number, nest in enumerate(apart) for buffer in nest.written()}
    counts = [(each.name, Buffer("value", memory_of(each.value))) for each in graph.of_kind("check")]
    checks = tuple(Check(written[buffer], buffer, message) for message, buffer in counts)
    looked_at = {check.buffer for check in checks}  # a thread may look at one when others are nests ahead
    nests = in_place(apart, looked_at)
    lives = lifetimes(nests, panel_width)
    last = len(nests)
    lives = [
        (key, size, 0, last) if key[1] in looked_at else (key, size, first, end) for key, size, first, end in lives
    ]
    work, work_bytes = allocate([life for life in lives if not is_private(life[0][1])])
    private, private_bytes = allocate([life for life in lives if is_private(life[0][1])])
    repeated = (nest.repetition.program.private_bytes for nest in nests if nest.repetition is not None)
    private_bytes = max([private_bytes, *repeated])
    return verify_program(Program(graph, nests, apart, checks, work | private, work_bytes, private_bytes))


def fitted(program: Program, panel_width: int, most: int, dearest: float = math.inf) -> Program:
    """The program with at most so many bytes of work: what lies idle is computed again instead of kept.

    dearest  times as many operations at most
    Raises TooLittleMemory, with the fewest bytes that were reached.
    """
    keep = {check.buffer for check in program.checks}
    least, tries = program.work_bytes, TRIES * len(program.nests)
    limit = dearest * sum(map(operations, program.nests))
    while program.work_bytes > most:
        nests = let_go(program.apart, live_bytes(program), keep) if tries else None
        if nests is None or sum(map(operations, nests)) > limit:
            raise TooLittleMemory(least)
        program, tries = laid_out(program.graph, nests, panel_width), tries - 1
        least = min(least, program.work_bytes)
    return program


def live_bytes(program: Program) -> list[int]:
    """Bytes of the arena in use while each nest runs."""
    changes = [0] * (len(program.nests) + 2)
    for (_, buffer), region in program.work.items():
        if not is_private(buffer):
            changes[region.first] += region.size
            changes[region.last + 1] -= region.size
    return list(accumulate(changes))[: len(program.nests)]


def is_private(buffer: Buffer) -> bool:
    """Scratch that every thread has for itself."""
    return buffer.kind == "scratch" and buffer.name not in SHARED and buffer.value.op.kind != "loop"


def is_join(group: Group) -> bool:
    """It has no nest of its own: its parts are written where they are computed."""
    return group.whole is not None and group.whole.op.kind == "join"


def has_nest(group: Group, places: Places, parts: Parts) -> bool:
    """Something it computes goes to memory: all of it may be computed again elsewhere instead."""
    return not is_join(group) and any(value in places or value in parts for value in group.axes)


def build_nest(group: Group, places: Places, joins: Parts, found: Found, panel_width: int) -> LoopNest:
    loop = group.whole
    if loop is None or loop.op.kind not in ("loop", "tiles"):
        nest = Builder(group, places, joins, found).build()
        return replace(nest, partition=partition(nest))
    if loop.op.kind == "tiles":
        handed_out = (value for value in group.axes if value.op.kind == "part")
        return tiled_nest(loop, {value.attrs["name"]: rooms_of(value, places, joins) for value in handed_out})
    parts = {value.attrs["name"]: places[value][0] for value in group.axes if value.op.kind == "part"}
    body, roles = loop.attrs["body"].graph, ops.Roles(loop)

    def kept(name: str) -> Buffer:
        return parts.get(name) or Buffer("scratch", loop, f"{name} of a loop")

    repetition = Repetition(
        program=plan(body, panel_width),
        value=loop,
        trips=None if roles.trips is None else home(roles.trips),
        carries=tuple((state, home(start), kept(state.attrs["name"])) for state, start in roles.carried),
        slices=tuple((data, home(operand)) for data, operand in roles.slices),
        captured=tuple((data, home(operand)) for data, operand in roles.captured),
        results=tuple((output, parts[output.name]) for output in body.of_kind("result")),
        work=Buffer("scratch", loop, "work of a loop"),
    )
    origins = () if loop.origin is None else (loop.origin,)
    return LoopNest("loop", (), (), origins=origins, repetition=repetition)


def rooms_of(value: Value, places: Places, joins: Parts) -> list[Part]:
    """Every memory a value goes to."""
    whole = (Part(buffer, 0, strides(value.shape)) for buffer in places.get(value, ()))
    return [*whole, *joins.get(value, ())]


def stored_places(graph: Graph, groups: list[Group]) -> Places:
    """Where every value that outlives its nest is stored."""
    computed = {value: group for group in groups for value in group.axes}
    places: dict[Value, list[Buffer]] = {}
    states = {value.attrs["name"]: value for value in graph.of_role("state")}
    for output in graph.of_kind("update"):
        places.setdefault(memory_of(output.value), []).append(Buffer("input", states[output.name]))
    for output in graph.of_kind("result"):
        owner = memory_of(output.value)
        places.setdefault(owner, []).append(Buffer("result", owner, output.name))
    read = [memory_of(output.value) for output in graph.of_kind("check")]
    for group in groups:
        if is_join(group):
            continue
        owners = (memory_of(access.root) for _, access in all_reads(group, computed))
        read += [owner for owner in owners if computed.get(owner, group) is not group]
    for owner in dict.fromkeys(read):
        places.setdefault(owner, []).append(Buffer("value", owner))
    return {value: tuple(buffers) for value, buffers in places.items()}


def parts_of_joins(groups: list[Group], places: Places) -> Parts:
    """Where every value that is part of a join goes, in each memory of the join."""
    found: dict[Value, list[Part]] = {}
    for group in groups:
        join = group.whole
        if join is None or not is_join(group):
            continue
        along = strides(join.shape)
        ahead: Extent = 0
        for operand in join.operands:
            access = resolve(operand)
            steps = tuple(0 if axis is None else along[axis] for axis in access.axes)
            offset = multiply(ahead, along[join.attrs["axis"]])
            found.setdefault(access.root, []).extend(Part(place, offset, steps) for place in places[join])
            ahead = add(ahead, operand.shape[join.attrs["axis"]])
    return {value: tuple(parts) for value, parts in found.items()}


def parts_buffer(term: Term) -> Buffer:
    """Where every part of a nest leaves its own sum."""
    return Buffer("scratch", term.value, "parts")


def scratch_bytes(nest: LoopNest, panel_width: int) -> Iterator[tuple[Buffer, int]]:
    """Scratch of one nest and its size at the dims' maxima."""
    if nest.repetition is not None:
        yield nest.repetition.work, max(nest.repetition.program.work_bytes, 1)
        for state, _, kept in nest.repetition.carries:
            if kept.kind == "scratch":
                yield kept, state.type.max_bytes
    if nest.sweep is not None:
        yield Buffer("scratch", nest.sweep.value, "line"), 2 * bound(nest.sweep.extent) * DTYPES["i64"].itemsize
    for term in nest.terms():
        if term.kind == "column" and term.detail[0].kind == "scratch":
            yield term.detail[0], term.value.type.max_bytes
        if term.kind in ("total", "column") and nest.partition is not None and nest.partition.parts:
            yield parts_buffer(term), nest.partition.parts * (round_up(term.value.type.max_bytes))
        if term.kind == "product" and nest.product is not None:
            for name, dtype, elements in blocking.scratch(nest, panel_width, term.dtype):
                yield Buffer("scratch", term.value, name), elements * DTYPES[dtype].itemsize
    for term in nest.stash:
        room = rows_together(nest) * row_room(nest)
        yield Buffer("scratch", term.value, "row"), room * DTYPES[term.dtype].itemsize


Life = tuple[tuple[int, Buffer], int, int, int]


def lifetimes(nests: tuple[LoopNest, ...], panel_width: int) -> list[Life]:
    """(key, bytes, first nest, last nest) of every buffer of the arena."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    lives: list[Life] = []
    for number, nest in enumerate(nests):
        for buffer in nest.buffers():
            if buffer.kind == "value":
                first.setdefault(buffer, number)
                last[buffer] = number
        for buffer, size in scratch_bytes(nest, panel_width):
            lives.append(((number, buffer), size, number, number))
    lives += [((-1, buffer), buffer.value.type.max_bytes, first[buffer], last[buffer]) for buffer in first]
    return lives


def allocate(lives: list[Life]) -> tuple[dict[tuple[int, Buffer], Region], int]:
    """First fit, largest first: each buffer takes the lowest offset free during its life."""
    placed: dict[tuple[int, Buffer], Region] = {}
    by_offset: list[Region] = []
    for key, size, first, last in sorted(lives, key=lambda life: -life[1]):
        offset, needed = 0, round_up(size)
        for region in by_offset:
            if region.first <= last and first <= region.last:
                if offset + needed <= region.offset:
                    break
                offset = max(offset, region.offset + region.size)
        placed[key] = Region(offset, needed, first, last)
        insort(by_offset, placed[key], key=lambda region: region.offset)
    return placed, max((region.offset + region.size for region in by_offset), default=0)


def verify_program(program: Program) -> Program:
    """The program itself; raises IRError when live buffers share bytes or something is read before it is written."""
    for private in (False, True):
        verify_regions(region for (_, buffer), region in program.work.items() if is_private(buffer) == private)
    written: set[Buffer] = set()
    for nest in program.nests:
        stored = set(nest.written())
        for buffer in nest.buffers():
            if buffer.kind == "value" and buffer not in written | stored:
                raise IRError(f"nest {nest.name} reads {print_buffer(buffer)} before it is written")
        written |= stored
    results = {output.name for output in program.graph.of_kind("result")}
    missing = results - {buffer.name for buffer in written if buffer.kind == "result"}
    if missing:
        raise IRError(f"nothing computes the results {sorted(missing)}")
    return program


def verify_regions(arena: Iterable[Region]) -> None:
    """Raises IRError when two of them share bytes while both are in use."""
    regions = sorted((each for each in arena if each.size), key=lambda region: region.offset)
    for number, one in enumerate(regions):
        for other in regions[number + 1 :]:
            if other.offset >= one.offset + one.size:
                break
            if one.first <= other.last and other.first <= one.last:
                raise IRError(f"two live buffers share bytes at {other.offset} of the arena")


def print_program(program: Program) -> str:
    """The plan as text: the arena, then nests and checks in order."""
    private = f", {program.private_bytes} for each thread" if program.private_bytes else ""
    lines = [f"program {program.graph.name}: {len(program.nests)} nests, {program.work_bytes} bytes of work{private}"]
    for (nest_number, buffer), region in sorted(program.work.items(), key=lambda item: (item[1].first, item[1].offset)):
        owner = print_buffer(buffer) if nest_number < 0 else f"{print_buffer(buffer)} of nest {nest_number}"
        span = f"[{region.offset}, {region.offset + region.size})"
        arena = "private" if is_private(buffer) else "work"
        lines.append(f"  {arena} {span} {buffer.value.type} {owner}, nests {region.first} to {region.last}")
    for number, nest in enumerate(program.nests):
        head, *body = print_nest(nest).splitlines()
        lines += [f"{number}: {head}", *(f"  {line}" for line in body)]
        if nest.repetition is not None:
            lines += [f"    {line}" for line in print_program(nest.repetition.program).splitlines()]
        lines += [f"  check: {check.message}" for check in program.checks if check.nest == number]
    return "\n".join(lines) + "\n"
