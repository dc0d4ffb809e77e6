"""Programs in parts: what two have in common is compiled once, whoever comes first."""

from __future__ import annotations

from typing import Any

import graphs
import numpy as np
import pytest
from test_codegen import outcome

from graphc.backends import artifact, target
from graphc.backends.cache import RARELY, Cache
from graphc.backends.lower import lower
from graphc.backends.primitives import Kernel
from graphc.backends.target import TARGETS, build_unit
from graphc.backends.units import cut
from graphc.ir.passes import run_passes


def modules(program: Any, **shapes: int) -> list[str]:
    made = artifact.draw(run_passes(program(**shapes)))
    return [made.entry, *map(lower, made.kernels), target.spin_hint(target.host())]


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are compiled from now on."""
    texts: list[str] = []

    def note(text: str, machine: target.Target) -> bytes:
        texts.append(text)
        return build_unit(text, machine)

    monkeypatch.setattr(target, "build_unit", note)
    return texts


def test_each_function_is_in_one_unit() -> None:
    """Visible in it, that is; what is copied into callers is hidden in each of theirs."""
    units = cut(modules(graphs.mlp), ["step", "epoch"])
    heads = [line for unit in units for line in unit.text.splitlines() if line.startswith("define ")]
    visible = [head for head in heads if not head.startswith("define internal ")]
    assert len(visible) == len(set(visible)) == len(units) + 1  # the last one has both `step` and `epoch`
    assert all("alwaysinline" not in head for head in visible)
    assert [unit.is_common for unit in units] == [True] * (len(units) - 1) + [False]
    assert "@nest_0" not in "".join(unit.text for unit in units)


def test_equal_parts_of_different_programs_are_equal_units() -> None:
    """Nets of two widths share the loss and what loads batches; products go by their sizes."""
    texts = [{unit.text for unit in cut(modules(graphs.mlp, hidden=n), ["step", "epoch"])} for n in (32, 48)]
    shared = texts[0] & texts[1]
    assert any("@shuffle(" in text for text in shared)
    assert any("@max_sub_" in text for text in shared), "the loss is the same"
    assert texts[0] - shared and texts[1] - shared


def test_a_second_program_compiles_only_what_is_new(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, store = compilations(monkeypatch), Cache(tmp_path)
    for hidden, new in ((32, None), (48, 0), (32, 0)):
        texts.clear()
        parts = [{unit.text for unit in cut(modules(graphs.mlp, hidden=n), ["step", "epoch"])} for n in (32, hidden)]
        artifact.build(run_passes(graphs.mlp(hidden=hidden)), store)
        expected = parts[1] if new is None else parts[1] - parts[0]
        assert sorted(texts) == sorted(expected)


@pytest.mark.parametrize("program", graphs.PROGRAMS, ids=lambda program: program.__name__)
def test_units_compute_what_one_module_does(
    program: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    graph, arrays = run_passes(program()), graphs.arrays(program, 37, rng)
    in_units = outcome(graph, arrays, Cache(tmp_path / "units"), "direct")

    def as_one(entry: str, kernels: Any, exports: Any, *_: Any) -> bytes:
        from graphc.backends.link import link_shared_object

        whole = target.build([entry, *map(lower, kernels)], exports, target.host())
        return link_shared_object([whole], exports, "whole.so")

    monkeypatch.setattr(artifact, "compile_kernels", as_one)
    assert outcome(graph, arrays, Cache(tmp_path / "one"), "direct") == in_units


def test_functions_apart_may_call_each_other() -> None:
    inner = Kernel("inner", "def inner(v):\n    return v + v\n", (("v", "f32x16"),), "f32x16", inline=False)
    text = "def outer(p):\n    store_lanes(p, 0, inner(load_lanes(p, 0)))\n"
    outer = Kernel("outer", text, (("p", "f32*"),), calls=(inner,), inline=False)
    units = cut([lower(inner), lower(outer)], ["outer"])
    assert ["declare <16 x float> @inner(<16 x float>)" in unit.text for unit in units] == [False, True]
    for machine in TARGETS.values():
        assert all(build_unit(unit.text, machine) for unit in units)


def test_small_pieces_are_put_without_a_look_at_the_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    store = Cache(tmp_path)
    monkeypatch.setattr("graphc.backends.cache._remove_abandoned", lambda folder: looks.append(1))
    for number in range(4 * RARELY):
        store.put("object", Cache.key(str(number)), b"piece")
        store._written_size = None  # as in a new process
    assert 0 < len(looks) < RARELY
    Cache(tmp_path, limit=100).put("object", Cache.key("large"), b"piece")
    assert Cache(tmp_path).size() <= 100
