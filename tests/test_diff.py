"""`step.diff()`: what passes did, each change under the rule that did it, as text, in colours, and as HTML."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.ir.passes import PIPELINE, followed
from graphc.ir.text import print_graph
from graphc.ir.trail import every_value

BATCH = gx.dim("batch", max=64)


def mlp():
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10))
    kinds = {"x": gx.f32[BATCH, 20], "y": gx.i64[BATCH]}
    return gx.train_step(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1), **kinds, metrics=["accuracy"])


@pytest.fixture(scope="module")
def trained():
    return mlp()


@pytest.fixture(scope="module")
def naive():
    x = gx.input("x", gx.f32["batch", 3])
    powers = gx.exp(x + 0)
    shares = powers / powers.sum(1, keepdims=True)
    return gx.function([x], {"logs": gx.log(shares), "twice": (x + 0) * 2})


def rules_of(found, kind):
    return {rule for group in found.groups for rule in group.rules if any(each.kind == kind for each in group.entries)}


def entries_under(found, rule):
    return [entry for group in found.groups if rule in group.rules for entry in group.entries]


def test_text_of_a_small_difference(naive, golden):
    golden("diff.txt", str(naive.diff("trace", "fuse")))


def test_an_addition_of_nothing_is_named_with_the_line_of_the_user(naive):
    (entry,) = entries_under(naive.diff("trace", "graph"), "x + 0 => x")
    assert entry.kind == "rewritten" and entry.text.endswith("→  %x") and str(entry.origin) == "test_diff.py:34"


def test_what_is_computed_already_is_merged(trained):
    """Loss and accuracy both look for the largest logit: the second time, behind a stop_gradient that goes."""
    (group,) = [
        each
        for each in trained.diff("autodiff", "graph").groups
        if each.rules == ("computed already",) and each.step == "tidy"
    ]
    assert {entry.kind for entry in group.entries} == {"merged"}
    (entry,) = [entry for entry in group.entries if " = max(" in entry.text]
    kept = entry.text.partition("  →  ")[2]
    assert re.search(rf"^  {kept}: .* = max\(", trained.text("graph"), re.M)


def test_a_logarithm_of_a_softmax_is_named_with_its_reason(naive):
    found = naive.diff("merge_views", "stabilise")
    assert "log(x / y) => log(x) - log(y)" in rules_of(found, "rewritten")
    (entry,) = [entry for entry in found.entries if entry.kind == "rewritten" and " = log(" in entry.text]
    assert "→  " in entry.text and entry.text.split("→  ")[1].partition(" = ")[2].startswith("sub(")
    assert "overflows" in str(found) and str(entry.origin) == "test_diff.py:36"


def test_what_nobody_reads_is_removed_by_the_pass_that_took_its_reader(naive):
    found = naive.diff("trace", "stabilise")
    (group,) = [
        group for group in found.groups if "nobody reads it any more" in group.rules and group.step == "stabilise"
    ]
    assert {entry.kind for entry in group.entries} == {"removed"}
    assert any(" = div(" in entry.text for entry in group.entries)


def test_gradients_are_told_by_what_they_are_derivatives_of(trained):
    found = trained.diff("trace", "autodiff")
    assert "derivative of relu" in rules_of(found, "added") and "derivative of dot" in rules_of(found, "added")
    wanted = [entry.text for entry in found.entries if " = gradient(" in entry.text]
    assert len(wanted) == 4 and all("→  %" in text for text in wanted)


def test_values_of_a_difference_add_up(trained):
    """What is there after is what was there before and stayed, and what was added; names are those of the texts."""
    stages = list(trained.stages)
    for first, last in ((0, len(stages) - 1), (3, 6), (7, 8)):
        found = trained.diff(stages[first], stages[last])
        graphs = [trained.stages[name] for name in (stages[first], stages[last])]
        before, after = (len(list(every_value(graph))) for graph in graphs)
        assert f"{before} values become {after}" in found.title
        lines = [{line.strip() for line in trained.text(name).splitlines()} for name in (stages[first], stages[last])]
        for entry in found.entries:
            old, _, _ = entry.text.partition("  →  ")
            assert old in lines[entry.kind == "added"] or " = " not in old
        count = Counter(entry.kind for entry in found.entries)
        new = {entry.text.partition("  →  ")[2] for entry in found.entries if entry.kind == "rewritten"}
        stayed = before - count["removed"] - count["merged"] - count["rewritten"]
        assert after == stayed + count["added"] + sum(" = " in each for each in new)


def test_a_trail_changes_nothing():
    step = mlp()
    trail = followed(step.traced)
    assert [stage.name for stage in trail.stages] == ["trace", *(each.__name__ for each in PIPELINE)]
    for stage in trail.stages:
        assert print_graph(stage.graph) == step.text(stage.name)


def test_fusion_says_which_values_went_into_which_kernel(trained):
    found = trained.diff("autodiff", "fuse")
    program = trained.artifact.program
    assert len(found.kernels) == len(program.nests) and str(found).count("  kernel ") == len(program.nests)
    assert found.kernels[0].title.startswith(f"kernel 0: {program.apart[0].name} over [")
    assert "%x" in found.kernels[0].read and "0.weight" in " ".join(found.kernels[0].read)
    assert any("result loss" in kernel.written for kernel in found.kernels)
    assert not trained.diff("trace", "graph").kernels
    assert len(str(trained.diff("trace", "fuse")).splitlines()) < 200


def test_values_inside_of_loops_are_told():
    xs = gx.input("xs", gx.f32[4, 3])
    total, _ = gx.scan(lambda sum, x: (sum + gx.log(1 + gx.exp(x)) + 0, None), gx.zeros(3), xs)
    found = gx.function([xs], [total, gx.grad(total.sum(), xs)]).diff("trace", "graph")
    (entry,) = [entry for entry in entries_under(found, "x + 0 => x") if "add(" in entry.text]
    assert entry.text.startswith("in %1: %")
    assert {"log(1 + x) => log1p(x)", "log1p(x) => softplus(log(x))"} <= rules_of(found, "rewritten") | rules_of(
        found, "added"
    )
    assert "derivative of softplus" in rules_of(found, "added")


def test_what_two_loops_share_is_told_once():
    """The loop of the gradients takes the steps of an LSTM again: no value is merged with itself."""
    layer = nn.LSTM(6, 5)
    kinds = {"x": gx.f32[4, BATCH, 6], "y": gx.f32[4, BATCH, 5]}
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    step = gx.train_step(lambda x: layer(x)[0], nn.MSELoss(), optimizer, **kinds)
    values = [*every_value(step.artifact.program.graph)]
    assert len(values) == len(set(values))
    assert "none of them changed" in step.diff("place_copies", "fuse").title
    found = step.diff("trace", "graph")
    told = [entry.text for entry in found.entries if entry.kind == "rewritten"]
    assert told and len(told) == len(set(told))


def test_a_transformer_has_a_difference_too():
    net = nn.Sequential(nn.Embedding(11, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 11))
    step = gx.predict_step(net, x=gx.i64[BATCH, 6])
    found = step.diff("trace", "fuse")
    assert found.kernels and found.entries and "more" not in found.title
    assert any(entry.origin.module.startswith("1.") for entry in found.entries if entry.origin)


def test_colours_are_for_terminals_and_can_be_switched_off(naive, monkeypatch, capsys):
    found = naive.diff("trace", "graph")
    assert "\x1b[" in found.text(color=True) and "\x1b[" not in str(found) == found.text(color=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert str(found) == found.text(color=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in str(found)


def test_html_holds_all_and_nothing_that_is_not_escaped(trained, tmp_path):
    found = trained.diff("trace", "fuse")
    page = found.to_html(tmp_path / "diff.html")
    assert (tmp_path / "diff.html").read_text() == page and page.startswith("<!doctype html>")
    assert page.count('<tr class="added"') == sum(entry.kind == "added" for entry in found.entries)
    assert "stop_gradient(x) =&gt; x" in page and "http" not in page
    assert found._repr_html_() in page


def test_stages_that_are_not_there_or_in_the_wrong_order(naive):
    with pytest.raises(gx.ArgumentError, match="pass_b is 'fused'") as caught:
        naive.diff("trace", "fused")
    assert "did you mean fuse?" in str(caught.value)
    with pytest.raises(gx.ArgumentError, match="'graph' comes after 'autodiff'") as caught:
        naive.diff("graph", "autodiff")
    assert "did you mean function.diff('autodiff', 'graph')?" in str(caught.value)
    assert "none of them changed" in naive.diff("graph", "graph").title


def test_where_nothing_is_to_be_done():
    x = gx.input("x", gx.f32[3])
    function = gx.function([x], np.float32(2) * x)
    assert function.diff("trace", "graph").title.endswith("none of them changed")
