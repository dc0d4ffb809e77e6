"""`step.explain()`: which formulas were made safe and on which lines, and what a value is."""

from __future__ import annotations

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
    assert "test_explain.py:16  powers / powers.sum(1, keepdims=True)" in text
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
    assert loss.startswith("loss: f32[], a result") and "test_explain.py:17  -gx.log(" in loss and "softmax(x" in loss
    assert "w: f32[5,3]" in weights and "test_explain.py:14" in weights and "read by dot" in weights
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
