"""Looking at a step as a GPU does it: launches, kernel texts, LLVM IR, PTX. No GPU is needed for that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphc.backends.artifact import passed
from graphc.backends.cuda.account import Errand, errands, errands_of
from graphc.backends.cuda.assembler import Resources, assembled
from graphc.backends.cuda.device import Launch, Multiply
from graphc.backends.cuda.driver import TARGETS
from graphc.backends.cuda.outside import chosen
from graphc.backends.cuda.ptx import ARCHITECTURES, compile_modules, modules, optimised
from graphc.backends.cuda.threads import NotCovered, Piece, Shared
from graphc.backends.target import BuildError
from graphc.cuda import not_covered, parts_of
from graphc.errors import InternalError
from graphc.ir.dot.style import user_lines
from graphc.ir.graph import Graph
from graphc.ir.loops import Buffer, LoopNest, Repetition, print_buffer
from graphc.ir.program import Program
from graphc.settings import require

if TYPE_CHECKING:
    from graphc.backends.cuda.plan import Drawing
    from graphc.function import Function

USUAL = ARCHITECTURES[-1]  # where no GPU says which
COSTS = ("read", "written", "operations")
HEAD = ("launch", "kernel", "blocks", "threads", "shared", *COSTS, "registers", "local", "full")


def graph_of(function: Function) -> Graph:
    """The finished graph."""
    return parts_of(function)[0].graph if function.device == "cuda" else passed(function.traced)


def library_of(function: Function) -> Collection[str]:
    """The products that are for a library, by their names."""
    return parts_of(function)[0].library if function.device == "cuda" else ()


def drawing_of(function: Function) -> Drawing:
    from graphc.backends.cuda.plan import draw

    if function.device == "cuda":
        return parts_of(function)[0].drawing
    return draw(graph_of(function))


def ptx(function: Function, architecture: str | None) -> str:
    """The PTX of all kernels. Raises ArgumentError for what is no architecture, DeviceError for what GPUs cannot do."""
    chosen = check_architecture(function, architecture)
    if function.device == "cuda" and chosen == parts_of(function)[0].architecture:
        return parts_of(function)[0].ptx
    return made(function, chosen, compile_modules)


def llvm(function: Function) -> str:
    """The optimised LLVM IR that PTX is made of."""
    return made(function, check_architecture(function, None), optimised)


def made(function: Function, architecture: str, way: Callable[[Sequence[str], Sequence[str], str], Any]) -> str:
    """What a way to compile makes of the kernels, as text."""
    try:
        drawing = drawing_of(function)
        return str(way(modules(drawing), [each.name for each in drawing.entries], architecture))
    except NotCovered as error:
        raise not_covered(function.name, error, function.origin) from None
    except BuildError as error:
        raise InternalError(f"compiling {function.name} for {architecture} failed: {error}", function.origin) from None


def check_architecture(function: Function, architecture: str | None) -> str:
    if architecture is None:
        return parts_of(function)[0].architecture if function.device == "cuda" else USUAL
    known = [f"sm_{target}" for target in TARGETS]
    text = f"one of {', '.join(map(repr, known))}; newer GPUs run kernels for the last one"
    require(architecture in known, "architecture", architecture, text)
    return architecture


# -- kernel source


def source(function: Function) -> str:
    """Every kernel text once, then the launches in order, each under the user's lines it comes from."""
    texts = {kernel.name: kernel.text for kernel in drawing_of(function).kernels}
    return "\n\n".join([*texts.values(), "\n".join(calls(function))]) + "\n"


def calls(function: Function) -> Iterator[str]:
    graph = graph_of(function)
    inputs = (value.attrs["name"].replace(".", "_") for value in graph.inputs)
    yield f"def {function.name}({', '.join(inputs)}):"
    around: tuple[Repetition, ...] = ()
    for errand in errands(graph, library_of(function)):
        yield from loops_that_begin(around, errand.loops)
        around, indent = errand.loops, "    " * (len(errand.loops) + 1)
        for line in user_lines([origin for nest in errand.nests for origin in nest.origins]):
            yield f"{indent}# {line}"
        if isinstance(errand.launch, Multiply):
            yield f"{indent}{multiply_text(errand.nests[0], library_of(function))}"
            continue
        shape = f"blocks={errand.blocks}, threads={errand.launch.threads}"
        yield f"{indent}for thread in launch({errand.launch.kernel}, {shape}):"
        yield from (f"{indent}    {call}" for call in dict.fromkeys(map(call_of, errand.pieces)))


def kernels_of_nests(function: Function, program: Program) -> Iterator[list[str]]:
    """The names of the kernel texts that launches of each nest of its program run; none of a library's product."""
    listed = errands_of(program, library_of(function))
    for apart, nest in zip(program.apart, program.nests, strict=True):
        own = (
            errand
            for errand in listed
            if any(each is apart for each in errand.nests) or (errand.loops and errand.loops[0] is nest.repetition)
        )
        yield list(dict.fromkeys(piece.kernel.name for errand in own for piece in errand.pieces))


def loops_that_begin(before: Sequence[Repetition], now: Sequence[Repetition]) -> Iterator[str]:
    same = sum(1 for one, other in zip(before, now) if one is other)
    for depth, loop in enumerate(now[same:], same + 1):
        steps = f"range({loop.value.attrs['length']})"
        yield f"{'    ' * depth}for step in {f'reversed({steps})' if loop.value.attrs['reverse'] else steps}:"


def multiply_text(nest: LoopNest, library: Collection[str]) -> str:
    product = chosen(nest, library)
    assert product is not None
    buffers = (product.target, product.left, product.right, product.ending.bias)
    told = [argument_text(each) for each in buffers if each is not None]
    return f"cublas_multiply({', '.join([*told, *(['relu'] if product.ending.relu else [])])})"


def call_of(piece: Piece) -> str:
    return f"{piece.kernel.plain_name}({', '.join(map(argument_text, piece.arguments))})"


def argument_text(argument: Any) -> str:
    if isinstance(argument, Shared):
        return f"shared({argument.dtype}, {argument.count})"
    return print_buffer(argument).replace(" ", "_").replace(".", "_") if isinstance(argument, Buffer) else str(argument)


# -- what each launch costs


def table(function: Function) -> str:
    """Every launch with blocks, threads, bytes and operations at the dims' maxima; and where the driver or NVIDIA's
    assembler is there to say: registers, bytes of local memory, the share of a multiprocessor that the kernel fills."""
    try:
        listed = errands(graph_of(function), library_of(function))
    except NotCovered as error:
        raise not_covered(function.name, error, function.origin) from None
    architecture = check_architecture(function, None)
    known = resources(function)
    rows = [HEAD, *(row(number, errand, known, architecture) for number, errand in enumerate(listed, 1))]
    return "\n".join([*aligned(rows), summed_up(listed, known)]) + "\n"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, name, *cells in rows:
        shown = [number.rjust(widths[0]), name.ljust(widths[1]), *map(str.rjust, cells, widths[2:])]
        yield "  ".join(shown).rstrip()


def row(number: int, errand: Errand, known: Mapping[str, Resources], architecture: str) -> tuple[str, ...]:
    launch, cost = errand.launch, errand.cost
    times = f"{errand.times} x {number}" if errand.loops else str(number)
    cells: list[Any] = [times, "a product by cuBLASLt", "", "", ""]
    taken: list[Any] = ["", "", ""]
    if isinstance(launch, Launch):
        cells = [times, launch.kernel, errand.blocks, launch.threads, launch.shared_bytes]
        found = known.get(launch.kernel)
        if found is not None:
            full = found.occupancy(launch.threads, launch.shared_bytes, architecture)
            taken = [found.registers, found.local_bytes, f"{full:.0%}"]
    cells += [cost.read, cost.written, cost.operations]
    return tuple(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in (*cells, *taken))


def summed_up(listed: Sequence[Errand], known: Mapping[str, Resources]) -> str:
    """The whole in one line."""
    launches = sum(errand.times for errand in listed)
    kernels = len({errand.launch.kernel for errand in listed if isinstance(errand.launch, Launch)})
    moved = sum(errand.cost.moved * errand.times for errand in listed)
    operations = sum(errand.cost.operations * errand.times for errand in listed)
    text = f"{launches:,} launches of {kernels:,} kernels, {moved:,} bytes moved, {operations:,} operations"
    if not known:
        return f"{text}; neither a driver nor ptxas is here to tell of registers"
    spilt = sum(each.local_bytes > 0 for each in known.values())
    most = max(each.registers for each in known.values())
    return f"{text}, at most {most} registers, {spilt or 'no'} kernels with local memory"


def resources(function: Function) -> dict[str, Resources]:
    """What the kernels take: as the driver made them or, of a step that is not on a GPU, as the assembler would."""
    if function.device != "cuda":
        return dict(assembled(ptx(function, None), USUAL))
    _, runner = parts_of(function)
    runner.device.enter()
    found = {name: runner.module.resources(kernel) for name, kernel in runner.launcher.kernels.items()}
    return {name: Resources(registers, local) for name, (registers, local, _) in found.items()}
