"""A kernel for all threads of a block as one function of the CPU.

What stands between two meetings of the threads is a phase: a loop over the threads does it for one after the other.
Loops and branches around a meeting are gone through once for all, as the first thread sees them. What a thread knows
from an earlier phase lies in an array with a place for each of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from graphc.backends.cuda.threads import WARP
from graphc.backends.lower.direct import NotCovered, Typed
from graphc.backends.lower.emission import I64, call_intrinsic, llvm_type
from graphc.backends.lower.narrow import Narrow
from graphc.backends.lower.text import TextValue
from graphc.backends.primitives import Kernel, is_pointer

TENSORS = tuple(f"tensor_product_{number}" for number in range(4))
MEETINGS = ("barrier", "shuffle_xor", *TENSORS)


def lower_block(kernel: Kernel, threads: int) -> str:
    """LLVM IR of `@<kernel.name>.block`, which takes the kernel's parameters but `thread`.

    Raises NotCovered.
    """
    (function,) = ast.parse(kernel.text).body
    assert isinstance(function, ast.FunctionDef)
    return _Block(kernel, function, threads).write()


def meets(node: ast.AST) -> bool:
    """Whether threads meet somewhere inside."""
    return any(isinstance(each, ast.Call) and name_of(each) in MEETINGS for each in ast.walk(node))


def name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


class _Block(Narrow):
    """One function while it is written."""

    def __init__(self, kernel: Kernel, function: ast.FunctionDef, threads: int) -> None:
        super().__init__(kernel, function)
        self.threads = threads
        self.thread: TextValue | None = None  # the one a phase is at
        self.arrays: dict[str, Typed] = {}
        self.kept = names_across_phases(function)

    def text(self) -> str:
        parameters = ", ".join(
            f"{'ptr' if is_pointer(kind) else llvm_type(kind)} %{name}"
            for name, kind in self.kernel.parameters
            if name != "thread"
        )
        head = f"define internal void @{self.kernel.name}.block({parameters}) noinline nounwind {{\n"
        declarations = self.builder.declarations.values()
        return "".join([head, "entry:\n", *self.builder.slots, *self.builder.lines, "}\n\n", *declarations])

    def told(self, kind: str, value: Any) -> Typed:
        """Which thread it is, is known in phases only."""
        return (kind, value) if value.get_reference() == "%thread" else super().told(kind, value)

    # -- phases

    def suite(self, statements: list[ast.stmt]) -> None:
        if self.thread is not None:
            super().suite(statements)
            return
        phase: list[ast.stmt] = []
        for statement in statements:
            if not meets(statement):
                phase.append(statement)
                continue
            self.do_phase(phase)
            phase = []
            self.meeting(statement)
        self.do_phase(phase)

    def meeting(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Assign):
            is_product = isinstance(statement.value, ast.Call) and name_of(statement.value) in TENSORS
            (self.tensor_product if is_product else self.shuffle)(statement)
        elif not isinstance(statement, ast.Expr):
            super().suite([statement])

    def do_phase(self, statements: list[ast.stmt]) -> None:
        if statements:
            with self.each_thread():
                super().suite(statements)

    @contextmanager
    def each_thread(self) -> Iterator[None]:
        before, test, body, end = self.fresh("threads", "thread", "phase", "met")
        builder = self.builder
        builder.jump(before)
        builder.label(before)
        builder.jump(test)
        builder.label(test)
        index, following = (TextValue(I64, f"%{builder.count + place}") for place in range(2))
        again = f"{body}.end"
        builder.value(I64, f"phi i64 [ 0, %{before} ], [ {following.name}, %{again} ]")
        builder.add(index, I64(1), flags=["nsw"])
        builder.branch(builder.icmp_signed("<", index, I64(self.threads)), body, end)
        with self.scope(body):
            self.thread = index
            self.values["thread"] = self.told("i64", index)
            yield
            self.thread = None
        builder.jump(again)
        builder.label(again)
        builder.jump(test)
        builder.label(end)

    def shuffle(self, statement: ast.Assign) -> None:
        """All threads say what they have, then each takes what its partner said."""
        call, target = statement.value, statement.targets[0]
        assert isinstance(call, ast.Call) and isinstance(target, ast.Name)
        said = f"{target.id} as said"
        with self.each_thread():
            self.keep(said, self.expression(call.args[0]))
        with self.each_thread():
            _, distance = self.wide(self.expression(call.args[1]))
            partner = self.builder.xor(self.thread, distance)
            kind, array = self.arrays[said]
            self.assign(target.id, (kind, self.builder.load(self.builder.gep(array, [partner]))))

    def operate(self, symbol: str, *operands: Typed) -> Typed:
        """One thread after the other, all is seen by all."""
        return ("", None) if symbol == "fence" else super().operate(symbol, *operands)

    def tensor_product(self, statement: ast.Assign) -> None:
        """All threads say what they have of the matrices; then each adds up its number, along the depth in order."""
        call, target = statement.value, statement.targets[0]
        assert isinstance(call, ast.Call) and isinstance(target, ast.Name)
        number, builder = TENSORS.index(name_of(call)), self.builder
        names = [f"{ast.unparse(each)} as said" for each in call.args]
        with self.each_thread():
            for name, argument in zip(names, call.args, strict=True):
                self.keep(name, self.expression(argument))
        with self.each_thread():
            first = builder.and_(self.thread, I64(-WARP))
            group, own = builder.and_(builder.lshr(self.thread, I64(2)), I64(7)), builder.and_(self.thread, I64(3))

            def said(argument: int, row: Any, column: Any) -> Any:
                """By the thread of the warp that has this row of four threads, and of them this one."""
                place = builder.add(first, builder.add(builder.mul(row, I64(4)), column))
                return builder.load(builder.gep(self.arrays[names[argument]][1], [place]))

            total = said(6 + number, group, own)
            for depth in range(8):
                across = builder.add(builder.mul(own, I64(2)), I64(number % 2))
                left = said(number // 2 + depth // 4 * 2, group, I64(depth % 4))
                total = call_intrinsic(builder, "fma", left, said(4 + depth // 4, across, I64(depth % 4)), total)
            self.assign(target.id, ("f32", total))

    # -- names

    def keep(self, name: str, value: Typed) -> None:
        """What each thread has under a name, or the first one where all are meant."""
        kind, number = value
        if name not in self.arrays:
            slot = f"array.{len(self.arrays)}"
            self.builder.slots.append(f"  %{slot} = alloca {number.type}, i64 {self.threads}, align 16\n")
            self.arrays[name] = kind, TextValue(ir.PointerType(number.type), f"%{slot}")
        known, array = self.arrays[name]
        if known != kind or array.type.pointee != number.type:
            raise NotCovered(f"{name} has two types")
        self.builder.store(number, self.place_in(name))

    def place_in(self, name: str) -> TextValue:
        """The place of the thread at hand, or of the first one where all are meant."""
        found: TextValue = self.builder.gep(self.arrays[name][1], [self.thread or I64(0)])
        return found

    def assign(self, name: str, value: Typed) -> None:
        if name in self.kept and self.thread is not None:
            self.keep(name, value)
            return
        if self.thread is None:
            self.values[name] = value
            return
        super().assign(name, value)

    def expression(self, node: ast.expr) -> Typed:
        if isinstance(node, ast.Name) and node.id in self.arrays and node.id not in self.values:
            return self.arrays[node.id][0], self.builder.load(self.place_in(node.id))
        return super().expression(node)


def names_across_phases(function: ast.FunctionDef) -> set[str]:
    """The names that are assigned in a phase and used in another one, or in what decides about phases."""
    phases: dict[str, set[int]] = {}
    count = 0

    def note(node: ast.AST, phase: int) -> None:
        for each in ast.walk(node):
            if isinstance(each, ast.Name):
                phases.setdefault(each.id, set()).add(phase)

    def go_through(statements: list[ast.stmt]) -> None:
        nonlocal count
        count += 1
        for statement in statements:
            if not meets(statement):
                note(statement, count)
            elif isinstance(statement, (ast.For, ast.While, ast.If)):
                count += 1
                note(statement.iter if isinstance(statement, ast.For) else statement.test, count)
                go_through(statement.body)
                if statement.orelse:
                    go_through(statement.orelse)
                count += 1
            else:
                count += 1
                note(statement, count)
                count += 1

    go_through(function.body)
    loops = [each.target for each in ast.walk(function) if isinstance(each, ast.For) and meets(each)]
    counters = {target.id for target in loops if isinstance(target, ast.Name)}
    return {name for name, found in phases.items() if len(found) > 1} - counters
