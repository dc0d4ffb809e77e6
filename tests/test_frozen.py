"""Our frozen dataclasses are those of `dataclasses` in all that anyone can ask of them."""

from __future__ import annotations

import copy
import dataclasses
import operator
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

from graphc.ir import frozen
from graphc.ir.graph import Graph, Value
from graphc.ir.types import Dim, TensorType


class Written:
    """What is declared, for either decorator."""

    name: str
    size: int = 3
    parts: tuple[int, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def double(self) -> int:
        return 2 * self.size


class Single:
    """One field."""

    number: float


class Shown:
    """With a text of its own."""

    number: float

    def __repr__(self) -> str:
        return f"<{self.number}>"


def both(written: type, **options: bool) -> list[type]:
    """Our class and that of the standard library."""
    copies = [type(written.__name__, (), dict(written.__dict__)) for _ in range(2)]
    makers = (frozen.dataclass, dataclasses.dataclass)
    return [make(frozen=True, slots=True, **options)(each) for make, each in zip(makers, copies, strict=True)]


CALLS = [
    lambda cls: cls("a"),
    lambda cls: cls("a", 4),
    lambda cls: cls("a", parts=(1,), size=2),
    lambda cls: cls(name="a", notes={"b": 1}),
    lambda cls: cls(),
    lambda cls: cls("a", 1, (), {}, {}),
    lambda cls: cls("a", memo={}),
    lambda cls: cls("a", other=1),
    lambda cls: cls("a", name="b"),
]


@pytest.mark.parametrize("call", CALLS)
def test_calls(call: Any) -> None:
    found = []
    for cls in both(Written):
        try:
            made = call(cls)
            found.append((repr(made), dataclasses.asdict(made), made.double, made.memo))
        except TypeError:
            found.append("refused")
    assert found[0] == found[1]


def test_every_call_gets_a_new_default() -> None:
    cls, _ = both(Written)
    one, other = cls("a"), cls("a")
    assert one.notes is not other.notes and one.memo is not other.memo


@pytest.mark.parametrize("options", [{}, {"order": True}, {"eq": False}, {"repr": False}])
@pytest.mark.parametrize("written", [Single, Shown])
def test_comparisons(written: type, options: dict[str, bool]) -> None:
    answers = []
    for cls in both(written, **options):
        one, same, other = cls(1.0), cls(1.0), cls(2.0)
        row: list[Any] = [one == one, one == same, one != other, one == 1.0, hash(one) == hash(same)]
        row += [len({one, same, other}), options.get("repr", True) and repr(one)]
        for left, right in ((one, other), (other, one), (one, same), (one, 1.0)):
            for compare in (operator.lt, operator.le, operator.gt, operator.ge):
                try:
                    row.append(compare(left, right))
                except TypeError:
                    row.append("refused")
        answers.append(row)
    assert answers[0] == answers[1]


def test_what_is_left_out_of_comparison_does_not_count() -> None:
    cls, _ = both(Written)
    one, other = cls("a"), cls("a")
    one.memo["seen"] = 1
    assert one == other and "seen" not in repr(one)


def test_nothing_can_be_changed() -> None:
    for cls in both(Written):
        made = cls("a")
        for change in (setattr, "name", "b"), (delattr, "name"), (setattr, "other", 1):
            with pytest.raises((FrozenInstanceError, TypeError)):  # the library's own raises TypeError for new names
                change[0](made, *change[1:])
        assert made.name == "a" and not hasattr(made, "__dict__")


def test_the_standard_library_takes_them_for_its_own() -> None:
    ours, theirs = (cls("a", 2, (1,), {"k": 1}) for cls in both(Written))
    assert dataclasses.is_dataclass(ours) and dataclasses.is_dataclass(type(ours))
    assert dataclasses.astuple(ours) == dataclasses.astuple(theirs)
    assert [each.name for each in dataclasses.fields(ours)] == [each.name for each in dataclasses.fields(theirs)]
    assert dataclasses.replace(ours, size=5).size == 5 and dataclasses.replace(ours, size=5).parts == (1,)
    with pytest.raises(ValueError, match="memo"):
        dataclasses.replace(ours, memo={})
    assert type(ours).__match_args__ == type(theirs).__match_args__ == ("name", "size", "parts", "notes")


def test_copies() -> None:
    for known in (TensorType("f32", (Dim("batch", 4), 3)), Dim("n")):
        for again in (copy.copy(known), copy.deepcopy(known), pickle.loads(pickle.dumps(known))):
            assert again == known and again is not known and type(again) is type(known)


def test_only_frozen_classes_with_slots() -> None:
    with pytest.raises(TypeError, match="frozen and have slots"):
        frozen.dataclass(frozen=False, slots=True)


def test_ours_are_made_this_way() -> None:
    assert TensorType.__doc__ and TensorType.__module__ == "graphc.ir.types"
    assert Value.__hash__ is object.__hash__ and Value.__eq__ is object.__eq__
    assert hash(Dim("a", 2)) == hash(Dim("a", 2)) and Dim("a", 2) < Dim("b", 1)
    assert Graph.__slots__ == ("name", "inputs", "outputs", "memo")


def test_the_first_use_can_be_in_two_threads() -> None:
    program = (
        "import threading\n"
        "from graphc.ir.types import Dim\n"
        "found = []\n"
        "threads = [threading.Thread(target=lambda: found.append(Dim('a', 3))) for _ in range(8)]\n"
        "[each.start() for each in threads], [each.join() for each in threads]\n"
        "assert found == [Dim('a', 3)] * 8"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
