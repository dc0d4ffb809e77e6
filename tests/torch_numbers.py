"""Writes the numbers the tests compare with: values and gradients, and short trainings, as PyTorch computes them.

Run by hand where PyTorch is installed: `python tests/torch_numbers.py`. It makes two files in tests/golden:

torch_numbers.npz    for each case, named by a call in graph text: "<call>|<operand>" the operands, "<call>|value" the
                     result, "<call>|gradient <operand>" d sum(result * weights) / d operand with the weights of
                     `cotangent`; f32
torch_training.npz   a network 12-16-5 of two linear layers with a ReLU between, mean cross entropy, 20 steps over as
                     many batches of 10: "x" f32 (20, 10, 12), "labels" i64 (20, 10), "initial <parameter>", and for
                     each optimizer "<optimizer> losses" f32 (20,), each before its update, and
                     "<optimizer> <parameter>" after the last
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

GOLDEN = Path(__file__).parent / "golden"
STEPS, BATCH, FEATURES, HIDDEN, CLASSES = 20, 10, 12, 16, 5

SMOOTH = [-2.0, -1.25, -0.5, -0.125, 0.25, 0.75, 1.5, 3.0]
EDGES = [-2.0, -0.5, 0.0, 0.5, 2.0, 30.0, -30.0, 1e-3]
POSITIVE = [0.01, 0.1, 0.5, 1.0, 1.5, 2.0, 7.0, 100.0]
MATRIX = [[1.5, -0.5, 0.25, 2.0], [-1.0, 0.75, -2.0, 0.125], [0.5, 3.0, -0.25, 1.0]]
TIED = [[1.0, 2.0, 2.0, -1.0], [3.0, 3.0, 3.0, 3.0], [-1.0, -2.0, 0.0, -2.0]]
ZEROS = [[1.5, 0.0, 0.25, 2.0], [0.0, 0.75, 0.0, 0.125], [0.5, 3.0, -0.25, 1.0]]
UNIT = [-0.9, -0.5, -0.25, -0.01, 0.01, 0.25, 0.5, 0.9]
ABOVE_ONE = [1.01, 1.1, 1.5, 2.0, 3.0, 7.0, 100.0, 1e4]
OTHER = [2.0, -1.25, 0.5, 1.0, 0.25, -3.0, 1.5, 0.125]

# call in graph text -> (what PyTorch calls it, operands)
CASES = {
    "neg(%a)": (torch.neg, [EDGES]),
    "exp(%a)": (torch.exp, [SMOOTH]),
    "expm1(%a)": (torch.expm1, [EDGES[:5]]),
    "log(%a)": (torch.log, [POSITIVE]),
    "log1p(%a)": (torch.log1p, [POSITIVE]),
    "sqrt(%a)": (torch.sqrt, [POSITIVE]),
    "tanh(%a)": (torch.tanh, [EDGES]),
    "sin(%a)": (torch.sin, [SMOOTH]),
    "cos(%a)": (torch.cos, [SMOOTH]),
    "tan(%a)": (torch.tan, [SMOOTH]),
    "asin(%a)": (torch.asin, [UNIT]),
    "acos(%a)": (torch.acos, [UNIT]),
    "atan(%a)": (torch.atan, [EDGES]),
    "atan2(%a, %b)": (torch.atan2, [SMOOTH, OTHER]),
    "sinh(%a)": (torch.sinh, [SMOOTH]),
    "cosh(%a)": (torch.cosh, [SMOOTH]),
    "asinh(%a)": (torch.asinh, [EDGES]),
    "acosh(%a)": (torch.acosh, [ABOVE_ONE]),
    "atanh(%a)": (torch.atanh, [UNIT]),
    "exp2(%a)": (torch.exp2, [SMOOTH]),
    "log2(%a)": (torch.log2, [POSITIVE]),
    "log10(%a)": (torch.log10, [POSITIVE]),
    "erf(%a)": (torch.erf, [EDGES]),
    "relu(%a)": (torch.relu, [EDGES]),
    "absolute(%a)": (torch.abs, [EDGES]),
    "sign(%a)": (torch.sign, [EDGES]),
    "floor(%a)": (torch.floor, [EDGES]),
    "ceil(%a)": (torch.ceil, [EDGES]),
    "trunc(%a)": (torch.trunc, [EDGES]),
    "rint(%a)": (torch.round, [EDGES]),
    "fmod(%a, %b)": (torch.fmod, [SMOOTH, OTHER]),
    "sigmoid(%a)": (torch.sigmoid, [EDGES]),
    "softplus(%a)": (F.softplus, [EDGES]),
    "add(%a, %b)": (torch.add, [SMOOTH, OTHER]),
    "sub(%a, %b)": (torch.sub, [SMOOTH, OTHER]),
    "mul(%a, %b)": (torch.mul, [SMOOTH, OTHER]),
    "div(%a, %b)": (torch.div, [SMOOTH, OTHER]),
    "maximum(%a, %b)": (torch.maximum, [SMOOTH, [-2.0, 1.0, -1.0, -0.125, 0.25, 0.5, 2.0, 3.0]]),
    "minimum(%a, %b)": (torch.minimum, [SMOOTH, [-2.0, 1.0, -1.0, -0.125, 0.25, 0.5, 2.0, 3.0]]),
    "pow(%a, %b)": (torch.pow, [POSITIVE, OTHER]),
    "pow(%a, %c)": (
        lambda a, c: torch.pow(a, c.detach()),
        [[-2.0, -1.5, 0.0, 0.0, 0.0, 0.0, 1.0, 3.0], [3.0, 2.0, 0.0, 1.0, 2.0, 3.0, 0.0, -2.0]],
    ),
    "sum(%a, axes=(1,))": (lambda a: a.sum(1, keepdim=True), [MATRIX]),
    "sum(%a, axes=(0, 1,))": (lambda a: a.sum((0, 1), keepdim=True), [MATRIX]),
    "prod(%a, axes=(1,))": (lambda a: a.prod(1, keepdim=True), [MATRIX]),
    "prod(%z, axes=(1,))": (lambda z: z.prod(1, keepdim=True), [ZEROS]),
    "max(%a, axes=(1,))": (lambda a: a.amax(1, keepdim=True), [MATRIX]),
    "max(%t, axes=(1,))": (lambda t: t.amax(1, keepdim=True), [TIED]),
    "min(%t, axes=(0,))": (lambda t: t.amin(0, keepdim=True), [TIED]),
    "broadcast(%a, shape=(3, 8,))": (lambda a: a.expand(3, 8), [[SMOOTH]]),
    "transpose(%a, permutation=(1, 0,))": (lambda a: a.T, [MATRIX]),
    "reshape(%a, shape=(2, 6,))": (lambda a: a.reshape(2, 6), [MATRIX]),
    "dot(%a, %b)": (torch.matmul, [MATRIX, np.transpose(TIED).tolist()]),
}

OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "nesterov": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "dampening": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.1),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
    "adam weight decay": lambda parameters: torch.optim.Adam(parameters, lr=1e-2, weight_decay=1e-2),
}


def cotangent(shape: tuple[int, ...]) -> np.ndarray:
    """Weights of a result's elements, all different: 0.5 to 1.5 in row-major order, f32."""
    return np.linspace(0.5, 1.5, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def ops_numbers() -> dict[str, np.ndarray]:
    stored = {}
    for call, (function, lists) in CASES.items():
        names = [part[0] for part in call.split("%")[1:]]
        operands = [torch.tensor(numbers, dtype=torch.float32, requires_grad=True) for numbers in lists]
        value = function(*operands)
        (value * torch.from_numpy(cotangent(tuple(value.shape)))).sum().backward()
        stored[f"{call}|value"] = value.detach().numpy()
        for name, operand in zip(names, operands, strict=True):
            stored[f"{call}|{name}"] = operand.detach().numpy()
            if operand.grad is not None:
                stored[f"{call}|gradient {name}"] = operand.grad.numpy()
    return stored


def network(initial: dict[str, torch.Tensor]) -> torch.nn.Module:
    model = torch.nn.Sequential()
    model.add_module("fc1", torch.nn.Linear(FEATURES, HIDDEN))
    model.add_module("relu", torch.nn.ReLU())
    model.add_module("fc2", torch.nn.Linear(HIDDEN, CLASSES))
    if initial:
        model.load_state_dict(initial)
    return model


def training_numbers() -> dict[str, np.ndarray]:
    torch.manual_seed(1)
    initial = {name: weight.clone() for name, weight in network({}).state_dict().items()}
    x = torch.randn(STEPS, BATCH, FEATURES)
    labels = (x[..., :CLASSES] + 0.3 * torch.randn(STEPS, BATCH, CLASSES)).argmax(-1)
    stored = {"x": x.numpy(), "labels": labels.numpy()}
    stored |= {f"initial {name}": weight.numpy() for name, weight in initial.items()}
    for name, make in OPTIMIZERS.items():
        model = network(initial)
        optimizer = make(model.parameters())
        losses = []
        for inputs, wanted in zip(x, labels, strict=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), wanted)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        stored[f"{name} losses"] = np.array(losses, np.float32)
        stored |= {f"{name} {parameter}": weight.numpy() for parameter, weight in model.state_dict().items()}
    return stored


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(GOLDEN / "torch_numbers.npz", **ops_numbers())
    np.savez_compressed(GOLDEN / "torch_training.npz", **training_numbers())
