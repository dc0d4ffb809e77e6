"""The kernel language straight to LLVM IR text: numba's way without numba, for texts that keep to the language.

A text is read by Python's own parser and gone through once; types and instructions come from the same `operations` as
numba's. A name that is assigned along one straight path is its value; one that loops or branches assign again lives in
memory at the head of the function, which LLVM turns into registers. What this does not know raises NotCovered, the
wrong texts too: numba says best what is wrong with them.
"""

from __future__ import annotations

import ast
from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn

from llvmlite import ir

from graphc.backends.lower.emission import I1, I64, call_declared, llvm_type
from graphc.backends.lower.operations import operation
from graphc.backends.lower.text import TextBuilder, TextValue
from graphc.backends.primitives import Kernel, is_pointer

Typed = tuple[str, Any]  # a kernel type and an LLVM value of it

_F64 = ir.DoubleType()
_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.BitAnd: "&",
    ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>", ast.USub: "negate", ast.Invert: "~",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_CONSTANTS: dict[str, Typed] = {
    "true": ("bool", I1(True)), "false": ("bool", I1(False)),
    "inf": ("f64", _F64(float("inf"))), "nan": ("f64", _F64(float("nan"))),
}  # fmt: skip


class NotCovered(Exception):
    """The direct lowering does not know this text."""


def lower_directly(kernel: Kernel) -> str:
    """The LLVM IR of one kernel: its definition and the declarations it needs.

    Raises NotCovered.
    """
    try:
        (function,) = ast.parse(kernel.text).body
    except (SyntaxError, ValueError) as error:
        raise NotCovered(f"it is not one Python function: {error}") from error
    if not isinstance(function, ast.FunctionDef):
        raise NotCovered("it is not a Python function")
    return Lowering(kernel, function).write()


@cache
def emitter(name: str, kinds: tuple[str, ...]) -> tuple[Callable[..., Any], str] | None:
    """How to emit an operation on arguments of these types, and the type it gives; None if it does not take them."""
    try:
        known = operation(name)
    except ValueError as error:  # a tile too large
        raise NotCovered(str(error)) from error
    result = None if known is None else known.result(kinds)
    return None if known is None or result is None else (known.emit, result)


class Lowering:
    """One function while it is written."""

    def __init__(self, kernel: Kernel, function: ast.FunctionDef) -> None:
        self.kernel = kernel
        self.function = function
        self.builder = TextBuilder()
        self.labels = 0
        self.values: ChainMap[str, Typed] = ChainMap()  # names that are their values, those of inner suites first
        self.slots: dict[str, Typed] = {}  # names that live in memory, and where
        self.instances: dict[str, list[Kernel]] = {}
        for called in kernel.calls:
            self.instances.setdefault(called.plain_name, []).append(called)

    def write(self) -> str:
        names = [argument.arg for argument in self.function.args.args]
        if names != [name for name, _ in self.kernel.parameters]:
            raise NotCovered(f"its text takes {names}")
        self.carried = carried_names(self.function, names)
        for name, kind in self.kernel.parameters:
            self.assign(name, self.told(kind, TextValue(llvm_type(kind), f"%{name}")))
        *body, last = self.function.body
        returned = self.kernel.returns
        if isinstance(last, ast.Return) and last.value is not None and returned:
            self.suite(body)
            kind, value = self.expression(last.value)
            if kind != returned:
                raise NotCovered(f"it returns {kind}")
            self.builder.line(f"ret {value}")
        elif not returned:
            self.suite(self.function.body)
            self.builder.line("ret void")
        else:
            raise NotCovered("it does not end with a return")
        return self.text()

    def told(self, kind: str, value: Any) -> Typed:
        """A parameter, as a value of the function's own."""
        return kind, value

    def text(self) -> str:
        parameters = ", ".join(
            f"{'ptr noalias' if is_pointer(kind) else llvm_type(kind)} %{name}" for name, kind in self.kernel.parameters
        )
        head = f"define {llvm_type(self.kernel.returns)} @{self.kernel.name}({parameters}) {{\n"
        declarations = self.builder.declarations.values()
        return "".join([head, "entry:\n", *self.builder.slots, *self.builder.lines, "}\n\n", *declarations])

    # -- statements

    def suite(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            _STATEMENTS.get(type(statement), Lowering.refuse)(self, statement)

    def refuse(self, node: ast.AST) -> NoReturn:
        raise NotCovered(f"line {getattr(node, 'lineno', '?')}: {type(node).__name__}")

    def assign_statement(self, node: ast.Assign) -> None:
        target = node.targets[0]
        if len(node.targets) != 1 or not isinstance(target, ast.Name):
            self.refuse(node)
        self.assign(target.id, self.expression(node.value))

    def augmented_statement(self, node: ast.AugAssign) -> None:
        if not isinstance(node.target, ast.Name):
            self.refuse(node)
        left, right = self.name(node.target), self.expression(node.value)
        self.assign(node.target.id, self.operate(_OPERATORS.get(type(node.op), ""), left, right))

    def expression_statement(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Call):
            self.refuse(node)
        self.call(node.value)

    def if_statement(self, node: ast.If) -> None:
        then, otherwise, end = self.fresh("if", "else", "endif")
        self.condition(node.test, then, otherwise if node.orelse else end)
        self.block(then, node.body)
        self.builder.jump(end)
        if node.orelse:
            self.block(otherwise, node.orelse)
            self.builder.jump(end)
        self.builder.label(end)

    def while_statement(self, node: ast.While) -> None:
        if node.orelse:
            self.refuse(node)
        test, body, end = self.fresh("while", "do", "endwhile")
        self.builder.jump(test)
        self.builder.label(test)
        self.condition(node.test, body, end)
        self.block(body, node.body)
        self.builder.jump(test)
        self.builder.label(end)

    def for_statement(self, node: ast.For) -> None:
        """Indices stay far from overflow, which `nsw` tells LLVM."""
        if node.orelse or not isinstance(node.target, ast.Name):
            self.refuse(node)
        start, stop, step = self.bounds(node.iter)
        before, test, body, end = self.fresh("before", "for", "do", "endfor")
        builder = self.builder
        builder.jump(before)
        builder.label(before)
        builder.jump(test)
        builder.label(test)
        again = f"{body}.end"
        kind = start.type
        index, following = (TextValue(kind, f"%{builder.count + place}") for place in range(2))
        builder.value(kind, f"phi {kind} [ {start.get_reference()}, %{before} ], [ {following.name}, %{again} ]")
        builder.add(index, step, flags=["nsw"])
        builder.branch(builder.icmp_signed("<", index, stop), body, end)
        with self.scope(body):
            self.assign(node.target.id, self.counter(index, start, stop, step))
            self.suite(node.body)
        builder.jump(again)
        builder.label(again)
        builder.jump(test)
        builder.label(end)

    def counter(self, index: Any, start: Any, stop: Any, step: Any) -> Typed:
        """What a loop counts, inside of it."""
        return "i64", index

    def bounds(self, node: ast.expr) -> tuple[Any, Any, Any]:
        """(start, stop, step) of a range, of one LLVM type."""
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"):
            self.refuse(node)
        given = [self.expression(argument) for argument in node.args]
        if not 1 <= len(given) <= 3 or {kind for kind, _ in given} != {"i64"}:
            self.refuse(node)
        values = [value for _, value in given]
        if len(values) == 1:
            return I64(0), values[0], I64(1)
        return values[0], values[1], values[2] if len(values) == 3 else I64(1)

    @contextmanager
    def scope(self, label: str) -> Iterator[None]:
        self.builder.label(label)
        self.values = self.values.new_child()
        yield
        self.values = self.values.parents

    def block(self, label: str, statements: list[ast.stmt]) -> None:
        with self.scope(label):
            self.suite(statements)

    def fresh(self, *stems: str) -> tuple[str, ...]:
        self.labels += 1
        return tuple(f"{stem}.{self.labels}" for stem in stems)

    def assign(self, name: str, value: Typed) -> None:
        kind, llvm_value = value
        if not kind:
            raise NotCovered(f"{name} is given no value")
        if name not in self.carried:
            self.values[name] = value
            return
        if name not in self.slots:
            self.slots[name] = kind, self.builder.slot(llvm_value.type, f"{name}.slot")
        if self.slots[name][0] != kind:
            raise NotCovered(f"{name} has two types")
        self.builder.store(llvm_value, self.slots[name][1])

    # -- expressions

    def expression(self, node: ast.expr) -> Typed:
        kind, value = _EXPRESSIONS.get(type(node), Lowering.refuse)(self, node)
        if not kind:
            self.refuse(node)
        return kind, value

    def name(self, node: ast.Name) -> Typed:
        if node.id in self.values:
            return self.values[node.id]
        if node.id in self.slots:
            kind, slot = self.slots[node.id]
            return kind, self.builder.load(slot)
        if node.id not in _CONSTANTS:
            self.refuse(node)
        return _CONSTANTS[node.id]

    def number(self, node: ast.Constant) -> Typed:
        if type(node.value) is int and -(2**63) <= node.value < 2**63:
            return "i64", I64(node.value)
        if type(node.value) is not float:
            self.refuse(node)
        return "f64", _F64(node.value)

    def unary(self, node: ast.UnaryOp) -> Typed:
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            number = node.operand.value
            if isinstance(number, int | float):
                return self.number(ast.Constant(-number))
        return self.operate(_OPERATORS.get(type(node.op), ""), self.expression(node.operand))

    def binary(self, node: ast.BinOp) -> Typed:
        return self.operate(_OPERATORS.get(type(node.op), ""), self.expression(node.left), self.expression(node.right))

    def comparison(self, node: ast.Compare) -> Typed:
        if len(node.ops) != 1:
            self.refuse(node)
        symbol = _OPERATORS.get(type(node.ops[0]), "")
        return self.operate(symbol, self.expression(node.left), self.expression(node.comparators[0]))

    def operate(self, symbol: str, *operands: Typed) -> Typed:
        kinds = tuple(kind for kind, _ in operands)
        found = emitter(symbol, kinds)
        if found is None:
            raise NotCovered(f"{symbol} of {kinds}")
        emit, result = found
        return result, emit(self.builder, kinds, *(value for _, value in operands))

    def call(self, node: ast.Call) -> Typed:
        if not isinstance(node.func, ast.Name) or node.keywords:
            self.refuse(node)
        name = node.func.id
        arguments = [self.expression(argument) for argument in node.args]
        if name not in self.instances:
            return self.operate(name, *arguments)
        arguments = self.handed(arguments)
        kinds = tuple(kind for kind, _ in arguments)
        fitting = [called for called in self.instances[name] if called.parameter_types == kinds]
        if len(fitting) != 1:
            raise NotCovered(f"{len(fitting)} instances of {name} take {kinds}")
        values = [value for _, value in arguments]
        returned = fitting[0].returns
        return returned, call_declared(self.builder, fitting[0].name, llvm_type(returned), values)

    def handed(self, arguments: list[Typed]) -> list[Typed]:
        """Arguments as another kernel takes them."""
        return arguments

    def condition(self, node: ast.expr, yes: str, no: str) -> None:
        """Jump to one of two labels; `and` and `or` evaluate no more than they need."""
        if isinstance(node, ast.BoolOp):
            needs_all = isinstance(node.op, ast.And)
            for value in node.values[:-1]:
                (following,) = self.fresh("and" if needs_all else "or")
                self.condition(value, following if needs_all else yes, no if needs_all else following)
                self.builder.label(following)
            self.condition(node.values[-1], yes, no)
            return
        kind, value = self.expression(node)
        if kind != "bool":
            self.refuse(node)
        self.builder.branch(value, yes, no)


_STATEMENTS: dict[type[ast.AST], Callable[[Lowering, Any], None]] = {
    ast.Assign: Lowering.assign_statement, ast.AugAssign: Lowering.augmented_statement,
    ast.Expr: Lowering.expression_statement, ast.If: Lowering.if_statement, ast.While: Lowering.while_statement,
    ast.For: Lowering.for_statement,
}  # fmt: skip
_EXPRESSIONS: dict[type[ast.AST], Callable[[Lowering, Any], Typed]] = {
    ast.Name: Lowering.name, ast.Constant: Lowering.number, ast.UnaryOp: Lowering.unary,
    ast.BinOp: Lowering.binary, ast.Compare: Lowering.comparison, ast.Call: Lowering.call,
}  # fmt: skip


# --- names ------------------------------------------------------------------------------------------------------------


def carried_names(function: ast.FunctionDef, parameters: list[str]) -> set[str]:
    """The names whose value an assignment inside a loop or branch hands on to what is outside or comes round again.

    Every other use of a name sees an assignment before it on its own path, in its own suite or one around it.
    """
    carried: set[str] = set()
    known: ChainMap[str, None] = ChainMap(dict.fromkeys(parameters))

    def use(node: ast.AST) -> None:
        carried.update(name for name in names_in(node) if name not in known)

    def assign(name: str) -> None:
        if name in known and name not in known.maps[0]:
            carried.add(name)
        known.maps[0][name] = None

    def suite(statements: list[ast.stmt], target: ast.AST | None = None) -> None:
        nonlocal known
        known = known.new_child()
        if isinstance(target, ast.Name):
            assign(target.id)
        go_through(statements)
        known = known.parents

    def go_through(statements: list[ast.stmt]) -> None:
        for statement in statements:
            if isinstance(statement, (ast.Assign, ast.AugAssign)):
                use(statement.value)
                target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
                if isinstance(statement, ast.AugAssign):
                    use(target)
                if isinstance(target, ast.Name):
                    assign(target.id)
            elif isinstance(statement, (ast.If, ast.While)):
                use(statement.test)
                suite(statement.body)
                suite(statement.orelse)
            elif isinstance(statement, ast.For):
                use(statement.iter)
                suite(statement.body, statement.target)
            else:
                use(statement)

    go_through(function.body)
    return carried


def names_in(node: ast.AST) -> Iterator[str]:
    """The names whose values an expression takes; quicker than `ast.walk`."""
    stack = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Call):
            stack += part.args
        elif isinstance(part, ast.BinOp):
            stack += part.left, part.right
        elif not isinstance(part, ast.Constant):
            stack.extend(ast.iter_child_nodes(part))
