"""A perceptron computes AND and OR: a step activation, and the learning rule of Rosenblatt (1958).

The step has no gradient, and the rule needs none: each wrong answer moves the weights by the input. XOR, which no
straight line through the plane can tell apart, is never learnt.

expected: AND and OR 4 of 4 right, XOR fewer
"""

import numpy as np

import graphc as gx

inputs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
GATES = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "XOR": [0, 1, 1, 0]}

w = gx.parameter("w", np.zeros(2, np.float32))
b = gx.parameter("b", np.float32(0))


def perceptron(x):
    z = (x * w).sum() + b
    return gx.where(z > 0, 1.0, 0.0)


@gx.step
def learn(x: gx.f32[2], y: gx.f32[()]):
    y_hat = perceptron(x)
    w.add_((y - y_hat) * x)
    b.add_(y - y_hat)
    return y_hat


@gx.step
def answer(x: gx.f32[2]):
    return perceptron(x)


def main(passes=10):
    right = {}
    for gate, outputs in GATES.items():
        w.zero_()
        b.zero_()
        for _ in range(passes):
            for x, y in zip(inputs, outputs):
                learn(x, y)
        answers = [int(answer(x)) for x in inputs]
        right[gate] = sum(found == y for found, y in zip(answers, outputs))
        print(f"{gate:<3}  {answers}  {right[gate]} of 4 right,  w {w.numpy()}, b {b.item()}")
    return right


if __name__ == "__main__":
    main()
