"""The two functions of an artifact, as LLVM IR that calls the kernels: `step` for one batch and `epoch` for many.

    i32 step(call, thread, threads)
    i32 epoch(call, thread, threads)

`call` points to words of eight bytes, which are addresses and numbers (an argument each would take a caller from Python
longer than a small step takes):

    step   states, work, inputs, sizes, scalars, results
    epoch  states, work, data, kinds, order, ordering, seed, number, samples, batch, first, last, scalars, totals, fresh

`states`, `inputs`, `results` and `data` point to arrays of pointers in the order of the graph, `sizes` to one i64 a
dim, `scalars` to eight bytes a scalar input. 0 is success, k says that check k - 1 failed before anything was updated;
`epoch` adds CHECKS times the number of the step that failed. `epoch` runs the steps first <= s < last: it gathers the
rows order[s * batch ...] of `data` into the arena, the last batch as small as it is, and adds every result times the
batch's size to `totals` (f64), from 0 if they are `fresh`. `ordering` says where the order comes from; rows in order
are read where they lie, and bytes may be gathered by what reads them first: see gathering.py.

`threads` threads call the same function with the same arguments and their own numbers `thread` from 0 on. They share
the arena `work`, at whose end each has a private part and where they meet: see barrier.py, also for `attend` and
`lead`, by which a host tells threads of calls. A host in Python asks `fits` about a call's arrays: see arrays.py.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from graphc.backends.entry.arrays import FITS
from graphc.backends.entry.barrier import ATTEND, LEAD, MEET, SHARE
from graphc.backends.entry.epoch import epoch_kernels, write_epoch
from graphc.backends.entry.gathering import GATHER, gathering
from graphc.backends.entry.pieces import declare, epoch_layout, meeting_place
from graphc.backends.entry.step import StepWriter, call_names, write_call
from graphc.backends.entry.timed import CLOCKS, TimedWriter
from graphc.backends.interface import CHECKS, epoch_dim
from graphc.backends.primitives import Kernel
from graphc.backends.source import Source
from graphc.ir.graph import IRError
from graphc.ir.program import Program


def write_entry(
    program: Program,
    sources: tuple[Source, ...],
    meeting: int | None = None,
    bytes_too: bool = True,
    timed: bool = False,
) -> tuple[str, tuple[Kernel, ...]]:
    """The IR of `step` and, where the inputs allow one, `epoch`, with the kernels they need on top of the sources.

    meeting    where in the arena threads meet, if not right behind what the program works in
    bytes_too  `epoch` may be given arrays of bytes for float inputs
    timed      no `epoch`, and a `step` that notes how long its kernels take: see timed.py
    """
    place = meeting_place(program) if meeting is None else meeting
    if len(program.checks) >= CHECKS:
        raise IRError(f"{program.graph.name} has {len(program.checks)} checks, at most {CHECKS - 1} can be told apart")
    dims = program.dims
    names = call_names(sources)
    calls = {id(nest): each for nest, each in zip(program.walk(), zip(names, sources, strict=True), strict=True)}
    has_epoch = epoch_dim(program.graph) is not None and not timed
    gathers = gathering(program, sources) if bytes_too and has_epoch else {}
    writer = (TimedWriter if timed else StepWriter)(program, calls, place, gathers)
    step, helpers = writer.write(), writer.moves
    if has_epoch:
        helpers |= {kernel.name: kernel for kernel in epoch_kernels(program, gathers, bytes_too)}
    called = with_others(zip(names, sources, strict=True), {calls[nest][0] for nest in gathers})
    helpers |= {source.kernel.name: source.kernel for name, source in called.items() if name.endswith(GATHER)}
    kernels = {source.kernel.name: source.kernel for source in called.values()} | helpers
    parts = [declare(kernel) for kernel in kernels.values()]
    parts += [write_call(name, source, dims) for name, source in called.items()]
    parts += [step, FITS, "declare i64 @llvm.smin.i64(i64, i64)\ndeclare i64 @llvm.smax.i64(i64, i64)\n"]
    if timed:
        parts.append(CLOCKS)
    if program.is_shared_out:
        parts += [MEET, SHARE, ATTEND, LEAD]
    if has_epoch:
        parts.append(write_epoch(program, place, gathers, bytes_too))
    return "\n".join(parts), tuple(helpers.values())


def with_others(named: Iterable[tuple[str, Source]], gathers: Container[str]) -> dict[str, Source]:
    """The sources by name, what finishes each as `name_finish`, and those of them that gather as `name_gather`."""
    found = {}
    for name, source in named:
        found[name] = source
        if source.finish is not None:
            found[f"{name}_finish"] = source.finish
        if source.gather is not None and name in gathers:
            found[f"{name}{GATHER}"] = source.gather
    return found
