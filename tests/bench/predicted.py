"""Predicted against measured step times of the ten workloads, on this machine.

python tests/bench/predicted.py [W3 …] [--threads 2] [--kernels]

The prediction is that of `step.certificate`, made before a step has run; the machine is measured for it once.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

import graphc as gx
from graphc.bench.machine import shortest
from graphc.bench.systems.graphc import System
from graphc.bench.workloads import WORKLOADS, Workload
from graphc.debugging import stepper_of

SECONDS = 0.3  # of measuring a step
LEAST = 1e-6  # seconds of a kernel from which on it is shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="W1", help=f"any of {', '.join(WORKLOADS)}; all if none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kernels", action="store_true", help="each kernel by itself too, on one thread")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    print(f"{'':<5}{'predicted µs':>14}{'measured µs':>14}{'ratio':>8}")
    for name in options.workloads or WORKLOADS:
        show(replace(WORKLOADS[name], steps=1), options.threads, options.kernels)


def show(workload: Workload, threads: int, kernels: bool) -> None:
    """A line for the step, and one for each of its kernels if asked."""
    data = workload.data()
    system = System(workload, data, workload.weights())
    step = system.step
    step.threads = threads
    arrays = system.given(workload.batches(data)[0])
    predicted = step.certificate.predicted_seconds()
    print(line(workload.name, predicted, shortest(lambda: step(*arrays), SECONDS)), flush=True)
    for name, predicted, measured in kernel_times(step, arrays) if kernels else ():
        if max(predicted, measured) > LEAST:
            print(line("", predicted, measured), name)


def line(name: str, predicted: float, measured: float) -> str:
    return f"{name:<5}{1e6 * predicted:>14.2f}{1e6 * measured:>14.2f}{predicted / measured:>8.2f}"


def kernel_times(step: gx.Function, arrays: tuple[object, ...]) -> list[tuple[str, float, float]]:
    """Name, predicted and measured seconds of each kernel, the calls' own cost taken off."""
    step.threads = 1
    certificate, stepper = step.certificate, stepper_of(step)
    ready, sizes = step.fit(arrays)
    nothing = gx.function([], gx.parameter("x", 0.0) + 1.0)
    call = shortest(lambda: nothing.runner.step([], []), SECONDS / 10)
    found = []
    for kernel, runner in zip(certificate.kernels, stepper.runners, strict=True):
        for place, scalar in enumerate(step.scalars.values()):
            runner.set_scalar(place, scalar.number)
        measured = shortest(lambda runner=runner: runner.step(ready, sizes), SECONDS / 10)  # type: ignore[misc]
        found.append((kernel.name, certificate.predicted_seconds(kernel.number), max(measured - call, 1e-9)))
    return found


if __name__ == "__main__":
    main()
