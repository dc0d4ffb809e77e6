"""Which functions, layers and optimizers the cases with stored numbers call, and which the tests call.

Expressions are read, not run: what they call is looked up in graphc, so that all names of one function share its cases.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import attention_cases
import numpy as np
import optimizer_cases

import graphc as gx

HERE = Path(__file__).parent
SPACES = {
    "gx": gx, "torch": gx, "F": gx.functional, "functional": gx.functional, "nn": gx.nn, "init": gx.init,
    "optim": gx.optim, "s": gx.optim.lr_scheduler, "lr_scheduler": gx.optim.lr_scheduler, "data": gx.data,
    "checkpoint": gx.checkpoint,
}  # fmt: skip
SIGNS = {
    ast.Add: "__add__", ast.Sub: "__sub__", ast.Mult: "__mul__", ast.Div: "__truediv__", ast.FloorDiv: "__floordiv__",
    ast.Mod: "__mod__", ast.Pow: "__pow__", ast.MatMult: "__matmul__", ast.USub: "__neg__", ast.UAdd: "__pos__",
    ast.Lt: "__lt__", ast.LtE: "__le__", ast.Gt: "__gt__", ast.GtE: "__ge__", ast.Eq: "__eq__", ast.NotEq: "__ne__",
    ast.BitAnd: "__and__", ast.BitOr: "__or__", ast.BitXor: "__xor__", ast.Invert: "__invert__",
    ast.LShift: "__lshift__", ast.RShift: "__rshift__",
}  # fmt: skip


# -- cases with stored numbers


def stored_cases() -> Iterator[tuple[str, str]]:
    """(file of stored numbers, what was computed), for every case whose numbers are there."""
    for name in ("elementwise", "indexing"):
        yield from ((name, key.partition("|")[2]) for key in keys(name))
    for name in ("layers", "windows"):
        yield from ((name, key.partition(" of (")[0]) for key in keys(name) if key.endswith("|0|value"))
    yield from (("losses", key) for key in keys("losses") if not key.startswith("operand "))
    yield from (("recurrent", key.partition("|")[0]) for key in keys("recurrent") if key.endswith("|7,6|value 0"))
    yield from (("attention", expression) for expression in attention_expressions())
    yield from (("optim", expression) for expression in optimizer_expressions())
    yield from (("remaining", key) for key in keys("remaining"))


@functools.cache
def keys(name: str) -> dict[str, None]:
    """The names of what a file of stored numbers holds, in their order."""
    return dict.fromkeys(np.load(HERE / "golden" / f"torch_{name}.npz").files)


def attention_expressions() -> Iterator[str]:
    for group, cases in attention_cases.GROUPS.items():
        for number, (layer, expression) in enumerate(cases):
            if f"{group}|{number}|value 0" in keys("attention"):
                yield expression.replace("layer", layer or "layer", 1)


def optimizer_expressions() -> Iterator[str]:
    """What the functions in the dicts of optimizer_cases make; clipping, which has no cases but its numbers."""
    dicts = (node for node in ast.walk(ast.parse(inspect.getsource(optimizer_cases))) if isinstance(node, ast.Dict))
    for name, value in (row for each in dicts for row in zip(each.keys, each.values)):
        made = isinstance(name, ast.Constant) and isinstance(value, ast.Lambda)
        if made and {f"{name.value} f64 w", f"{name.value} lr"} & keys("optim").keys():
            yield ast.unparse(value.body)
    clipping = {"2.0 norm": "clip_grad_norm_(parameters, 2.0)", "value 0": "clip_grad_value_(parameters, 0.5)"}
    yield from (f"nn.utils.{call}" for key, call in clipping.items() if key in keys("optim"))


@functools.cache
def plainest_cases() -> dict[int, tuple[str, str]]:
    """For each thing of graphc, by its id, the stored case that is most about it.

    That is one that uses it outermost and is short; `remaining`, whose integers have no gradients, comes last.
    """
    found: dict[int, tuple[bool, int, int, str, str]] = {}
    for file, expression in dict.fromkeys(stored_cases()):
        for depth, thing in enumerate(things_in(ast.parse(expression))):
            case = (file == "remaining", depth, len(expression), file, expression)
            found[id(thing)] = min(case, found.get(id(thing), case))
    return {thing: case[-2:] for thing, case in found.items()}


# -- tests


@functools.cache
def tested_in(test: str) -> tuple[set[int], set[str]]:
    """What a test uses where it expects no error: ids of things of graphc, and names of attributes.

    Where it looks up names by getattr(F, name), all words that stand in it are such names.
    """
    text = (HERE / f"{test}.py").read_text(encoding="utf-8")
    tree = WithoutErrors().visit(ast.parse(text))
    things = {id(thing) for thing in things_in(tree, methods=False)}
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for space in {name for name in SPACES if f"getattr({name}, name)" in text}:
        things |= {id(thing) for word in words if (thing := getattr(SPACES[space], word, None)) is not None}
    return things, {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


class WithoutErrors(ast.NodeTransformer):
    """Leaves out what stands under pytest.raises."""

    def visit_With(self, node: ast.With) -> ast.AST | None:
        if any("pytest.raises" in ast.unparse(item) for item in node.items):
            return None
        return self.generic_visit(node)


# -- both


def things_in(tree: ast.AST, methods: bool = True) -> Iterator[Any]:
    """What an expression or a program uses of graphc; methods count as those of tensors, or not at all."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield from attribute(node, methods)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("graphc."):
            yield from (getattr(import_module(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from (thing for space in (gx.functional, gx.nn) if (thing := getattr(space, node.func.id, None)))
        elif methods and isinstance(node, ast.Subscript):
            yield gx.Tensor.__getitem__
        elif methods and isinstance(node, (ast.BinOp, ast.UnaryOp)):
            yield getattr(gx.Tensor, SIGNS[type(node.op)])
        elif methods and isinstance(node, ast.Compare):
            yield getattr(gx.Tensor, SIGNS[type(node.ops[0])])


def attribute(node: ast.Attribute, methods: bool) -> Iterator[Any]:
    """What stands at `nn.Linear` or `F.relu`; of anything else, a method of tensors."""
    names, root = [node.attr], node.value
    while isinstance(root, ast.Attribute):
        names, root = [root.attr, *names], root.value
    thing: Any = None
    if isinstance(root, ast.Name) and root.id in SPACES:
        thing = functools.reduce(lambda thing, name: getattr(thing, name, None), names, SPACES[root.id])
    elif methods:
        thing = getattr(gx.Tensor, node.attr, None)
    if thing is not None:
        yield thing
