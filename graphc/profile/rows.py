"""The rows of a profile: what was measured, beside what each kernel is and costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from graphc import ceilings
from graphc.certificate import certificate_of
from graphc.ir.cost import Cost, brought, formula_of_nest, of_all_steps
from graphc.ir.dot.cards import describe
from graphc.ir.dot.style import user_lines
from graphc.ir.graph import Origin
from graphc.ir.loops import LoopNest, Repetition
from graphc.ir.program import Program
from graphc.prediction import Predictor
from graphc.profile.record import OTHER, Row, Seconds

if TYPE_CHECKING:
    from graphc.backends.cuda.account import Errand
    from graphc.backends.timing import Array, Timings
    from graphc.function import Function
    from graphc.ir.types import Dim

Sizes = Mapping["Dim", int]
Path = tuple[int, ...]


def rows_of(function: Function, sizes: Sizes, found: Timings) -> tuple[Row, ...]:
    """A row for all that has a time, in the same order."""
    made = kernel_rows if function.device == "cpu" else launch_rows
    rows = list(made(function, sizes, found))
    whole = sum(row.seconds.median for row in rows) or 1.0
    return tuple(replace(row, share=row.seconds.median / whole) for row in rows)


def known(origins: Iterable[object]) -> list[Origin]:
    return [origin for origin in origins if isinstance(origin, Origin)]


def modules_of(origins: Iterable[Origin]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(origin.module for origin in origins if origin.module))


def part_of(program: Program, path: Path) -> str:
    """That of a kernel or of the loop it is in; a loop over slices of a batch has all parts inside."""
    number, *inside = path
    loop = program.apart[number].repetition
    if loop is not None and loop.rows is not None and inside:
        return part_of(loop.program, tuple(inside))
    return describe(program, number, program.apart[number]).part


# -- kernels of the CPU


def kernel_rows(function: Function, sizes: Sizes, found: Timings) -> Iterator[Row]:
    program, predictor = function.artifact.program, predictor_for(function, sizes, found.threads)
    for path, taken in found.kernels.items():
        assert not isinstance(path, str), "on a CPU all that is timed is a kernel"
        loops, nest = at(program, path)
        origins = known(nest.origins)
        cost = cost_in(loops, nest, sizes)
        yield Row(
            path=path,
            name=nest.name if nest.repetition is None else "states of a loop",
            over=f"[{', '.join(map(str, nest.frame))}]",
            part=part_of(program, path),
            modules=modules_of(origins),
            lines=tuple(user_lines(origins)),
            calls=found.calls[path],
            seconds=Seconds.of(taken),
            share=0.0,
            bytes=cost.moved,
            operations=cost.operations,
            predicted=predicted(predictor, loops, nest),
            kernels={path[0]: 1.0},
        )


def at(program: Program, path: Path) -> tuple[tuple[Repetition, ...], LoopNest]:
    """(the loops around a nest, outermost first, the nest)."""
    *outer, last = path
    loops = []
    for number in outer:
        loop = program.apart[number].repetition
        assert loop is not None, "only loops have nests inside"
        loops.append(loop)
        program = loop.program
    return tuple(loops), program.apart[last]


def cost_in(loops: Sequence[Repetition], nest: LoopNest, sizes: Sizes) -> Cost:
    """Of all runs in one call; of a loop by itself, of bringing its states."""
    formula = formula_of_nest(nest) if nest.repetition is None else brought(nest.repetition)
    for loop in reversed(loops):
        formula = of_all_steps(loop, formula)
    return formula.at(sizes)


def predictor_for(function: Function, sizes: Sizes, threads: int) -> Predictor:
    """That of the step's certificate, for so many threads."""
    return replace(certificate_of(function).predictor(sizes, ceilings.ceilings()), threads=threads)


def predicted(predictor: Predictor, loops: Sequence[Repetition], nest: LoopNest) -> float | None:
    """Seconds of all runs in one call; of bringing a loop's states nothing is predicted."""
    if nest.repetition is not None:
        return None
    rounds = 1.0
    for loop in loops:
        predictor, times = predictor.inside(loop)
        rounds *= times
    return rounds * predictor.nest(nest)


# -- launches of a GPU


def launch_rows(function: Function, sizes: Sizes, found: Timings) -> Iterator[Row]:
    """A launch may do several kernels, and a kernel take several launches; what is no launch has a row of its own."""
    from graphc.backends.cuda.account import errands_of
    from graphc.cuda import parts_of

    artifact, _ = parts_of(function)
    program = artifact.program
    listed = errands_of(program, artifact.library, artifact.precision)
    for path, taken in found.kernels.items():
        if isinstance(path, str):
            yield other_row(path, found.calls[path], taken)
        else:
            yield launch_row(program, listed[path[0]], path, sizes, found.calls[path], taken)


def launch_row(program: Program, errand: Errand, path: Path, sizes: Sizes, calls: int, taken: Array) -> Row:
    from graphc.backends.cuda.device import Launch

    launch, formula = errand.launch, errand.formula
    for loop in errand.loops:
        formula = formula.times(loop.value.attrs["length"])
    kernels = kernels_in(program, errand)
    cost, origins = formula.at(sizes), known(origin for nest in errand.nests for origin in nest.origins)
    return Row(
        path=path,
        name=launch.kernel if isinstance(launch, Launch) else "a product by cuBLASLt",
        over=f"{errand.blocks:,} blocks of {launch.threads:,}" if isinstance(launch, Launch) else "",
        part=part_of(program, (next(iter(kernels)),)),
        modules=modules_of(origins),
        lines=tuple(user_lines(origins)),
        calls=calls,
        seconds=Seconds.of(taken),
        share=0.0,
        bytes=cost.moved,
        operations=cost.operations,
        kernels=kernels,
    )


def kernels_in(program: Program, errand: Errand) -> dict[int, float]:
    """The numbers of the kernels that a launch works at, and how its time is shared out among them: by what each
    costs at the dims' maxima, operations and bytes."""
    own = {id(nest): number for number, nest in enumerate(program.apart)}
    loops = {id(nest.repetition): number for number, nest in enumerate(program.apart)}
    weights: dict[int, float] = {}
    for nest in {id(nest): nest for nest in errand.nests}.values():
        number = loops[id(errand.loops[0])] if errand.loops else own[id(nest)]
        most = formula_of_nest(nest).most
        weights[number] = weights.get(number, 0.0) + 1 + most.operations + most.moved
    return {number: weight / sum(weights.values()) for number, weight in weights.items()}


def other_row(name: str, calls: int, taken: Array) -> Row:
    return Row((), name, "", OTHER, (), (), calls, Seconds.of(taken), 0.0, 0, 0)
