"""The graph by hand: e = (a + b) * (b + 1) and its gradients at a = 2, b = 1.

expected: e 6, de_da 2, de_db 5
"""

import numpy as np

import graphc as gx

a, b = gx.parameter("a", np.float32(2)), gx.parameter("b", np.float32(1))
e = (a + b) * (b + 1)
de_da, de_db = gx.grad(e, [a, b])
derivatives = gx.function([], {"e": e, "de_da": de_da, "de_db": de_db}, name="derivatives")


def main():
    found = derivatives()
    print(found)
    print(derivatives.text())
    return found


if __name__ == "__main__":
    main()
