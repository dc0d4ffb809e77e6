"""What becomes of every value on its way through the passes, and by which rule.

A pass that is given a trail tells it; one that is not does nothing more than it would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Graph, Value

if TYPE_CHECKING:
    from graphc.ir.rewrite import Rule


@dataclass(frozen=True, slots=True)
class Change:
    """One rewriting: the pass that did it, and the rule, or what the pass says it does."""

    step: str
    rule: Rule | str

    @property
    def text(self) -> str:
        """The rule without its condition."""
        return self.rule if isinstance(self.rule, str) else self.rule.text.partition(" if ")[0]

    @property
    def reason(self) -> str:
        """What the rule is good for; "" where nobody says."""
        return "" if isinstance(self.rule, str) else self.rule.reason


@dataclass(frozen=True, slots=True)
class Run:
    """One walk over a graph.

    new      what each value has become
    changed  values that were replaced: by which change, by what
    """

    new: Mapping[Value, Value]
    changed: Mapping[Value, tuple[Change, Value]]

    def follow(self, value: Value) -> tuple[tuple[Change, ...], Value]:
        """The changes a value goes through, and what it is after them."""
        changes: list[Change] = []
        at = value
        while at in self.changed and len(changes) < len(self.changed):
            change, at = self.changed[at]
            changes.append(change)
        return tuple(changes), self.new.get(value, value)


@dataclass(slots=True)
class Stage:
    """A graph as a pass left it.

    usual   what the pass does where no rule is named
    runs    the walks of the pass
    made    values that were not there before, with the change that made them and the number of the walk
    slopes  the cotangents of values, one mapping for each time that gradients are taken
    """

    name: str
    usual: str
    graph: Graph
    runs: list[Run]
    made: dict[Value, tuple[Change, int]]
    slopes: list[dict[Value, Value]]


@dataclass(slots=True, eq=False)
class Path:
    """A value on its way from where it came up: the changes it went through, and what it is now.

    first  the value as it was in the stage number `since`
    end    the stage after which it was no more; None: it is still there
    steps  what it was after each stage since
    """

    first: Value
    since: int
    now: Value
    changes: tuple[Change, ...] = ()
    end: int | None = None
    steps: list[Value] = field(default_factory=list)

    def place(self, number: int) -> Value:
        """What it was at a stage since."""
        return self.first if number == self.since else self.steps[number - self.since - 1]


class Trail:
    """Told by passes what they do to each value.

    stages  the graph as it was at first and after every pass
    """

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.begin("trace", "")

    # -- told by the passes

    def begin(self, step: str, usual: str) -> None:
        """A pass begins; `usual` says what it does wherever no rule is named."""
        self.step, self.usual = step, usual
        self.rule: Rule | str | None = None
        self.runs: list[Run] = []
        self.changed: dict[Value, tuple[Change, Value]] = {}
        self.made: dict[Value, tuple[Change, int]] = {}
        self.slopes: list[dict[Value, Value]] = []
        self.known = set(every_value(self.stages[-1].graph)) if self.stages else set[Value]()

    def end(self, graph: Graph) -> None:
        """The pass is done, and this is what it gives."""
        slopes = [{self.latest(value): self.latest(slope) for value, slope in each.items()} for each in self.slopes]
        self.stages.append(Stage(self.step, self.usual, graph, self.runs, self.made, slopes))

    def latest(self, value: Value) -> Value:
        """What a value has become since this pass began."""
        for run in self.runs:
            value = run.new.get(value, value)
        return value

    def note(self, rule: Rule | str, value: Value) -> None:
        """The next replacement is made by this rule."""
        self.rule = rule

    def replaced(self, value: Value, better: Value) -> None:
        """Something else stands for a value. A loop with another body is the same: its values tell for themselves."""
        change, self.rule = Change(self.step, self.rule or self.usual), None
        if value.op.kind == "loop" and (better.op, better.operands) == (value.op, value.operands):
            return
        self.changed[value] = change, better
        self.grew(change, better)

    def sweep(self) -> None:
        """Cotangents of some results are about to be taken."""
        self.slopes.append({})

    def pulled_back(self, value: Value, operand: Value, cotangent: Value) -> None:
        """The cotangent of an operand of a value, as far as it is known."""
        self.slopes[-1][operand] = cotangent
        self.grew(Change(self.step, f"derivative of {value.op.name}"), cotangent)

    def grew(self, change: Change, root: Value) -> None:
        """A value and all it is made of that was not there before."""
        stack = [root]
        while stack:
            value = stack.pop()
            if value not in self.known:
                self.known.add(value)
                self.made[value] = change, len(self.runs)
                stack.extend(value.operands)

    def became(self, new: Mapping[Value, Value]) -> None:
        """A walk is done: what each value of a graph has become."""
        self.known.update(new.values())
        self.runs.append(Run(new, self.changed))
        self.changed = {}

    # -- asked afterwards

    def paths(self, first: int, last: int) -> list[Path]:
        """The ways of all values that are there at a stage or come up later, up to another stage."""
        found = [Path(value, first, value) for value in every_value(self.stages[first].graph)]
        for number in range(first + 1, last + 1):
            stage = self.stages[number]
            left = set(every_value(stage.graph))
            for path in found:
                if path.end is None:
                    advance(path, stage.runs)
                    path.end = None if path.now in left else number
                path.steps.append(path.now)
            found += come_up(stage, number, left - {path.now for path in found})
        return found


def advance(path: Path, runs: Iterable[Run]) -> None:
    for run in runs:
        changes, path.now = run.follow(path.now)
        path.changes += changes


def come_up(stage: Stage, number: int, new: set[Value]) -> Iterator[Path]:
    """The ways of the values that a pass has made."""
    usual = Change(stage.name, stage.usual)
    made: dict[Value, tuple[Change, ...]] = {}
    for value, (change, run) in stage.made.items():
        path = Path(value, number, value, (change,))
        advance(path, stage.runs[run:])
        made.setdefault(path.now, path.changes)
    for value in every_value(stage.graph):
        if value in new:
            yield Path(value, number, value, made.get(value, (usual,)))


def counterparts(graph: Graph, known: Graph) -> dict[Value, Value]:
    """For values of a graph, those of another one that are computed in the same way; not all of them may have one."""
    numbers: dict[tuple[Any, ...], int] = {}
    found: dict[int, Value] = {}
    same: dict[Value, Value] = {}
    for each in (known, graph):
        mine: dict[Value, int] = {}
        for value in (*each.inputs, *each.values()):
            _, _, *rest = value.key()
            key = (value.op.name, *(mine[operand] for operand in value.operands), *rest)
            mine[value] = numbers.setdefault(key, len(numbers))
            if each is known:
                found.setdefault(mine[value], value)
            elif mine[value] in found:
                same[value] = found[mine[value]]
                if value.op.kind == "loop":
                    bodies = (one.attrs["body"].graph for one in (value, same[value]))
                    same |= counterparts(*bodies)
    return same


def every_value(graph: Graph) -> list[Value]:
    """The values of a graph, and after each loop those of its body; what two loops share is there once."""
    found: dict[Value, None] = {}
    for value in graph.values():
        found[value] = None
        if value.op.kind == "loop":
            found |= dict.fromkeys(every_value(value.attrs["body"].graph))
    return [*found]
