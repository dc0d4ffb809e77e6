"""The graph by hand: e = (a + b) * (b + 1), its gradients, and a training step with explicit updates."""

import numpy as np

import graphc as gx

a, b = gx.parameter("a", np.float32(2)), gx.parameter("b", np.float32(1))
e = (a + b) * (b + 1)
de_da, de_db = gx.grad(e, [a, b])
derivatives = gx.function([], {"e": e, "de_da": de_da, "de_db": de_db}, name="derivatives")


def main() -> None:
    print(derivatives())
    print(derivatives.text())


if __name__ == "__main__":
    main()
