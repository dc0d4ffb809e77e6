"""What Python adds to a step: `step(x, y)` with NumPy arrays against its bare native call, turn by turn.

    python tests/bench/call_cost.py [--rounds N] [--json FILE]

Prints nanoseconds: the median of the differences of pairs, with their quartiles.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

import graphc as gx
from graphc import nn, optim

CALLS = 3000  # a turn


def regression():
    """Linear regression by hand: one result, one run-time scalar."""
    x, y = gx.input("x", gx.f32["batch", 2]), gx.input("y", gx.f32["batch", 1])
    w, b, lr = gx.parameter("w", np.zeros((2, 1))), gx.parameter("b", np.zeros(1)), gx.scalar("lr", 0.03)
    loss = ((x @ w + b - y) ** 2 / 2).mean()
    gw, gb = gx.grad(loss, [w, b])
    step = gx.function([x, y], loss, updates={w: w - lr * gw, b: b - lr * gb})
    return step, (np.ones((10, 2), np.float32), np.ones((10, 1), np.float32))


def layers():
    """The same by layers: a record of loss and a metric, the optimizer's settings."""
    net = nn.Linear(2, 1)
    opt = optim.AdamW(net.parameters(), lr=0.01)
    kinds = {"x": gx.f32["batch", 2], "y": gx.f32["batch", 1]}
    step = gx.train_step(net, nn.MSELoss(), opt, metrics=["mae"], **kinds)
    return step, (np.ones((10, 2), np.float32), np.ones((10, 1), np.float32))


def prediction():
    """An array as the result."""
    step = gx.predict_step(nn.Linear(2, 1), x=gx.f32["batch", 2])
    return step, (np.ones((10, 2), np.float32),)


def nanoseconds(call, arrays):
    start = time.perf_counter_ns()
    for _ in range(CALLS):
        call(*arrays)
    return (time.perf_counter_ns() - start) / CALLS


def measure(build, rounds):
    step, arrays = build()
    step(*arrays)
    native = step.runner.native_on(*tables_of(step, arrays))
    pairs = [(nanoseconds(step, arrays), nanoseconds(native, ())) for _ in range(rounds)]
    low, middle, high = statistics.quantiles([whole - bare for whole, bare in pairs], n=4)
    bare = statistics.median(bare for _, bare in pairs)
    return {"step": build.__name__, "added_ns": round(middle), "quartiles": [round(low), round(high)], "native": bare}


def tables_of(step, arrays):
    """What tells the native step where its inputs are, and of what size."""
    from graphc.backends.runtime import numbers_for, table

    sizes = numbers_for(step.runner.dims)
    sizes[0] = len(arrays[0])
    tables_of.kept = table(arrays), sizes  # as long as they are in use
    return tables_of.kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(build, options.rounds) for build in (regression, layers, prediction)]
    for row in rows:
        spread = "..".join(map(str, row["quartiles"]))
        print(f"{row['step']:<12}{row['added_ns']:>6} ns ({spread}) beyond the native call of {row['native']:.0f} ns")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
