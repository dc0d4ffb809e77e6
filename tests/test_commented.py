"""`step.source()`: kernels under comments in the user's names, formulas people read, and the function of the calls."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.commented import kernel_texts
from graphc.ir.formulas import formula
from graphc.naming import Naming
from graphc.picture import page

BATCH = gx.dim("batch", max=64)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(20, 16), nn.Linear(16, 10)

    def forward(self, x):
        h = gx.relu(self.fc1(x))
        return self.fc2(h)


@pytest.fixture(scope="module")
def step():
    net = Net()
    kinds = {"x": gx.f32[BATCH, 20], "y": gx.i64[BATCH]}
    return gx.train_step(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1), **kinds, metrics=["accuracy"])


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        h = self.norm(x)
        return x + gx.relu(self.mlp(h))


@pytest.fixture(scope="module")
def deep():
    return gx.predict_step(nn.Sequential(*(Block() for _ in range(4))), x=gx.f32[BATCH, 8])


def without_comments(text):
    return "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))


def comments(step):
    """The comments of the calling function."""
    return re.findall(r"^ +# (.*)$", step.source().rpartition("\ndef ")[2], re.M)


# -- formulas


@pytest.fixture(scope="module")
def x():
    return gx.input("x", gx.f32[BATCH, 6])


FORMULAS = {
    "x * 2 + 1": lambda x: x * 2 + 1,
    "(x + 1) * 2": lambda x: (x + 1) * 2,
    "x - (x + 1)": lambda x: x - (x + 1),
    "x + 1 + 2": lambda x: (x + 1) + 2,
    "x / (x * 2)": lambda x: x / (x * 2),
    "-(x + 1)": lambda x: -(x + 1),
    "(x * x) ** 2.5": lambda x: (x * x) ** 2.5,
    "(x @ x.T) * 2": lambda x: (x @ x.T) * 2,
    "x @ (x.T @ x)": lambda x: x @ (x.T @ x),
    "x @ x.T + 1": lambda x: x @ x.T + 1,
    "(x < 1) & (0 <= x)": lambda x: (x < 1) & (x >= 0),
    "where(x == 0, 1, exp(x))": lambda x: gx.where(x == 0, 1.0, gx.exp(x)),
    "sum(x, axis=1)": lambda x: x.sum(1),
    "max(x)": lambda x: x.max(),
    "x / sum(x, axis=1)": lambda x: x / x.sum(1, keepdims=True),
    "x[:, 1:4]": lambda x: x[:, 1:4],
    "x[:, 0::2]": lambda x: x[:, ::2],
    "i64(x)": lambda x: x.to(gx.i64),
    "cumsum(x, axis=1)": lambda x: gx.cumsum(x, 1),
}


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_say_what_is_computed(text, x):
    value = gx.function([x], FORMULAS[text](x)).traced.outputs[0].value
    names = {each: each.attrs["name"] for each in (value, *value.operands) if "name" in each.attrs}
    assert formula(value, names) == text


def test_formulas_that_python_reads_are_right(x, rng):
    """What consists of operators alone is what Python computes of it."""
    array = rng.normal(size=(5, 6)).astype(np.float32)
    for text, made in FORMULAS.items():
        if "(x, " not in text and not re.search(r"[a-z]\w*\((?!x [<@+-])", text):
            function = gx.function([x], made(x))
            value = function.traced.outputs[0].value
            found = eval(formula(value, {}), {"x": array})
            np.testing.assert_allclose(function(array), found, rtol=1e-5, err_msg=text)


def test_long_formulas_are_cut(x):
    y = x
    for number in range(40):
        y = gx.exp(y * number) + gx.tanh(y)
    value = gx.function([x], y).traced.outputs[0].value
    for room in (30, 60, 88):
        text = formula(value, {}, room)
        assert "…" in text and len(text) <= room + 12 and text.count("(") == text.count(")")


# -- names


def test_values_have_the_names_they_have_in_the_program(step):
    names = Naming(step, step.artifact.program)
    found = set(names.values())
    assert {"x", "y", "fc1_weight", "fc1_bias", "fc2_weight", "lr", "loss", "accuracy", "h", "fc1", "fc2"} <= found
    assert {"d_h", "d_fc1", "d_fc2", "d_fc1_weight", "d_fc2_bias", "violations"} <= found
    assert len(found) == len(names) and all(name.isidentifier() for name in found)
    (h,) = [value for value, name in names.items() if name == "h"]
    assert h.op.name == "relu" and str(h.origin).startswith("test_commented.py")


def test_names_that_begin_with_a_number_or_are_taken():
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    first, second = gx.input("lambda", gx.f32[BATCH, 8]), gx.input("a b", gx.f32[BATCH, 8])
    step = gx.function([first, second], {"linear_0": net(first), "a_b": net(second)})
    head = step.source().rpartition("\ndef ")[2].partition("\n")[0]
    assert head == "function(lambda_, a_b, layer_0_weight, layer_0_bias, layer_2_weight, layer_2_bias):"
    ast.parse(step.source())
    assert "return linear_0, a_b_2" in step.source()


def test_a_variable_that_several_modules_assign_to_names_none_of_them(deep):
    names = set(Naming(deep, deep.artifact.program).values())
    assert {"block_0", "block_1", "block_0_norm", "block_3_norm"} <= names and not {"h", "h_2"} & names


def test_variables_of_a_program_without_modules():
    x = gx.input("x", gx.f32[BATCH, 300])
    w, v = (gx.parameter(name, np.ones((300, 300), np.float32)) for name in "wv")
    hidden = gx.tanh(x @ w)
    loss = (hidden @ v).sum()
    step = gx.function([x], loss, updates={w: w - 0.1 * gx.grad(loss, w)})
    assert "hidden = tanh(x @ w)   test_commented.py" in step.source()
    assert any(line.startswith("w -= 0.1 * ") for line in comments(step))


# -- comments


def test_comments_are_all_that_is_added_to_kernels(step):
    texts = kernel_texts(step)
    assert {name: without_comments(text) for name, text in texts.items()} == {
        kernel.name: kernel.text for kernel in step.artifact.kernels
    }


def test_the_page_shows_them(step):
    assert page.details(step)["sources"] == kernel_texts(step)


def test_every_loop_that_leaves_something_is_under_a_formula(step):
    program = step.artifact.program
    for name in (each.kernel.name for each in step.artifact.sources):
        lines = kernel_texts(step)[name].splitlines()
        assert lines[0].startswith("# kernel ")
        outer = [number for number, line in enumerate(lines) if re.match(r"    for ", line)]
        assert outer and all(lines[number - 1].startswith("    # ") for number in outer), name
    assert len(program.nests) == len(re.findall(r"^# kernel \d+, over", step.source(), re.M))


def test_stores_of_a_row_of_few_numbers_have_one_comment():
    x, w = gx.input("x", gx.f32[gx.dim("batch", max=8), 3]), gx.parameter("w", [1.0, 2.0, 3.0])
    step = gx.function([x], updates={w: w - gx.grad((x @ w).sum(), w)})
    (kernel,) = (text for text in step.source().split("\n\n\n") if text.startswith("# kernel"))
    assert kernel.count("# w -= ") == 1 and kernel.count("store(state0") == 3


def test_formulas_and_lines_stand_over_the_calls(step):
    found = comments(step)
    assert any(
        re.fullmatch(r"h = relu\(x @ fc1_weight\.T \+ fc1_bias\)   test_commented\.py:\d+", each) for each in found
    )
    assert any(each.startswith("fc1_weight -= lr * (d_fc1.T @ x)   test_commented.py") for each in found)
    assert any(each.startswith("d_fc1 = where(") for each in found)


def test_source_is_python_in_which_every_name_of_memory_is_known(step, deep):
    for each in (step, deep):
        tree = ast.parse(each.source())
        (calling,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == each.name]
        known = {argument.arg for argument in calling.args.args}
        known |= {
            node.id for node in ast.walk(calling) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        scratch = {"tile", "panel", "sums", "row", "parts", "turned"}
        words = {"new", "arena", "shares", "check", "copy", "threads", "range", "batch"}
        used = {node.id for node in ast.walk(calling) if isinstance(node, ast.Name)}
        assert used <= known | defined | scratch | words


def test_equal_layers_share_their_kernels_whatever_they_are_called(deep):
    program = deep.artifact.program
    texts = {each.kernel.name for each in deep.artifact.sources}
    assert len(texts) < len(program.nests)
    assert re.search(r"^# kernel 0, over \[batch, 8\]; also kernel 2, ", deep.source(), re.M)
    other = gx.predict_step(nn.Sequential(*(Block() for _ in range(4))), x=gx.f32[BATCH, 8])
    assert other.artifact.key == deep.artifact.key


def test_memory_that_changes_hands_has_both_names():
    step = gx.predict_step(nn.Sequential(*(Block() for _ in range(3))), x=gx.f32[1024, 8])
    text = step.source()
    assert re.search(r"^    block_1 = block_0  # from kernel \d+ on, in its place$", text, re.M)
    assert any(each.startswith("block_1 = block_0 + relu(block_1_norm @ ") for each in comments(step))
    assert any(each.startswith("result = block_1 + relu(") for each in comments(step))


def test_loops_are_in_the_names_of_what_is_outside():
    xs, w = gx.input("xs", gx.f32[9, 3]), gx.parameter("w", np.ones(3, np.float32))
    total, _ = gx.scan(lambda sum, x: (gx.tanh(sum * w + x), None), gx.zeros(3), xs)
    text = gx.function([xs], total).source()
    ast.parse(text)
    assert "tanh(" in text and re.search(r"# (\w+) = tanh\(\1 \* w \+ xs\[step\]\)   test_commented.py", text)
    assert re.search(r"^    (\w+) = copy\(\w+\)\n    for step in range\(9\):", text, re.M)


def test_steps_on_a_gpu(gpu):
    net = Net()
    kinds = {"x": gx.f32[BATCH, 20], "y": gx.i64[BATCH]}
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    text = gx.train_step(net, nn.CrossEntropyLoss(), optimizer, **kinds, device="cuda").source()
    ast.parse(text)
    assert re.search(r"^# launch 1, over \[batch, 16\]", text, re.M)
    assert text.count("h = relu(x @ fc1_weight.T + fc1_bias)   test_commented.py") >= 2
