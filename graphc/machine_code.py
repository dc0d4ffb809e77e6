"""LLVM IR, assembly and PTX of a compiled function: of the whole, or of one of its kernels by number or name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from graphc.backends import target
from graphc.backends.artifact import closure, exports, lowered
from graphc.backends.cache import default_cache
from graphc.backends.entry.pieces import declare
from graphc.backends.entry.step import identity, write_call
from graphc.backends.primitives import Kernel
from graphc.backends.source import Source
from graphc.errors import ArgumentError
from graphc.ir.graph import user_origin
from graphc.ir.loops import LoopNest
from graphc.settings import is_whole, require, shown
from graphc.suggestions import did_you_mean

if TYPE_CHECKING:
    from graphc.function import Function

MOST_NAMES = 8  # in an error


def llvm(function: Function, kernel: int | str | None) -> str:
    """Optimised LLVM IR; raises ArgumentError for a kernel that is not there."""
    if function.device == "cuda":
        from graphc import launches

        return launches.llvm(function, kernel)
    return target.optimised_llvm(*modules(function, kernel), target.host())


def assembly(function: Function, kernel: int | str | None) -> str:
    """Machine code as text; raises as `llvm` does."""
    if function.device == "cuda":
        return ptx(function, None, kernel)
    return target.assembly(*modules(function, kernel), target.host())


def ptx(function: Function, architecture: str | None, kernel: int | str | None) -> str:
    from graphc import launches

    return launches.ptx(function, architecture, kernel)


def modules(function: Function, kernel: int | str | None) -> tuple[list[str], Sequence[str]]:
    """(LLVM IR texts, the functions in them that are wanted)."""
    artifact = function.artifact
    if kernel is None:
        return [artifact.entry, *map(module, artifact.kernels)], exports(artifact.program)
    calls = dict(calls_of(function, kernel))
    if not calls:
        helper = next(each for each in artifact.kernels if kernel in (each.name, each.plain_name))
        return [module(each) for each in closure([helper])], [helper.name]
    called = {source.kernel.name: source.kernel for source in calls.values()}
    entry = [declare(each) for each in called.values()]
    entry += [write_call(name, source, artifact.program.dims) for name, source in calls.items()]
    return ["\n".join(entry), *map(module, closure(called.values()))], list(calls)


def module(kernel: Kernel) -> str:
    return lowered(kernel, default_cache())


def calls_of(function: Function, kernel: int | str) -> Iterator[tuple[str, Source]]:
    """The calls of a kernel with the extents they are compiled for, each once; none of a text that others call."""
    artifact = function.artifact
    program = artifact.program
    require(is_whole(kernel) or isinstance(kernel, str), "kernel", kernel, "the number or the name of a kernel")
    sources = iter(artifact.sources)
    listed = [
        (number, each, next(sources)) for number, nest in enumerate(program.nests) for each in kernels_inside(nest)
    ]
    helpers = {name for each in artifact.kernels for name in (each.name, each.plain_name)}
    found = [each for each in listed if is_meant(kernel, *each)]
    if not found and kernel not in helpers:
        texts = helpers.union(source.kernel.name for source in artifact.sources)
        raise unknown(function.name, kernel, [nest.name for nest in program.nests], sorted(texts))
    known: set[tuple[Any, ...]] = set()
    for number, nest, source in found:
        if identity(source) not in known:
            known.add(identity(source))
            name = (
                f"kernel_{number}_{nest.name}"
                if nest is program.nests[number]
                else f"kernel_{number}_{len(known)}_{nest.name}"
            )
            yield name, source
            if source.finish is not None:
                yield f"{name}_finish", source.finish


def kernels_inside(nest: LoopNest) -> Iterator[LoopNest]:
    """The kernels of a nest: itself, or those of the program it repeats."""
    if nest.repetition is None:
        yield nest
    else:
        yield from nest.repetition.program.walk()


def is_meant(kernel: int | str, number: int, nest: LoopNest, source: Source) -> bool:
    return kernel == number if is_whole(kernel) else kernel in (nest.name, source.kernel.name)


def unknown(title: str, kernel: int | str, nests: list[str], texts: Sequence[str]) -> ArgumentError:
    """What there is instead of a kernel that is not there: nests by number and name, texts by name."""
    names = list(dict.fromkeys(nests))
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    advice = did_you_mean(kernel, [*names, *texts]) or [f"by name: {', '.join(names[:MOST_NAMES])}{more}"]
    text = f"{title} has no kernel {shown(kernel)}; its kernels are 0 to {len(nests) - 1}"
    return ArgumentError(text, user_origin(), advice)
