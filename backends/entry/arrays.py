"""How native code tells whether it can read the NumPy arrays of a call as they are, as LLVM IR.

`fits` looks at the array objects themselves, whose layout is part of NumPy's binary interface: `exact.py` makes sure of
it before anything is looked at this way. What it finds it leaves for `step`: the addresses of elements and the sizes of
dims; unless places are fixed, then the addresses must be those that are there.
"""

from __future__ import annotations

from graphc.backends.interface import ARRAY_WORDS, BINDS, DTYPE, EQUAL, EXTENTS, FLAGS, KIND, RANK


def _field(name: str, offset: int, kind: str) -> str:
    return f"""  %{name}.at = getelementptr inbounds i8, ptr %array, i64 {offset}
  %{name} = load {kind}, ptr %{name}.at, align 4"""


_TOLD = "\n".join(
    f"""  %word.{number} = getelementptr inbounds i64, ptr %call, i64 {number}
  %{name} = load i64, ptr %word.{number}, align 8"""
    for number, name in enumerate(ARRAY_WORDS)
)
_POINTERS = "\n".join(f"  %{name}.p = inttoptr i64 %{name} to ptr" for name in ("objects", "places", "sizes", "blocks"))

# An input is told of by its dtype, its rank, the bytes of an element, and three words an axis: EQUAL and an extent;
# BINDS, a dim that takes its size from here, and the most it may be; BOUND and a dim whose size is known from another
# axis. Blocks hold parameters, which no input may overlap; each is told of by where it starts and ends.
FITS = f"""
define i32 @fits(ptr %call) nounwind "no-builtins" {{
entry:
{_TOLD}
{_POINTERS}
  %inputs = getelementptr inbounds i64, ptr %call, i64 {len(ARRAY_WORDS)}
  br label %next
next:
  %number = phi i64 [ 0, %entry ], [ %following, %accepted ]
  %input = phi ptr [ %inputs, %entry ], [ %axis.at, %accepted ]
  %more = icmp slt i64 %number, %count
  br i1 %more, label %look, label %all
look:
  %object.at = getelementptr inbounds ptr, ptr %objects.p, i64 %number
  %object = load ptr, ptr %object.at, align 8
  %array = getelementptr inbounds i8, ptr %object, i64 %offset
{_field("kind", KIND, "i64")}
  %is.array = icmp eq i64 %kind, %array.kind
  br i1 %is.array, label %typed, label %no
typed:
{_field("rank", RANK, "i32")}
{_field("extents", EXTENTS, "ptr")}
{_field("dtype", DTYPE, "i64")}
{_field("flags", FLAGS, "i32")}
  %dtype.wanted = load i64, ptr %input, align 8
  %rank.at.input = getelementptr inbounds i64, ptr %input, i64 1
  %rank.wanted = load i64, ptr %rank.at.input, align 8
  %bytes.at.input = getelementptr inbounds i64, ptr %input, i64 2
  %bytes.of.one = load i64, ptr %bytes.at.input, align 8
  %axes = getelementptr inbounds i64, ptr %input, i64 3
  %rank.wide = sext i32 %rank to i64
  %flags.wide = zext i32 %flags to i64
  %flags.held = and i64 %flags.wide, %flags.wanted
  %same.dtype = icmp eq i64 %dtype, %dtype.wanted
  %same.rank = icmp eq i64 %rank.wide, %rank.wanted
  %has.flags = icmp eq i64 %flags.held, %flags.wanted
  %two = and i1 %same.dtype, %same.rank
  %three = and i1 %two, %has.flags
  br i1 %three, label %axis, label %no
axis:
  %place.of.axis = phi i64 [ 0, %typed ], [ %place.next, %axis.next ]
  %axis.at = phi ptr [ %axes, %typed ], [ %axis.after, %axis.next ]
  %bytes = phi i64 [ %bytes.of.one, %typed ], [ %bytes.next, %axis.next ]
  %axes.left = icmp slt i64 %place.of.axis, %rank.wanted
  br i1 %axes.left, label %measure, label %placed
measure:
  %extent.at = getelementptr inbounds i64, ptr %extents, i64 %place.of.axis
  %extent = load i64, ptr %extent.at, align 8
  %rule = load i64, ptr %axis.at, align 8
  %value.at = getelementptr inbounds i64, ptr %axis.at, i64 1
  %value = load i64, ptr %value.at, align 8
  %most.at = getelementptr inbounds i64, ptr %axis.at, i64 2
  %most = load i64, ptr %most.at, align 8
  %is.equal = icmp eq i64 %rule, {EQUAL}
  br i1 %is.equal, label %compare, label %dim
dim:
  %size.at = getelementptr inbounds i64, ptr %sizes.p, i64 %value
  %binds = icmp eq i64 %rule, {BINDS}
  br i1 %binds, label %bind, label %bound
bind:
  %some = icmp sge i64 %extent, 1
  %few = icmp sle i64 %extent, %most
  %bounded = and i1 %some, %few
  store i64 %extent, ptr %size.at, align 8
  br i1 %bounded, label %axis.next, label %no
bound:
  %size = load i64, ptr %size.at, align 8
  br label %compare
compare:
  %wanted = phi i64 [ %value, %measure ], [ %size, %bound ]
  %is.same = icmp eq i64 %extent, %wanted
  br i1 %is.same, label %axis.next, label %no
axis.next:
  %place.next = add i64 %place.of.axis, 1
  %bytes.next = mul i64 %bytes, %extent
  %axis.after = getelementptr inbounds i64, ptr %axis.at, i64 3
  br label %axis
placed:
  %elements = load i64, ptr %array, align 8
  %end = add i64 %elements, %bytes
  br label %block
block:
  %block.number = phi i64 [ 0, %placed ], [ %block.next, %apart ]
  %blocks.left = icmp slt i64 %block.number, %block.count
  br i1 %blocks.left, label %overlap, label %known
overlap:
  %start.number = shl i64 %block.number, 1
  %start.at = getelementptr inbounds i64, ptr %blocks.p, i64 %start.number
  %stop.at = getelementptr inbounds i64, ptr %start.at, i64 1
  %start = load i64, ptr %start.at, align 8
  %stop = load i64, ptr %stop.at, align 8
  %ends.before = icmp sle i64 %end, %start
  %starts.behind = icmp sge i64 %elements, %stop
  %is.apart = or i1 %ends.before, %starts.behind
  br i1 %is.apart, label %apart, label %no
apart:
  %block.next = add i64 %block.number, 1
  br label %block
known:
  %place = getelementptr inbounds i64, ptr %places.p, i64 %number
  %before = load i64, ptr %place, align 8
  %stayed = icmp eq i64 %elements, %before
  %free = icmp eq i64 %fixed, 0
  %allowed = or i1 %stayed, %free
  br i1 %allowed, label %accepted, label %no
accepted:
  store i64 %elements, ptr %place, align 8
  %following = add i64 %number, 1
  br label %next
all:
  ret i32 1
no:
  ret i32 0
}}
"""
