"""How native code tells whether it can read the NumPy arrays of a call as they are, as LLVM IR.

`fits` looks at the array objects themselves, whose layout is part of NumPy's binary interface: `exact.py` makes sure of
it before anything is looked at this way. What it finds it leaves for `step`: the addresses of elements and the rows;
unless places are fixed, then the addresses must be those that are there.
"""

from __future__ import annotations

from graphc.backends.interface import ARRAY_WORDS, DTYPE, EXTENTS, FLAGS, KIND, RANK


def _field(name: str, offset: int, kind: str) -> str:
    return f"""  %{name}.at = getelementptr inbounds i8, ptr %array, i64 {offset}
  %{name} = load {kind}, ptr %{name}.at, align 4"""


_TOLD = "\n".join(
    f"""  %word.{number} = getelementptr inbounds i64, ptr %call, i64 {number}
  %{name} = load i64, ptr %word.{number}, align 8"""
    for number, name in enumerate(ARRAY_WORDS)
)
_POINTERS = "\n".join(f"  %{name}.p = inttoptr i64 %{name} to ptr" for name in ("objects", "places", "sizes"))

# An input is told of by its dtype, its rank and the extents of its axes but the first, whose rows are `least` to
# `most` and the same for all.
FITS = f"""
define i32 @fits(ptr %call) nounwind "no-builtins" {{
entry:
{_TOLD}
{_POINTERS}
  %inputs = getelementptr inbounds i64, ptr %call, i64 {len(ARRAY_WORDS)}
  br label %next
next:
  %number = phi i64 [ 0, %entry ], [ %following, %accepted ]
  %input = phi ptr [ %inputs, %entry ], [ %another, %accepted ]
  %rows = phi i64 [ 0, %entry ], [ %length, %accepted ]
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
  %rank.wide = sext i32 %rank to i64
  %flags.wide = zext i32 %flags to i64
  %flags.held = and i64 %flags.wide, %flags.wanted
  %same.dtype = icmp eq i64 %dtype, %dtype.wanted
  %same.rank = icmp eq i64 %rank.wide, %rank.wanted
  %has.flags = icmp eq i64 %flags.held, %flags.wanted
  %two = and i1 %same.dtype, %same.rank
  %three = and i1 %two, %has.flags
  br i1 %three, label %count.rows, label %no
count.rows:
  %length = load i64, ptr %extents, align 8
  %is.first = icmp eq i64 %number, 0
  %wanted.rows = select i1 %is.first, i64 %length, i64 %rows
  %alike = icmp eq i64 %length, %wanted.rows
  %some = icmp sge i64 %length, %least
  %few = icmp sle i64 %length, %most
  %bounded = and i1 %some, %few
  %counted = and i1 %alike, %bounded
  br i1 %counted, label %axes, label %no
axes:
  %axis = phi i64 [ 1, %count.rows ], [ %axis.next, %same ]
  %axes.left = icmp slt i64 %axis, %rank.wanted
  %axis.next = add i64 %axis, 1
  br i1 %axes.left, label %compare, label %placed
compare:
  %extent.at = getelementptr inbounds i64, ptr %extents, i64 %axis
  %extent = load i64, ptr %extent.at, align 8
  %wanted.at = getelementptr inbounds i64, ptr %input, i64 %axis.next
  %wanted = load i64, ptr %wanted.at, align 8
  %is.same = icmp eq i64 %extent, %wanted
  br i1 %is.same, label %same, label %no
same:
  br label %axes
placed:
  %elements = load i64, ptr %array, align 8
  %place = getelementptr inbounds i64, ptr %places.p, i64 %number
  %before = load i64, ptr %place, align 8
  %stayed = icmp eq i64 %elements, %before
  %free = icmp eq i64 %fixed, 0
  %allowed = or i1 %stayed, %free
  br i1 %allowed, label %accepted, label %no
accepted:
  store i64 %elements, ptr %place, align 8
  %told = add i64 %rank.wanted, 1
  %another = getelementptr inbounds i64, ptr %input, i64 %told
  %following = add i64 %number, 1
  br label %next
all:
  store i64 %rows, ptr %sizes.p, align 8
  ret i32 1
no:
  ret i32 0
}}
"""
