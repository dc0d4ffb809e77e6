"""The graph as text, both ways: what tests compare and `step.text("graph")` shows.

graph square(batch<=256; data x: f32[batch,3]; state w: f32[3]) {
  %0: f32[batch,3] = mul(%x, %x)
  result loss = %0
}

The graph that a loop repeats, or that a written gradient is, stands between braces behind the attributes of its value.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from itertools import count, filterfalse
from types import MappingProxyType
from typing import Any

from graphc.ir import ops
from graphc.ir.graph import Graph, IRError, Output, Value
from graphc.ir.types import Dim, Extent, TensorType, add, multiply, subtract

PLAIN = r"[\w.]+"  # other names of inputs stand in quotes
NAME = rf"""(?:{PLAIN}|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
VALUE = re.compile(rf"%({NAME}): (\w+\[[^\]]*\]) = (\w+)\((.*)\)$")
INSIDE = re.compile(r", (\w+)=\{$")
OUTPUT = re.compile(rf"(result|update|check) (.+) = %({NAME})$")
INPUT = re.compile(rf"(data|state|scalar) ({NAME}): (\w+\[[^\]]*\])(; |$)")


def print_graph(graph: Graph) -> str:
    """One line per value: `%0: f32[2,3] = add(%x, %y)`."""
    names = value_names(graph)
    dims = dict.fromkeys([*graph.dims, *(dim for value in graph.values() for dim in value.type.dims())])
    dims |= dict.fromkeys(dim for value in graph.values() for dim in value.attrs.get("rows") or ())
    header = [", ".join(f"{dim.name}<={dim.max}" for dim in dims)]
    header += [f"{value.attrs['role']} {names[value]}: {value.type}" for value in graph.inputs]
    lines = [f"graph {graph.name}({'; '.join(header)}) {{"]
    inputs = set(graph.inputs)
    for value in graph.values():
        if value not in inputs:
            lines += print_value(value, names)
    lines += [f"  {output.kind} {output.name} = %{names[output.value]}" for output in graph.outputs]
    return "\n".join([*lines, "}"]) + "\n"


def value_names(graph: Graph) -> dict[Value, str]:
    """What its text calls each value, behind a `%`: the name of an input, or a number that is no input's name."""
    given = {value: str(value.attrs["name"]) for value in graph.inputs}
    numbers = filterfalse(set(given.values()).__contains__, map(str, count()))
    names = {value: name if re.fullmatch(PLAIN, name) else repr(name) for value, name in given.items()}
    return names | {value: next(numbers) for value in graph.values() if value not in names}


def print_value(value: Value, names: Mapping[Value, str]) -> Iterator[str]:
    """The line of a value, and those of the graph inside of it."""
    line = f"  %{names[value]}: {value.type} = {value.op.name}({print_arguments(value, names)}"
    inside = [(key, item.graph) for key, item in value.attrs.items() if isinstance(item, ops.Body)]
    if not inside:
        yield f"{line})"
    for key, graph in inside:  # no op has more than one
        yield f"{line}, {key}={{"
        yield from (f"    {each}" for each in print_graph(graph).splitlines())
        yield "  })"


def print_arguments(value: Value, names: Mapping[Value, str]) -> str:
    """The operands and the attributes, but for the graph inside."""
    shown = {key: item for key, item in value.attrs.items() if key != "type" and not isinstance(item, ops.Body)}
    operands = [f"%{names[operand]}" for operand in value.operands]
    return ", ".join(operands + [f"{key}={print_attr(item)}" for key, item in shown.items()])


def print_attr(item: Any) -> str:
    """A Python literal in which dims stand by name and floats keep every bit."""
    if isinstance(item, tuple):
        return "(" + "".join(f"{print_attr(part)}, " for part in item).rstrip(" ") + ")"
    return repr(item)


def parse_graph(text: str) -> Graph:
    """The graph `print_graph` printed; raises IRError naming the line otherwise."""
    lines = [line.strip() for line in text.strip().splitlines()]
    opening = re.fullmatch(rf"graph ({NAME})\((.*)\) \{{", lines[0])
    if opening is None or lines[-1] != "}":
        raise IRError(f"expected `graph name(...) {{` and a closing brace, got {lines[0]!r} and {lines[-1]!r}")
    dims_text, _, inputs_text = opening[2].partition("; ")
    dims = parse_dims(dims_text)
    env = dict(parse_inputs(inputs_text, dims))
    inputs = tuple(env.values())
    outputs: list[Output] = []
    rest = iter(enumerate(lines[1:-1], 2))
    for number, line in rest:
        inside = INSIDE.search(line)
        try:
            if inside is None:
                parse_line(line, env, dims, outputs)
            else:
                body = ops.Body(parse_graph(text_inside(rest)))
                parse_line(INSIDE.sub(")", line), env, dims, outputs, {inside[1]: body})
        except KeyError as error:
            raise IRError(f"line {number}: nothing is called {error} in {line!r}") from None
        except (IRError, TypeError, ValueError, SyntaxError) as error:
            raise IRError(f"line {number}: {error} in {line!r}") from None
    return Graph(opening[1], inputs, tuple(outputs))


def text_inside(rest: Iterator[tuple[int, str]]) -> str:
    """The lines up to the brace that closes the graph inside of a value."""
    found: list[str] = []
    depth = 1
    for _, line in rest:
        depth += (INSIDE.search(line) is not None) - (line == "})")
        if depth == 0:
            return "\n".join(found)
        found.append(line)
    raise IRError("nothing closes the graph inside")


def parse_dims(text: str) -> dict[str, Dim]:
    pairs = (part.split("<=") for part in text.split(", ") if part)
    return {name: Dim(name, int(maximum)) for name, maximum in pairs}


def parse_inputs(text: str, dims: dict[str, Dim]) -> Iterator[tuple[str, Value]]:
    while text:
        found = INPUT.match(text)
        if found is None:
            raise IRError(f"expected `role name: type`, got {text!r}")
        role, name, type_text, _ = found.groups()
        own = name if re.fullmatch(PLAIN, name) else ast.literal_eval(name)
        yield name, ops.input(name=own, role=role, type=parse_type(type_text, dims))
        text = text[found.end() :]


def parse_line(
    line: str,
    env: dict[str, Value],
    dims: dict[str, Dim],
    outputs: list[Output],
    inside: Mapping[str, ops.Body] = MappingProxyType({}),
) -> None:
    output = OUTPUT.match(line)
    if output is not None:
        outputs.append(Output(output[1], output[2], env[output[3]]))
        return
    found = VALUE.match(line)
    if found is None:
        raise IRError("expected `%name: type = op(...)`")
    target, type_text, op_name, arguments = found.groups()
    written = parse_type(type_text, dims)
    operands, attrs = parse_arguments(arguments, env, dims)
    if ops.OPS[op_name].kind in ("source", "part"):
        attrs["type"] = written
    value = ops.OPS[op_name](*operands, **attrs, **inside)
    if value.type != written:
        raise IRError(f"%{target} is written {written} but {op_name} gives {value.type}")
    env[target] = value


def parse_arguments(text: str, env: dict[str, Value], dims: dict[str, Dim]) -> tuple[list[Value], dict[str, Any]]:
    operands = re.match(rf"(%{NAME}(, |$))*", text)
    assert operands is not None
    call = ast.parse(f"attributes({text[operands.end() :]})", mode="eval").body
    assert isinstance(call, ast.Call)
    attrs = {str(word.arg): parse_attr(word.value, dims) for word in call.keywords}
    return [env[name] for name in re.findall(rf"%({NAME})", operands[0])], attrs


def parse_attr(node: ast.expr, dims: dict[str, Dim]) -> Any:
    match node:
        case ast.Tuple(parts):
            return tuple(parse_attr(part, dims) for part in parts)
        case ast.Name(("inf" | "nan") as name):
            return float(name)
        case ast.Name(name):
            return dims[name]
        case ast.UnaryOp(ast.USub(), operand):
            number = parse_attr(operand, dims)
            return -number if isinstance(number, (int, float)) else multiply(-1, number)
        case ast.BinOp(left, ast.Mult(), right):
            return multiply(parse_attr(left, dims), parse_attr(right, dims))
        case ast.BinOp(left, ast.Add(), right):
            return add(parse_attr(left, dims), parse_attr(right, dims))
        case ast.BinOp(left, ast.Sub(), right):
            return subtract(parse_attr(left, dims), parse_attr(right, dims))
    return ast.literal_eval(node)


def parse_type(text: str, dims: dict[str, Dim]) -> TensorType:
    dtype, _, shape = text.rstrip("]").partition("[")
    return TensorType(dtype, tuple(parse_extent(part, dims) for part in shape.split(",") if part))


def parse_extent(text: str, dims: dict[str, Dim]) -> Extent:
    found: Extent = parse_attr(ast.parse(text, mode="eval").body, dims)
    return found
