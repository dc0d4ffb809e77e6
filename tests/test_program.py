"""The plan: one arena, lives that share bytes never overlap, and a verifier that notices."""

from __future__ import annotations

from dataclasses import replace

import graphs
import pytest

from graphc.ir import ops
from graphc.ir.graph import Graph, IRError, Output
from graphc.ir.passes import run_passes
from graphc.ir.program import is_private, plan, print_program, verify_program
from graphc.ir.types import ALIGNMENT, TensorType


def deep_chain(depth=8):
    """Products one after another: only two activations are alive at a time."""
    x = ops.input(name="x", role="data", type=TensorType("f32", (64, 64)))
    weights = [ops.input(name=f"w{k}", role="state", type=x.type) for k in range(depth)]
    value = x
    for weight in weights:
        value = ops.tanh(ops.dot(value, weight))
    return Graph("chain", (x, *weights), (Output("result", "out", value),))


def test_buffers_share_the_arena():
    program = plan(run_passes(deep_chain()), 32)
    total = sum(region.size for region in program.work.values())
    one = 64 * 64 * 4
    scratch = max(region.size for (nest, _), region in program.work.items() if nest >= 0)
    assert program.work_bytes < total / 2
    assert program.work_bytes <= 2 * one + 2 * scratch


def test_regions_are_aligned_and_large_enough():
    for make in graphs.PROGRAMS:
        program = plan(run_passes(make()), 32)
        for (_, buffer), region in program.work.items():
            assert region.offset % ALIGNMENT == 0 and region.size % ALIGNMENT == 0
            assert buffer.kind == "scratch" or region.size >= buffer.value.type.max_bytes
            assert region.offset + region.size <= (program.private_bytes if is_private(buffer) else program.work_bytes)


def test_live_buffers_that_share_bytes_are_noticed():
    program = plan(run_passes(deep_chain()), 32)
    moved = {key: replace(region, offset=0) for key, region in program.work.items()}
    with pytest.raises(IRError, match="share bytes"):
        verify_program(replace(program, work=moved))


def test_reading_before_writing_is_noticed():
    program = plan(run_passes(deep_chain()), 32)
    with pytest.raises(IRError, match="before it is written"):
        verify_program(replace(program, nests=program.nests[::-1], work={}))


def test_a_result_that_nothing_computes_is_noticed():
    program = plan(run_passes(deep_chain()), 32)
    with pytest.raises(IRError, match=r"nothing computes the results \['out'\]"):
        verify_program(replace(program, nests=program.nests[:-1], work={}))


def test_states_keep_their_own_memory():
    program = plan(run_passes(graphs.mlp()), 32)
    assert all(buffer.kind != "input" for _, buffer in program.work)
    assert program.graph.state_bytes >= sum(value.type.max_bytes for value in program.graph.of_role("state"))


def test_plan_prints_every_nest_and_check():
    program = plan(run_passes(graphs.mlp()), 32)
    text = print_program(program)
    assert all(nest.name in text for nest in program.nests)
    assert text.count("check:") == len(program.checks) == 1
    assert f"{program.work_bytes} bytes of work" in text
