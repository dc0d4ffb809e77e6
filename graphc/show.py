"""Looking at a compiled function: summary, text at every level, kernel source, pictures, machine code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from graphc.backends.files import replacing
from graphc.errors import ArgumentError
from graphc.ir.graph import Origin, user_origin
from graphc.ir.loops import print_nest
from graphc.ir.program import Program, print_program
from graphc.ir.text import print_graph
from graphc.ir.types import Shape
from graphc.settings import check_choice, check_number, check_path, require

if TYPE_CHECKING:
    from pathlib import Path

    from graphc.function import Function

LEVELS: dict[str, Callable[[Program], str]] = {
    "graph": lambda program: print_graph(program.graph),
    "program": print_program,
    "kernels": lambda program: "".join(print_nest(nest) for nest in program.walk()),
}
DOT_LEVELS = ("layers", "graph", "kernels")
ENGINES = ("graphc", "graphviz")


def text(function: Function, level: str) -> str:
    """The function as text at one level."""
    if isinstance(level, str) and level in LEVELS:
        return LEVELS[level](function.artifact.program)
    if level == "launches":
        from graphc import launches

        return launches.table(function)
    if level == "certificate":
        from graphc import certificate

        return certificate.with_times(function)
    stages = function.stages
    return print_graph(stages[check_choice("level", level, text_levels(stages))])


def text_levels(stages: Iterable[str]) -> tuple[str, ...]:
    """What `text` can show of a function with these stages."""
    return (*LEVELS, "launches", "certificate", *stages)


# -- summary


def summary(function: Function) -> str:
    """A table of kernels with what they compute, and the memory of the whole."""
    from graphc import explain

    head = ("kernel", "over", "part", "layers", "lines of yours")
    rows: list[tuple[str, ...]] = [head]
    for name, frame, *lists in kernel_rows(function.artifact.program):
        rows.append((name, f"[{', '.join(map(str, frame))}]", *map(", ".join, lists)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    inputs = ", ".join(f"{value.attrs['name']}: {value.type}" for value in function.inputs)
    lines = [f"{function.name}({inputs})", *table, function.compiled, explain.note(function)]
    if function.device == "cuda":
        lines.insert(-2, "\n" + text(function, "launches"))
    return "\n".join(filter(None, lines)) + "\n"


def kernel_rows(program: Program) -> Iterator[tuple[str, Shape, list[str], list[str], list[str]]]:
    """Of each kernel its name, what it goes over, its parts of the step, its modules and the user's lines."""
    for nest in program.walk():
        origins = [origin for origin in nest.origins if isinstance(origin, Origin)]
        columns = (
            (origin.role for origin in origins),
            (origin.module for origin in origins if origin.module),
            (str(origin) for origin in origins),
        )
        roles, modules, lines = (list(dict.fromkeys(column)) for column in columns)
        yield nest.name, nest.frame, roles, modules, lines


# -- pictures


def to_dot(function: Function, path: Any, level: str) -> str:
    from graphc.ir.dot import graph_dot, kernels_dot
    from graphc.picture.layers_dot import layers_dot

    check_choice("level", level, DOT_LEVELS)
    program = function.artifact.program
    if level == "layers":
        return written(layers_dot(program.graph, function.layers), path)
    return written(graph_dot(program.graph) if level == "graph" else kernels_dot(program), path)


def to_svg(function: Function, path: Any, level: str, color: Any, fold: bool | None, engine: str) -> str:
    from graphc.picture.display import Drawing
    from graphc.picture.graphviz import lay_out
    from graphc.picture.views import draw

    if check_choice("engine", engine, ENGINES) == "graphviz":
        require(color is None and fold is None, "color or fold", color or fold, "left to graphc's own engine")
        return Drawing(written(lay_out(to_dot(function, None, level)), path))
    return Drawing(written(draw(function, level, color, fold), path))


def to_png(function: Function, path: Any, level: str, color: Any, fold: bool | None, scale: float) -> bytes:
    from graphc.picture.display import Raster
    from graphc.picture.raster import rasterise
    from graphc.picture.views import draw

    place = None if path is None else check_path("path", path)
    picture = Raster(rasterise(draw(function, level, color, fold), check_number("scale", scale, 0, above=True)))
    if place is not None:
        write(picture, place)
    return picture


def to_html(function: Function, path: Any, color: Any, fold: bool | None) -> str:
    from graphc.picture.display import Page
    from graphc.picture.page import page

    return Page(written(page(function, color, fold), path))


def written(content: str, path: Any) -> str:
    """The content, after writing it to a file if one is named."""
    if path is not None:
        write(content.encode(), check_path("path", path))
    return content


def write(content: bytes, place: Path) -> None:
    """A whole file, or an error and the file that was there before."""
    try:
        with replacing(place) as stream:
            stream.write(content)
    except OSError as error:
        raise ArgumentError(f"cannot write {place}: {error.strerror}", user_origin()) from None


def to_networkx(function: Function) -> Any:
    """The finished graph as a networkx.DiGraph: one node a value with op, type, role and line, edges to its users."""
    import networkx

    from graphc.function import Function

    require(isinstance(function, Function), "function", function, "a compiled function or step")
    names = {value: number for number, value in enumerate(function.artifact.program.graph.values())}
    found = networkx.DiGraph(name=function.name)
    for value, number in names.items():
        label = value.attrs.get("name", value.op.name)
        line = str(value.origin) if value.origin else ""
        found.add_node(number, op=value.op.name, label=label, type=str(value.type), role=value.role, line=line)
        found.add_edges_from((names[operand], number) for operand in value.operands)
    return found
