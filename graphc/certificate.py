"""What a step needs, known before it runs: `step.certificate`.

Bytes, operations and elementary functions are formulas of the step's dims; what counts as one is said in ir/cost.py.
Seconds are predicted from what this machine was measured to do at most, which happens when they are first asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from graphc import ceilings
from graphc.errors import ArgumentError, DeviceError
from graphc.ir.cost import Cost, Formula, formula_of_nest, together, total
from graphc.ir.dot.style import user_lines
from graphc.ir.frozen import dataclass
from graphc.ir.graph import user_origin
from graphc.ir.loops import LoopNest
from graphc.ir.partition import WORTHWHILE, work_of
from graphc.ir.program import Program
from graphc.ir.types import Dim, Extent, monomials
from graphc.prediction import Predictor
from graphc.settings import check_whole, require

if TYPE_CHECKING:
    from graphc.function import Function

NEVER = 0  # allocations of native code, and compiles for other sizes: the plan holds for all of them
HEAD = ("#", "kernel", "operations", "bytes read", "bytes written", "shared out", "lines of yours")
HEAD_AT = ("#", "kernel", "operations", "bytes read", "bytes written", "op/byte", "µs", "bound by")


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of a step; of a step on a GPU, one launch.

    number   its place among the step's kernels, as in pictures
    formula  what one call of the step costs here
    shared   how threads share it, or why they do not
    lines    of the user's, that it comes from
    nest     the loops that it does; None of a launch
    """

    number: int
    name: str
    formula: Formula
    shared: str
    lines: tuple[str, ...]
    nest: LoopNest | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """What one call of a step needs.

    signature    the step with its inputs
    device       "cpu" or "cuda"
    dims         its symbolic extents, each with its bound
    state_bytes  of the memory of all parameters, buffers and optimizer slots
    arena_bytes  of all other memory that it works in, with its `threads`; inputs and results are the caller's
    input_bytes  of a call's arrays at the bounds
    kernels      in the order they run
    ways         how many threads may take part in a call: the most, and 1 where that is tried too
    reason       why so many
    allocations  of memory while native code runs
    recompiles   for sizes of the dims up to their bounds
    """

    signature: str
    device: str
    dims: tuple[Dim, ...]
    state_bytes: int
    arena_bytes: int
    input_bytes: int
    kernels: tuple[Kernel, ...]
    ways: tuple[int, ...]
    reason: str
    program: Program
    allocations: int = NEVER
    recompiles: int = NEVER

    @property
    def threads(self) -> int:
        """The most that take part in a call; 0 of a step on a GPU."""
        return max(self.ways, default=0)

    @property
    def formula(self) -> Formula:
        """The cost of a call, as polynomials of the dims."""
        return together(kernel.formula for kernel in self.kernels)

    def at(self, /, **sizes: int) -> Figures:
        """Everything as numbers, for sizes of dims by name: `certificate.at(batch=100)`; others are at their bounds.

        Raises ArgumentError for a name that is no dim's, or a size out of its range.
        """
        return Figures(self, tuple(self.sizes(sizes).items()))

    def predicted_seconds(self, kernel: int | None = None, /, **sizes: int) -> float:
        """Seconds of one kernel, by its number, or of a call with all of them; the sizes are those of `at`.

        Measures what this machine can do at most if that was not done yet, which takes about a second, once.
        Raises ArgumentError as `at`, DeviceError for a step on a GPU.
        """
        known = self.sizes(sizes)
        if self.device != "cpu":
            advice = ["python -m graphc.cuda_check measures one, where there is one"]
            raise DeviceError("no GPU was measured here, so no time can be predicted for one", user_origin(), advice)
        predictor = self.predictor(known, ceilings.ceilings())
        if kernel is None:
            return predictor.program(self.program) + predictor.ceilings.call
        text = f"the number of a kernel, 0 to {len(self.kernels) - 1}"
        require(kernel in range(len(self.kernels)), "kernel", kernel, text)
        return predictor.nest(self.program.apart[kernel])

    def predictor(self, sizes: Mapping[Dim, int], limits: ceilings.Ceilings) -> Predictor:
        """For the number of threads that is quicker."""
        memory = self.state_bytes + self.arena_bytes + self.input_bytes
        footprint = min(memory, self.formula.at(sizes).moved)
        tried = (Predictor(limits, sizes, footprint, threads) for threads in self.ways)
        return min(tried, key=lambda each: each.program(self.program))

    def sizes(self, given: Mapping[str, int]) -> dict[Dim, int]:
        """The size of every dim."""
        known = {dim.name: dim for dim in self.dims}
        for name, size in given.items():
            if name not in known:
                from graphc.suggestions import did_you_mean

                text = f"the step has no dim {name!r}; its dims are: {', '.join(known) or 'none'}"
                raise ArgumentError(text, user_origin(), did_you_mean(name, known))
            require(check_whole(name, size, 1) <= known[name].max, name, size, f"at most {known[name].max}")
        return {dim: int(given.get(name, dim.max)) for name, dim in known.items()}

    # -- as text

    def __str__(self) -> str:
        return "\n".join((*self.facts(), "", *aligned((HEAD, *self.rows())), "", str(self.at())))

    __repr__ = __str__

    def facts(self) -> Iterator[str]:
        """What holds for every size."""
        bounds = "".join(f", {dim.name} ≤ {dim.max:,}" for dim in self.dims)
        yield f"{self.signature}{bounds}"
        formula = self.formula
        yield f"state {self.state_bytes:,} bytes, arena {self.arena_bytes:,} bytes"
        yield f"threads {self.threads}: {self.reason}" if self.device == "cpu" else self.reason
        yield f"allocations while it runs {self.allocations}, recompiles for other sizes {self.recompiles}"
        yield f"operations     {shown(formula.operations)}"
        yield f"  of products  {shown(formula.products)}"
        for name, count in formula.functions:
            yield f"  {name:<11}  {shown(count)} times"
        yield f"bytes read     {shown(formula.read)}"
        yield f"bytes written  {shown(formula.written)}"

    def rows(self) -> Iterator[tuple[str, ...]]:
        for kernel in self.kernels:
            formula = kernel.formula
            costs = map(shown, (formula.operations, formula.read, formula.written))
            yield str(kernel.number), kernel.name, *costs, kernel.shared, places(kernel.lines)

    def _repr_html_(self) -> str:
        facts = "\n".join(escape(line) for line in self.facts())
        tables = "".join(map(table_html, ((HEAD, *self.rows()), self.at().table())))
        return f"<pre>{facts}</pre>{tables}<pre>{escape(self.at().summary())}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """Everything that is exact, for `json`: formulas as texts, and as numbers at the dims' bounds."""
        return {
            "step": self.signature,
            "device": self.device,
            "dims": {dim.name: dim.max for dim in self.dims},
            "state_bytes": self.state_bytes,
            "arena_bytes": self.arena_bytes,
            "threads": self.threads,
            "reason": self.reason,
            "allocations": self.allocations,
            "recompiles": self.recompiles,
            **formula_dict(self.formula),
            "kernels": [
                {
                    "number": kernel.number,
                    "name": kernel.name,
                    "shared": kernel.shared,
                    "lines": list(kernel.lines),
                    **formula_dict(kernel.formula),
                }
                for kernel in self.kernels
            ],
        }

    def json(self) -> str:
        """`to_dict()` as text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=1)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one call needs for given sizes."""

    certificate: Certificate
    sizes: tuple[tuple[Dim, int], ...]

    @property
    def kernels(self) -> tuple[Cost, ...]:
        """Of every kernel, in order."""
        return tuple(kernel.formula.at(dict(self.sizes)) for kernel in self.certificate.kernels)

    @property
    def cost(self) -> Cost:
        """Of all kernels together."""
        return total(self.kernels)

    @property
    def seconds(self) -> float:
        """Predicted, of a call; see `Certificate.predicted_seconds`."""
        return self.certificate.predicted_seconds(**self.named)

    @property
    def named(self) -> dict[str, int]:
        return {dim.name: size for dim, size in self.sizes}

    def __str__(self) -> str:
        return "\n".join((*aligned(self.table()), self.summary()))

    __repr__ = __str__

    def table(self) -> list[tuple[str, ...]]:
        """A row for each kernel; seconds only where the machine was measured before."""
        own, predictor = self.certificate, self.predictor()
        rows: list[tuple[str, ...]] = [HEAD_AT]
        for kernel, cost in zip(own.kernels, self.kernels, strict=True):
            time = ("", "")
            if predictor is not None and kernel.nest is not None:
                time = f"{1e6 * predictor.nest(kernel.nest):,.2f}", predictor.bound_by(kernel.nest)
            costs = (f"{each:,}" for each in (cost.operations, cost.read, cost.written))
            rows.append((str(kernel.number), kernel.name, *costs, f"{cost.intensity:.2f}", *time))
        return rows

    def predictor(self) -> Predictor | None:
        """None where no machine was measured."""
        limits = ceilings.known() if self.certificate.device == "cpu" else None
        return None if limits is None else self.certificate.predictor(dict(self.sizes), limits)

    def summary(self) -> str:
        """One line on all of it, and one on the time."""
        cost = self.cost
        at = ", ".join(f"{name} = {size}" for name, size in self.named.items())
        text = f"{f'at {at}: ' if at else ''}{cost.operations:,} operations, {cost.moved:,} bytes moved, "
        return f"{text}{cost.intensity:.2f} operations a byte\n{self.time()}"

    def time(self) -> str:
        own, predictor = self.certificate, self.predictor()
        if own.device != "cpu":
            return "no GPU was measured here, so no time is predicted"
        if predictor is None:
            return "no time is predicted yet: certificate.predicted_seconds() measures this machine, once"
        limits, threads = predictor.ceilings, predictor.threads
        seconds = predictor.program(own.program) + limits.call
        return (
            f"predicted {1e6 * seconds:,.1f} µs a call by {threads} thread{'s' * (threads > 1)} of {limits.processor}: "
            f"products {limits.products / 1e9:.0f} GF/s, arithmetic {limits.arithmetic / 1e9:.0f} G/s, copies "
            f"{max(limits.copies[1].values()) / 1e9:.0f} to {min(limits.copies[1].values()) / 1e9:.0f} GB/s a thread"
        )


# -- from a compiled function


def with_times(function: Function) -> str:
    """The certificate as text, with predicted times, for which the machine is measured now if it was not before."""
    if function.device == "cpu":
        ceilings.ceilings()
    return f"{certificate_of(function)}\n"


def certificate_of(function: Function) -> Certificate:
    """The certificate of a compiled function."""
    inputs = ", ".join(f"{value.attrs['name']}: {value.type}" for value in function.inputs)
    arena, program = function.artifact.description.arena, function.artifact.program
    on_cpu = function.device == "cpu"
    return Certificate(
        signature=f"{function.name}({inputs})",
        device=function.device,
        dims=program.graph.dims,
        state_bytes=function.traced.state_bytes,
        arena_bytes=arena.size(function.threads) if on_cpu else arena.shared,
        input_bytes=sum(value.type.max_bytes for value in function.inputs),
        kernels=tuple(kernels_of(program) if on_cpu else launches_of(function)),
        ways=ways_of(function) if on_cpu else (),
        reason=reason_of(function) if on_cpu else "the GPU shares every launch out to its multiprocessors",
        program=program,
    )


def kernels_of(program: Program) -> Iterator[Kernel]:
    for number, nest in enumerate(program.apart):
        lines = tuple(user_lines(nest.origins))
        yield Kernel(number, nest.name, formula_of_nest(nest), sharing(nest), lines, nest)


def launches_of(function: Function) -> Iterator[Kernel]:
    """Each launch as often as it is done."""
    from graphc.backends.cuda.account import errands
    from graphc.backends.cuda.device import Launch
    from graphc.launches import choices_of, graph_of

    for number, errand in enumerate(errands(graph_of(function), *choices_of(function))):
        lines = user_lines(origin for nest in errand.nests for origin in nest.origins)
        name, shared = "a product by cuBLASLt", "by the library"
        if isinstance(errand.launch, Launch):
            name, shared = errand.launch.kernel, f"{errand.blocks:,} blocks of {errand.launch.threads:,}"
        formula = errand.formula
        for loop in errand.loops:
            formula = formula.times(loop.value.attrs["length"])
        yield Kernel(number, name, formula, shared, tuple(lines))


def sharing(nest: LoopNest) -> str:
    """How threads share a kernel, or why one does all of it."""
    if nest.repetition is not None:
        inside = list(nest.repetition.program.walk())
        parts = sum(each.partition is not None for each in inside)
        return f"{parts} of its {len(inside)} kernels, in every round"
    if nest.partition is not None:
        along = f"along {nest.frame[nest.partition.axis]}"
        return f"{along} in {nest.partition.parts} parts" if nest.partition.parts else along
    if nest.sweep is not None:
        return "no: one place after another"
    return "no: too little to do" if work_of(nest) < WORTHWHILE else "no: its sums go across every cut"


def ways_of(function: Function) -> tuple[int, ...]:
    return (function.threads,) if function.runner.paces is None else (function.threads, 1)


def reason_of(function: Function) -> str:
    """Why a call on the CPU uses so many threads."""
    runner, nests = function.runner, list(function.artifact.program.walk())
    parts = sum(nest.partition is not None for nest in nests)
    if not runner.arena.for_many:
        return "no kernel has enough to do for two"
    shared = f"{parts} of {len(nests)} kernels are shared out"
    if function.threads == 1:
        return f"{shared}, but there is one processor for this process, or step.threads or GRAPHC_THREADS says so"
    if runner.paces is None:
        return f"{shared}; step.threads says how many take part"
    tried = [
        f"{batch:,}: {pace.ways[pace.quicker]}" for (kind, batch), pace in [*runner.paces.items()] if kind == "step"
    ]
    found = f"; so far, threads by first dim: {', '.join(tried)}" if tried else ""
    return f"{shared}; each size of the first dim is tried with {function.threads} and with 1, for the quicker{found}"


# -- as text


def shown(extent: Extent) -> str:
    """A polynomial as `401,408·batch + 2,560`, the highest powers first."""
    terms = sorted(monomials(extent).items(), key=lambda item: (-len(item[0]), item[0]))
    text = ""
    for dims, factor in terms:
        if not factor and len(terms) > 1:
            continue
        sign = (" - " if factor < 0 else " + ") if text else ("-" if factor < 0 else "")
        names = [name if power == 1 else f"{name}{superscript(power)}" for name, power in powers(dims).items()]
        number = [] if abs(factor) == 1 and names else [f"{abs(factor):,}"]
        text += sign + "·".join([*number, *names])
    return text or "0"


def powers(dims: Sequence[Dim]) -> dict[str, int]:
    found: dict[str, int] = {}
    for dim in dims:
        found[dim.name] = found.get(dim.name, 0) + 1
    return found


def superscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def places(lines: Sequence[str]) -> str:
    """Where the first of some lines is, and how many more there are."""
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"{lines[0].partition('  ')[0]}{more}" if lines else ""


def aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The rows of a table as lines: the first column and all with numbers to the right."""
    rows = list(rows)
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(not cell or cell[0].isdigit() or cell[0] == "-" for cell in column[1:]) for column in columns]
    for row in rows:
        cells = (cell.rjust(width) if to else cell.ljust(width) for cell, width, to in zip(row, widths, right))
        yield "  ".join(cells).rstrip()


def table_html(rows: Sequence[Sequence[str]] | tuple[Any, ...]) -> str:
    head, *body = rows
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in body]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def formula_dict(formula: Formula) -> dict[str, Any]:
    most = formula.most
    return {
        "operations": shown(formula.operations),
        "products": shown(formula.products),
        "functions": {name: shown(count) for name, count in formula.functions},
        "read": shown(formula.read),
        "written": shown(formula.written),
        "at_most": {
            "operations": most.operations,
            "products": most.products,
            "functions": dict(most.functions),
            "read": most.read,
            "written": most.written,
            "intensity": most.intensity,
        },
    }
