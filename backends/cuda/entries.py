"""The functions that are launched: each tells its kernels which memory and which sizes they work on.

One launch may do several pieces that do not touch what another one writes: the first blocks do the first piece. The
parameters are words of eight bytes: for each loop around that may end early, where the number of its steps lies, and
the step it is at; where the counts of checks lie that updates wait for; the memory of every piece; the sizes of all
dims; the number of blocks of every piece. In LLVM IR an entry is a kernel of the GPU or, for the emulation, a function
of the CPU that does one block after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from graphc.backends.cuda.threads import Piece, Shared, room
from graphc.backends.entry.pieces import extent_operand, llvm_type
from graphc.ir.frozen import dataclass
from graphc.ir.loops import Buffer
from graphc.ir.types import Dim

SHARED = "@shared = external addrspace(3) global [0 x i8], align 16\n"
_SPECIAL = "llvm.nvvm.read.ptx.sreg"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is launched: its name and the pieces it does.

    guarded  which of these do nothing where a check has failed
    checks   how many words are to be 0 for that: of the checks by then, and of a call before
    loops    around it that may end early
    """

    name: str
    pieces: tuple[Piece, ...]
    guarded: tuple[bool, ...]
    checks: int
    loops: int
    dims: tuple[Dim, ...]

    @property
    def shared_bytes(self) -> int:
        return max(piece.shared_bytes for piece in self.pieces)


def entry(
    pieces: tuple[Piece, ...], guarded: tuple[bool, ...], checks: int, loops: int, dims: tuple[Dim, ...]
) -> Entry:
    """Equal work has an equal name."""
    told = [repr([each for each in piece.arguments if not isinstance(each, Buffer)]) for piece in pieces]
    about = (guarded, checks, loops, pieces[0].threads, dims)
    text = "\n".join([*(piece.kernel.name for piece in pieces), *told, str(about)])
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    stem = pieces[0].kernel.name.rpartition("_")[0] or pieces[0].kernel.name
    more = f"_and_{len(pieces) - 1}" if len(pieces) > 1 else ""
    return Entry(f"{stem}{more}_{digest}", pieces, guarded, checks, loops, dims)


def buffers(piece: Piece) -> list[Buffer]:
    """The memory a piece is told of, in the order of its entry's words."""
    return [each for each in piece.arguments if isinstance(each, Buffer)]


def for_device(made: Entry) -> str:
    """LLVM IR of the entry as a kernel of the GPU."""
    names = word_names(made)
    read = only_read(made)
    kinds = ("i64" if kind == "i64" else f"ptr addrspace(1){NOT_WRITTEN * (name in read)}" for name, kind in names)
    head = ", ".join(f"{kind} %{name}" for kind, (name, _) in zip(kinds, names, strict=True))
    lines = [
        f"declare i32 @{_SPECIAL}.tid.x()",
        f"declare i32 @{_SPECIAL}.ctaid.x()",
        f"define ptx_kernel void @{made.name}({head}) nounwind {{",
        f"  %thread.word = call i32 @{_SPECIAL}.tid.x()",
        "  %thread = zext i32 %thread.word to i64",
        f"  %block.word = call i32 @{_SPECIAL}.ctaid.x()",
        "  %block = zext i32 %block.word to i64",
        "  %shared.all = addrspacecast ptr addrspace(3) @shared to ptr",
    ]
    for name, kind in names:
        if kind != "i64":
            lines.append(f"  %{name}.at = addrspacecast ptr addrspace(1) %{name} to ptr")
    return "\n".join([*lines, *guard(made), *dispatch(made, "%thread", ""), "  ret void", "}", ""])


NOT_WRITTEN = " noalias readonly"  # while the kernel runs: what is read may be kept nearer


def only_read(made: Entry) -> set[str]:
    """The pointers among an entry's words whose memory is read and not written; no other piece writes it either."""
    found: set[str] = set()
    for number, piece in enumerate(made.pieces):
        read = piece.only_read
        found.update(f"p{number}.{place}" for place, buffer in enumerate(buffers(piece)) if buffer in read)
    return found


def for_host(made: Entry) -> str:
    """LLVM IR of the entry as a function (words, shared memory, blocks) that does all blocks one by one."""
    lines = [f"define void @{made.name}(ptr %words, ptr %shared.all, i64 %all.blocks) nounwind {{", "entry:"]
    for number, (name, kind) in enumerate(word_names(made)):
        loaded = name if kind == "i64" else f"{name}.at"
        lines.append(f"  %word.{number} = getelementptr inbounds i64, ptr %words, i64 {number}")
        lines.append(f"  %{loaded} = load {kind}, ptr %word.{number}, align 8")
    lines += [
        *guard(made),
        "  br label %blocks.test",
        "blocks.test:",
        "  %block = phi i64 [ 0, %entry ], [ %block.next, %done ]",
        "  %block.more = icmp slt i64 %block, %all.blocks",
        "  br i1 %block.more, label %blocks.do, label %blocks.end",
        "blocks.do:",
        *dispatch(made, None, ".block"),
        "  %block.next = add nsw i64 %block, 1",
        "  br label %blocks.test",
        "blocks.end:",
        "  ret void",
        "}",
        "",
    ]
    return "\n".join(lines)


def word_names(made: Entry) -> list[tuple[str, str]]:
    """(name, LLVM type) of every word."""
    names = [each for number in range(made.loops) for each in ((f"trips.{number}", "ptr"), (f"turn.{number}", "i64"))]
    names += [(f"check.{number}", "ptr") for number in range(made.checks)]
    for number, piece in enumerate(made.pieces):
        names += [(f"p{number}.{place}", "ptr") for place, _ in enumerate(buffers(piece))]
    names += [(f"d{number}", "i64") for number, _ in enumerate(made.dims)]
    return names + [(f"blocks.{number}", "i64") for number, _ in enumerate(made.pieces)]


def guard(made: Entry) -> list[str]:
    """Whether a check has failed."""
    if not made.checks:
        return []
    lines, all_counts = [], "0"
    for number in range(made.checks):
        lines.append(f"  %count.{number} = load i64, ptr %check.{number}.at, align 8")
        lines.append(f"  %counts.{number} = or i64 {all_counts}, %count.{number}")
        all_counts = f"%counts.{number}"
    return [*lines, f"  %is.failed = icmp ne i64 {all_counts}, 0"]


def go_on(made: Entry) -> list[str]:
    """Past the end of a loop around nothing is done."""
    lines = []
    for number in range(made.loops):
        lines += [
            f"  %steps.{number} = load i64, ptr %trips.{number}.at, align 8",
            f"  %is.over.{number} = icmp sge i64 %turn.{number}, %steps.{number}",
            f"  br i1 %is.over.{number}, label %done, label %goes.{number}",
            f"goes.{number}:",
        ]
    return lines


def dispatch(made: Entry, thread: str | None, suffix: str) -> list[str]:
    """Each block does its piece."""
    lines = go_on(made)
    block = "%block"
    for number, piece in enumerate(made.pieces):
        is_last = number + 1 == len(made.pieces)
        if not is_last:
            lines += [
                f"  %is.{number} = icmp slt i64 {block}, %blocks.{number}",
                f"  br i1 %is.{number}, label %do.{number}, label %not.{number}",
                f"do.{number}:",
            ]
        if made.guarded[number]:
            lines += [f"  br i1 %is.failed, label %done, label %pass.{number}", f"pass.{number}:"]
        lines += call(made, number, piece, block, thread, suffix)
        lines.append("  br label %done")
        if not is_last:
            lines += [f"not.{number}:", f"  %block.{number} = sub nsw i64 {block}, %blocks.{number}"]
            block = f"%block.{number}"
    return [*lines, "done:"]


def call(made: Entry, number: int, piece: Piece, block: str, thread: str | None, suffix: str) -> list[str]:
    lines: list[str] = []
    arguments: list[str] = []
    place = offset = 0
    told = {"thread": thread, "block": block, "blocks": f"%blocks.{number}"}
    for (parameter, kind), argument in zip(piece.kernel.parameters, piece.arguments, strict=True):
        if isinstance(argument, Buffer):
            arguments.append(f"ptr %p{number}.{place}.at")
            place += 1
        elif isinstance(argument, Shared):
            lines.append(f"  %s{number}.{offset} = getelementptr inbounds i8, ptr %shared.all, i64 {offset}")
            arguments.append(f"ptr %s{number}.{offset}")
            offset += room(argument)
        elif isinstance(argument, str):
            if told[argument] is not None:
                arguments.append(f"i64 {told[argument]}")
        else:
            value = extent_operand(argument, f"e{number}.{parameter}", made.dims, lines)
            arguments.append(f"{llvm_type(kind)} {value}")
    return [*lines, f"  call void @{piece.kernel.name}{suffix}({', '.join(arguments)})"]


def declarations(made: Entry, suffix: str, with_thread: bool) -> Sequence[str]:
    """Of the kernels an entry calls."""
    found = []
    for piece in made.pieces:
        pairs = zip(piece.kernel.parameters, piece.arguments, strict=True)
        kinds = [llvm_type(kind) for (_, kind), each in pairs if with_thread or each != "thread"]
        found.append(f"declare void @{piece.kernel.name}{suffix}({', '.join(kinds)})\n")
    return found
