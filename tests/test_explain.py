"""`step.explain()`: which formulas were made safe and on which lines, and what a value is."""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphc as gx


@pytest.fixture(scope="module")
def step():
    x, y = gx.input("x", gx.f32["batch", 5]), gx.input("y", gx.i64["batch"])
    w = gx.parameter("w", np.random.default_rng(0).normal(size=(5, 3)))
    powers = gx.exp(x @ w)
    shares = powers / powers.sum(1, keepdims=True)
    loss = -gx.log(shares[gx.arange(x.shape[0]), y]).mean()
    return gx.function([x, y], {"loss": loss}, updates={w: w - 0.1 * gx.grad(loss, w)})


def test_each_rule_is_told_once_with_its_reason_and_the_users_line(step):
    text = step.explain()
    assert text.startswith("function: ") and "formulas made safe" in text.splitlines()[0]
    assert text.count("=> softmax(x") == 1 and "overflows" in text
    assert "test_explain.py:18  powers / powers.sum(1, keepdims=True)" in text
    assert repr(text) == str(text)


def test_bodies_of_loops_are_looked_at():
    xs = gx.input("xs", gx.f32[4, 3])
    total, _ = gx.scan(lambda sum, x: (sum + gx.log(1 + gx.exp(x)), None), gx.zeros(3), xs)
    assert "softplus" in gx.function([xs], total).explain()


def test_nothing_to_tell():
    x = gx.input("x", gx.f32[3])
    assert gx.function([x], x + 1).explain() == "function: no formulas made safe"


def test_what_a_value_is(step):
    loss, weights, data = (str(step.explain(name)) for name in ("loss", "w", "x"))
    assert loss.startswith("loss: f32[], a result") and "test_explain.py:19  -gx.log(" in loss and "softmax(x" in loss
    assert "w: f32[5,3]" in weights and "test_explain.py:16" in weights and "read by kernel 0, dot" in weights
    assert data.startswith("x: f32[batch,5]")


def test_a_name_that_is_not_there(step):
    with pytest.raises(gx.TraceError, match="no result, input, parameter or scalar 'los'") as caught:
        step.explain("los")
    assert "did you mean loss?" in str(caught.value)


def test_a_summary_says_how_many(step):
    assert step.summary().splitlines()[-1] == "2 formulas made safe: function.explain()"
    x = gx.input("x", gx.f32[3])
    assert "made safe" not in gx.function([x], x + 1).summary()


def test_scalars_parameters_and_figures():
    net = gx.nn.Linear(3, 2)
    kinds = {"x": gx.f32["n", 3], "y": gx.i64["n"]}
    optimizer = gx.optim.SGD(net.parameters(), lr=0.25)
    train = gx.train_step(net, gx.nn.CrossEntropyLoss(), optimizer, **kinds, metrics=["accuracy"])
    assert f"{train.name}.set(lr=...) changes, now 0.25" in train.explain("lr")
    weight = train.explain("weight")
    assert "24 bytes of state, updated in place" in weight and "declared at test_explain.py" in weight
    assert train.explain("accuracy").startswith("accuracy: f")
    assert "24 bytes of state that are only read" in gx.predict_step(net, x=kinds["x"]).explain("weight")


# -- all about one value


class Net(gx.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = gx.nn.Linear(20, 16), gx.nn.Linear(16, 10)

    def forward(self, x):
        h = gx.relu(self.fc1(x))
        return gx.probe(self.fc2(h), "logits")


@pytest.fixture(scope="module")
def trained():
    net, kinds = Net(), {"x": gx.f32["batch", 20], "y": gx.i64["batch"]}
    return gx.train_step(net, gx.nn.CrossEntropyLoss(), gx.optim.Adam(net.parameters(), lr=0.25), **kinds)


def line_of(text):
    """The line of this file that holds a text."""
    with open(__file__, encoding="utf-8") as file:
        return next(number for number, line in enumerate(file, 1) if text in line)


def kernel_that(step, wanted):
    """The number and name of the first kernel of a step that is wanted."""
    return next((number, nest.name) for number, nest in enumerate(step.artifact.program.apart) if wanted(nest))


def leaves_result(name):
    return lambda nest: any(buffer.kind == "result" and buffer.name == name for buffer in nest.written())


def test_a_variable_by_the_name_it_has_in_the_program(trained):
    text = trained.explain("h")
    assert text.startswith("h: f32[batch,16], 64 KiB at most, forward pass, by relu\n  = relu(fc1)\n")
    assert f"test_explain.py:{line_of('h = gx.relu(self')}  gx.relu(self.fc1(x))" in text
    (found,) = [value for value in trained.artifact.program.graph.values() if value.op.name == "relu"]
    number, name = kernel_that(trained, lambda nest: any(buffer.value is found for buffer in nest.written()))
    assert f"computed by kernel {number}, {name}, of 0 to {len(trained.artifact.program.nests) - 1}" in text
    (region,) = [region for (_, buffer), region in trained.artifact.program.work.items() if buffer.value is found]
    assert f"kept in the arena at {region.offset:,}, {region.size:,} bytes" in text
    assert f"from kernel {region.first} to {region.last}" in text
    readers = [nest for nest in trained.artifact.program.apart if any(each.value is found for each in nest.read())]
    assert all(nest.name in text.partition("read by ")[2] for nest in readers)


def test_a_gradient_and_how_it_came_to_be(trained):
    text = trained.explain("grad of fc1.weight")
    assert text.startswith("gradient of fc1.weight: f32[16,20]") and "  = d_fc1.T @ x" in text
    assert "in module fc1, Linear" in text and "backward pass" in text
    rules = ("every `gradient` op becomes", "a product that is only read transposed", "stop_gradient(x) => x")
    places = [text.index(rule) for rule in rules]
    assert places == sorted(places)
    assert "never in memory, computed inside of kernel" in text
    assert trained.explain("grad of h").splitlines()[1:] == trained.explain("d_h").splitlines()[1:]


def test_gradients_of_several_losses_are_all_told():
    x, w = gx.input("x", gx.f32["batch", 300]), gx.parameter("w", np.ones((300, 300), np.float32))
    hidden = gx.tanh(x @ w)
    slopes = [gx.grad(loss, w) for loss in (hidden.sum(), (hidden * hidden).sum())]
    function = gx.function([x], {"one": slopes[0], "other": slopes[1]})
    text = function.explain("grad of w")
    assert text.count("gradient of w: f32[300,300]") == 2
    assert "handed out as one" in text and "handed out as other" in text


def test_states_of_an_optimizer_have_slots(trained):
    names = list(trained.parameters)
    text = trained.explain("fc1.weight.exp_avg")
    assert f"state {names.index('fc1.weight.exp_avg')} of 0 to {len(names) - 1}" in text
    assert "1,280 bytes of state, updated in place" in text and "written over fc1.weight.exp_avg" in text
    assert "its gradient: train_step.explain('grad of fc1.weight')" in trained.explain("fc1.weight")


def test_what_a_probe_looks_at(trained):
    text = trained.explain("logits")
    number, name = kernel_that(trained, leaves_result("probe logits"))
    assert text.startswith("logits: f32[batch,10], looked at by a probe: train_step.probes['logits'] after a call")
    assert f"computed by kernel {number}, {name}" in text and "handed out as logits" in text


def test_a_value_of_the_text_of_the_graph(trained):
    number = next(line.split(":")[0].strip() for line in trained.text("graph").splitlines() if " = exp(" in line)
    assert trained.explain(number).startswith(f"{number}: f32[batch,10]") and "by exp" in trained.explain(number)


def test_what_was_rewritten_is_told_with_its_reason(step):
    loss = step.explain("loss")
    assert "  = -" in loss and "logarithm" in loss and "overflows" in loss
    x = gx.input("x", gx.f32[3])
    (line,) = [each for each in gx.function([x], {"y": x + 0}).explain("y").splitlines() if "x + 0 => x" in each]
    assert line == "  rewritten: x + 0 => x (tidy)"


def test_all_values_of_a_line(trained):
    number = line_of("h = gx.relu(self")
    text = trained.explain(f"test_explain.py:{number}")
    assert text.splitlines()[0] == f"test_explain.py:{number}  h = gx.relu(self.fc1(x))"
    assert re.search(r"^    h: f32\[batch,16\] = relu\(fc1\)  \(kernel \d+\)$", text, re.M)
    assert text.index("  forward:") < text.index("  backward:") < text.index("  what was done:")
    assert re.search(r"made as the derivative of relu \(expand_gradients\)  ×\d", text)
    assert trained.explain(number) == trained.explain(str(number)) == text
    with pytest.raises(gx.TraceError, match=r"nothing of train_step is computed at test_explain\.py:1\n") as caught:
        trained.explain("test_explain.py:1")
    assert f"it is at test_explain.py:{number}" in str(caught.value)


def test_names_that_are_nearly_right(trained):
    for wrong, meant in (("d_fc", "d_fc1"), ("grad of fc1.wight", "grad of fc1.weight"), ("logit", "logits")):
        with pytest.raises(gx.TraceError, match="has no result") as caught:
            trained.explain(wrong)
        assert f"did you mean {meant}" in str(caught.value)
    with pytest.raises(gx.TraceError, match="train_step computes no gradient of y") as caught:
        trained.explain("grad of y")
    assert "it does of" in str(caught.value)


def test_values_inside_of_loops():
    xs, w = gx.input("xs", gx.f32[9, 3]), gx.parameter("w", np.ones(3, np.float32))
    total, _ = gx.scan(lambda sum, x: (gx.tanh(sum * w + x), None), gx.zeros(3), xs)
    function = gx.function([xs], {"total": total})
    text = function.explain(line_of("gx.tanh(sum * w"))
    assert re.search(r"tanh\(\w+ \* w \+ xs\[step\]\)  \(kernel \d+\.0\)", text)
    assert "read by kernel" in function.explain("xs")
