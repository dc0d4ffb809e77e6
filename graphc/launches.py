"""Looking at a step as a GPU does it: launches, kernel texts, LLVM IR, PTX. No GPU is needed for that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphc.backends.cuda.account import Errand, errands, errands_of
from graphc.backends.cuda.assembler import Resources, assembled
from graphc.backends.cuda.device import Launch, Multiply
from graphc.backends.cuda.driver import TARGETS
from graphc.backends.cuda.outside import chosen
from graphc.backends.cuda.passes import passed_for_device
from graphc.backends.cuda.ptx import ARCHITECTURES, compile_modules, modules, optimised
from graphc.backends.cuda.serial import SHAPE
from graphc.backends.cuda.threads import NotCovered, Piece, Shared
from graphc.backends.primitives import Kernel
from graphc.backends.target import BuildError
from graphc.commented import Owners, Use, argument_text, call_comments, commented, owners
from graphc.cuda import not_covered, parts_of
from graphc.errors import InternalError
from graphc.ir.graph import Graph
from graphc.ir.loops import LoopNest, Repetition
from graphc.ir.program import Program, plan
from graphc.machine_code import unknown
from graphc.naming import Naming
from graphc.settings import is_whole, require

if TYPE_CHECKING:
    from graphc.backends.cuda.plan import Drawing
    from graphc.function import Function

USUAL = ARCHITECTURES[-1]  # where no GPU says which
COSTS = ("read", "written", "operations")
HEAD = ("launch", "kernel", "blocks", "threads", "shared", *COSTS, "registers", "local", "full")


def graph_of(function: Function) -> Graph:
    """The finished graph."""
    return parts_of(function)[0].graph if function.device == "cuda" else passed_for_device(function.traced)


def choices_of(function: Function) -> tuple[Collection[str], str]:
    """The products that are for a library, by their names, and the precision of the others."""
    if function.device != "cuda":
        return (), "highest"
    artifact, _ = parts_of(function)
    return artifact.library, artifact.precision


def drawing_of(function: Function) -> Drawing:
    from graphc.backends.cuda.plan import draw

    if function.device == "cuda":
        return parts_of(function)[0].drawing
    return draw(graph_of(function))


def ptx(function: Function, architecture: str | None, kernel: int | str | None = None) -> str:
    """The PTX of all kernels, or of one. Raises ArgumentError for what is no architecture or no kernel, DeviceError for
    what GPUs cannot do."""
    chosen = check_architecture(function, architecture)
    if function.device == "cuda" and kernel is None and chosen == parts_of(function)[0].architecture:
        return parts_of(function)[0].ptx
    return made(function, chosen, compile_modules, kernel)


def llvm(function: Function, kernel: int | str | None = None) -> str:
    """The optimised LLVM IR that PTX is made of."""
    return made(function, check_architecture(function, None), optimised, kernel)


Way = Callable[[Sequence[str], Sequence[str], str], Any]


def made(function: Function, architecture: str, way: Way, kernel: int | str | None) -> str:
    """What a way to compile makes of the kernels, as text."""
    try:
        drawing = drawing_of(function)
        wanted = [each.name for each in drawing.entries] if kernel is None else launched(function, kernel)
        return str(way(modules(drawing), wanted, architecture))
    except NotCovered as error:
        raise not_covered(function.name, error, function.origin) from None
    except BuildError as error:
        raise InternalError(f"compiling {function.name} for {architecture} failed: {error}", function.origin) from None


def launched(function: Function, kernel: int | str) -> list[str]:
    """What is launched for a kernel of the plan, or the launch of that name. ArgumentError for what is neither."""
    require(is_whole(kernel) or isinstance(kernel, str), "kernel", kernel, "the number or the name of a kernel")
    program = plan(graph_of(function), SHAPE.width)
    listed = errands_of(program, *choices_of(function))
    pairs = [
        pair
        for pair in enumerate(zip(program.apart, program.nests, strict=True))
        if kernel in (pair[0], pair[1][0].name)
    ]
    own = [errand for errand in listed if any(is_for(errand, *pair) for _, pair in pairs)]
    names = [errand.launch.kernel for errand in own or listed if isinstance(errand.launch, Launch)]
    found = dict.fromkeys(name for name in names if own or name == kernel)
    if not found:
        raise unknown(function.name, kernel, [nest.name for nest in program.nests], names)
    return list(found)


def is_for(errand: Errand, apart: LoopNest, nest: LoopNest) -> bool:
    """Whether it does a nest of a program, or something inside of it."""
    inside = errand.loops and errand.loops[0] is nest.repetition
    return bool(inside) or any(each is apart for each in errand.nests)


def check_architecture(function: Function, architecture: str | None) -> str:
    if architecture is None:
        return parts_of(function)[0].architecture if function.device == "cuda" else USUAL
    known = [f"sm_{target}" for target in TARGETS]
    text = f"one of {', '.join(map(repr, known))}; newer GPUs run kernels for the last one"
    require(architecture in known, "architecture", architecture, text)
    return architecture


# -- kernel source


def source(function: Function) -> str:
    """Every kernel text once, with comments over its loops, then the launches in order, each under what it computes."""
    program = plan(graph_of(function), SHAPE.width)
    library, precision = choices_of(function)
    names, listed = Naming(function, program), errands_of(program, library, precision)
    texts = texts_of(function, program, listed, names)
    calls = calls_of(function.name, program, listed, library, names)
    return "\n\n".join([*texts.values(), "\n".join(calls)]) + "\n"


def kernel_texts(function: Function) -> dict[str, str]:
    """The text of each kernel by its name, with comments; of kernels that others call, as it is."""
    program = plan(graph_of(function), SHAPE.width)
    listed = errands_of(program, *choices_of(function))
    return texts_of(function, program, listed, Naming(function, program))


def texts_of(function: Function, program: Program, listed: Sequence[Errand], names: Naming) -> dict[str, str]:
    taken, used = in_memory(program), dict[str, tuple[Kernel, list[Use]]]()
    for number, errand in enumerate(listed, 1):
        if not isinstance(errand.launch, Multiply):
            for piece, nest in zip(errand.pieces, errand.nests, strict=True):
                _, uses = used.setdefault(piece.kernel.name, (piece.kernel, []))
                owned = owners(nest, taken[id(nest)])
                uses.append(Use(f"launch {number}", nest, owned, piece.arguments, {}))
    texts = {name: commented(kernel, uses, names) for name, (kernel, uses) in used.items()}
    return texts | {kernel.name: kernel.text for kernel in drawing_of(function).kernels if kernel.name not in texts}


def calls_of(
    title: str, program: Program, listed: Sequence[Errand], library: Collection[str], names: Naming
) -> Iterator[str]:
    yield f"def {title}({', '.join(map(names.of, program.graph.inputs))}):"
    around, taken = tuple[Repetition, ...](), in_memory(program)
    for errand in listed:
        yield from loops_that_begin(around, errand.loops)
        around, indent = errand.loops, "    " * (len(errand.loops) + 1)
        for nest in errand.nests:
            yield from call_comments(nest, names, indent)
        if isinstance(errand.launch, Multiply):
            yield f"{indent}{multiply_text(errand.nests[0], library, names)}"
            continue
        shape = f"blocks={errand.blocks}, threads={errand.launch.threads}"
        yield f"{indent}for thread in launch({errand.launch.kernel}, {shape}):"
        for piece, nest in zip(errand.pieces, errand.nests, strict=True):
            yield f"{indent}    {call_of(piece, names, owners(nest, taken[id(nest)]))}"


def kernels_of_nests(function: Function, program: Program) -> Iterator[list[str]]:
    """The names of the kernel texts that launches of each nest of its program run; none of a library's product."""
    listed = errands_of(program, *choices_of(function))
    for apart, nest in zip(program.apart, program.nests, strict=True):
        own = (errand for errand in listed if is_for(errand, apart, nest))
        yield list(dict.fromkeys(piece.kernel.name for errand in own for piece in errand.pieces))


def loops_that_begin(before: Sequence[Repetition], now: Sequence[Repetition]) -> Iterator[str]:
    same = sum(1 for one, other in zip(before, now) if one is other)
    for depth, loop in enumerate(now[same:], same + 1):
        steps = f"range({loop.value.attrs['length']})"
        yield f"{'    ' * depth}for step in {f'reversed({steps})' if loop.value.attrs['reverse'] else steps}:"


def in_memory(program: Program) -> dict[int, LoopNest]:
    """Each nest with the memory it works in, by the nest as it was before values took the places of others."""
    found = {id(apart): nest for apart, nest in zip(program.apart, program.nests, strict=True)}
    for nest in program.nests:
        if nest.repetition is not None:
            found |= in_memory(nest.repetition.program)
    return found


def multiply_text(nest: LoopNest, library: Collection[str], names: Naming) -> str:
    product = chosen(nest, library)
    assert product is not None
    buffers = (product.target, product.left, product.right, product.ending.bias)
    told = [names.buffer(each) for each in buffers if each is not None]
    return f"cublas_multiply({', '.join([*told, *(['relu'] if product.ending.relu else [])])})"


def call_of(piece: Piece, names: Naming, owned: Owners) -> str:
    texts = (
        f"shared({each.dtype}, {each.count})" if isinstance(each, Shared) else argument_text(each, names, owned)
        for each in piece.arguments
    )
    return f"{piece.kernel.plain_name}({', '.join(texts)})"


# -- what each launch costs


def table(function: Function) -> str:
    """Every launch with blocks, threads, bytes and operations at the dims' maxima; and where the driver or NVIDIA's
    assembler is there to say: registers, bytes of local memory, the share of a multiprocessor that the kernel fills."""
    listed, known = costs(function)
    rows = [HEAD, *(tuple(map(shown, row)) for row in rows_of(function, listed, known))]
    return "\n".join([*aligned(rows), summed_up(listed, known)]) + "\n"


def data(function: Function) -> list[dict[str, Any]]:
    """The rows of the table by the words over them, without what nobody is there to say."""
    rows = rows_of(function, *costs(function))
    return [{word: cell for word, cell in zip(HEAD, row, strict=True) if cell != ""} for row in rows]


def costs(function: Function) -> tuple[list[Errand], dict[str, Resources]]:
    """What is launched, and what kernels take by their names. Raises DeviceError for what GPUs cannot do."""
    try:
        return errands(graph_of(function), *choices_of(function)), resources(function)
    except NotCovered as error:
        raise not_covered(function.name, error, function.origin) from None


def rows_of(function: Function, listed: Sequence[Errand], known: Mapping[str, Resources]) -> Iterator[tuple[Any, ...]]:
    architecture = check_architecture(function, None)
    return (row(number, errand, known, architecture) for number, errand in enumerate(listed, 1))


def shown(cell: Any) -> str:
    """Whole numbers with commas, shares in percent."""
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.0%}" if isinstance(cell, float) else str(cell)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, name, *cells in rows:
        shown = [number.rjust(widths[0]), name.ljust(widths[1]), *map(str.rjust, cells, widths[2:])]
        yield "  ".join(shown).rstrip()


def row(number: int, errand: Errand, known: Mapping[str, Resources], architecture: str) -> tuple[Any, ...]:
    """Numbers and texts below the words of HEAD; "" where there is nothing to say."""
    launch, cost = errand.launch, errand.cost
    times = f"{errand.times} x {number}" if errand.loops else str(number)
    cells: list[Any] = [times, "a product by cuBLASLt", "", "", ""]
    taken: list[Any] = ["", "", ""]
    if isinstance(launch, Launch):
        cells = [times, launch.kernel, errand.blocks, launch.threads, launch.shared_bytes]
        found = known.get(launch.kernel)
        if found is not None:
            full = found.occupancy(launch.threads, launch.shared_bytes, architecture)
            taken = [found.registers, found.local_bytes, full]
    return (*cells, cost.read, cost.written, cost.operations, *taken)


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
