"""The graph as text, both ways: what tests compare and `step.text("graph")` shows.

graph square(batch<=256; data x: f32[batch,3]; state w: f32[3]) {
  %0: f32[batch,3] = mul(%x, %x)
  result loss = %0
}
"""

from __future__ import annotations

import ast
import re
from typing import Any

from graphc.ir import ops
from graphc.ir.graph import Graph, IRError, Output, Value
from graphc.ir.types import Dim, Extent, TensorType, add, multiply, subtract

NAME = r"[\w.]+"
VALUE = re.compile(rf"%({NAME}): (\w+\[[^\]]*\]) = (\w+)\((.*)\)$")
OUTPUT = re.compile(rf"(result|update|check) (.+) = %({NAME})$")
INPUT = re.compile(rf"(data|state|scalar) ({NAME}): (\w+\[[^\]]*\])$")


def print_graph(graph: Graph) -> str:
    """One line per value: `%0: f32[2,3] = add(%x, %y)`."""
    names = {value: value.attrs["name"] for value in graph.inputs}
    dims = dict.fromkeys([*graph.dims, *(dim for value in graph.values() for dim in value.type.dims())])
    dims |= dict.fromkeys(dim for value in graph.values() for dim in value.attrs.get("rows") or ())
    header = [", ".join(f"{dim.name}<={dim.max}" for dim in dims)]
    header += [f"{value.attrs['role']} {names[value]}: {value.type}" for value in graph.inputs]
    lines = [f"graph {graph.name}({'; '.join(header)}) {{"]
    for value in graph.values():
        if value in names:
            continue
        names[value] = str(len(names) - len(graph.inputs))
        lines.append(f"  %{names[value]}: {value.type} = {value.op.name}({print_arguments(value, names)})")
    lines += [f"  {output.kind} {output.name} = %{names[output.value]}" for output in graph.outputs]
    return "\n".join([*lines, "}"]) + "\n"


def print_arguments(value: Value, names: dict[Value, str]) -> str:
    operands = [f"%{names[operand]}" for operand in value.operands]
    return ", ".join(operands + [f"{key}={print_attr(item)}" for key, item in value.attrs.items() if key != "type"])


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
    dims_text, *inputs_text = opening[2].split("; ")
    dims = parse_dims(dims_text)
    env = dict(parse_input(part, dims) for part in inputs_text)
    inputs = tuple(env.values())
    outputs: list[Output] = []
    for number, line in enumerate(lines[1:-1], 2):
        try:
            parse_line(line, env, dims, outputs)
        except KeyError as error:
            raise IRError(f"line {number}: nothing is called {error} in {line!r}") from None
        except (IRError, TypeError, ValueError, SyntaxError) as error:
            raise IRError(f"line {number}: {error} in {line!r}") from None
    return Graph(opening[1], inputs, tuple(outputs))


def parse_dims(text: str) -> dict[str, Dim]:
    pairs = (part.split("<=") for part in text.split(", ") if part)
    return {name: Dim(name, int(maximum)) for name, maximum in pairs}


def parse_input(text: str, dims: dict[str, Dim]) -> tuple[str, Value]:
    found = INPUT.match(text)
    if found is None:
        raise IRError(f"expected `role name: type`, got {text!r}")
    role, name, type_text = found.groups()
    return name, ops.input(name=name, role=role, type=parse_type(type_text, dims))


def parse_line(line: str, env: dict[str, Value], dims: dict[str, Dim], outputs: list[Output]) -> None:
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
    for name in attrs.keys() & {"body", "rule"}:
        attrs[name] = ops.Body(parse_graph(attrs[name]))
    value = ops.OPS[op_name](*operands, **attrs)
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
