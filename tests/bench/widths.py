"""Two threads by one over the width of a net: `width` features, a hidden layer of `width`, 10 classes, batch 64, SGD.

    python tests/bench/widths.py [--rounds N] [--batch N] [--json FILE] [WIDTH …]

Two processes, one with GRAPHC_THREADS=1 and one with 2, take turns of some milliseconds each. Printed are microseconds
of a step and the quartiles of the ratio of pairs, two threads by one: above 1 the second thread did harm. The median of
a quiet machine shows whether the choice between one and many threads ever costs time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
TURN = 0.03  # seconds
WARM_UP = 0.2


def build(width, batch):
    import graphc as gx
    from graphc import nn, optim

    gx.manual_seed(1)
    net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    opt = optim.SGD(net.parameters(), lr=0.01)
    step = gx.train_step(net, nn.CrossEntropyLoss(), opt, x=gx.f32["batch", width], y=gx.i64["batch"])
    random = np.random.default_rng(0)
    return step, (random.standard_normal((batch, width), np.float32), random.integers(0, 10, batch))


def seconds(step, arrays, at_least):
    """Of one step, from as many as take that long."""
    start, steps = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < at_least or steps < 5:
        step(*arrays)
        steps += 1
    return spent / steps


def serve(width, batch):
    """What each of the two processes does: a number out for each line in."""
    step, arrays = build(width, batch)
    seconds(step, arrays, WARM_UP)
    for _ in sys.stdin:
        print(seconds(step, arrays, TURN), flush=True)


def start(width, batch, threads):
    command = [sys.executable, __file__, "--serve", "--batch", str(batch), str(width)]
    environment = {**os.environ, "GRAPHC_THREADS": str(threads)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def turn(process):
    print("", file=process.stdin, flush=True)
    return float(process.stdout.readline())


def measure(width, batch, rounds):
    processes = [start(width, batch, threads) for threads in (1, 2)]
    for process in processes:
        turn(process)  # both are warm when the first pair begins
    pairs = [(turn(processes[0]), turn(processes[1])) for _ in range(rounds)]
    for process in processes:
        process.communicate()
    low, middle, high = statistics.quantiles([two / one for one, two in pairs], n=4)
    one, two = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{width:>6}{1e6 * one:>12.1f} µs{1e6 * two:>12.1f} µs{middle:>8.2f}  ({low:.2f} to {high:.2f})", flush=True)
    return {"width": width, "one": one, "two": two, "two by one": [low, middle, high]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("widths", nargs="*", type=int, default=WIDTHS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.widths[0], options.batch)
        return
    print(f"{'width':>6}{'1 thread':>15}{'2 threads':>15}{'ratio':>8}")
    found = [measure(width, options.batch, options.rounds) for width in options.widths]
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
