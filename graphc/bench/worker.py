"""One system with one workload in a process of its own, which does what its standard input asks, a JSON line each.

    python -P worker.py SYSTEM WORKLOAD [--dropout P] [--spawned SECONDS]

The first line out says how long the start took, part by part; then each line in gets one line out:

    {"do": "losses"}                             -> {"losses": [...]}         of 20 steps from the first weights
    {"do": "epoch"}                              -> {"mean": ...}             of one epoch from the first weights
    {"do": "time", "way": "step", "repeat": 10}  -> {"seconds": ..., "waited": ...}  of that many steps, or epochs
    {"do": "memory"}                             -> {"peak_bytes": ...}

It ends with its input. While it waits it sleeps, so others are timed undisturbed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import sys
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

LOSSES = 20
FORGET_PEAK = "5"  # Linux: the peak of the memory counts from now on, after the data was made
PACKAGE = Path(__file__).parents[1]


def prepare_import(system: str) -> None:
    """Let `graphc.bench` be found; for a peer without running graphc's own `__init__`, whose cost is not the peer's."""
    sys.path.insert(0, str(PACKAGE.parent))
    if system == "graphc":
        return
    bare = types.ModuleType("graphc")
    bare.__path__ = [str(PACKAGE)]
    sys.modules["graphc"] = bare


class Worker:
    """The system, its batches, and when each part of its start was done."""

    def __init__(self, system: str, workload: str, dropout: float | None) -> None:
        import numpy  # noqa: F401  # for whose import no system has to answer

        asked = time.perf_counter()
        from graphc.bench.workloads import SEED, WORKLOADS  # of graphc's own worker, this imports graphc
        from graphc.ir.random import permutation

        started = time.perf_counter()
        self.workload = WORKLOADS[workload]
        if dropout is not None:
            self.workload = replace(self.workload, dropout=dropout)
        data = self.workload.data()
        weights = self.workload.weights()
        self.batches = self.workload.batches(data)
        count = self.workload.steps * self.workload.batch
        self.order = permutation(count, SEED, 0) if self.workload.shuffled else None
        self.ordered = self.batches
        if self.order is not None:
            self.ordered = self.workload.batches(tuple(array[self.order] for array in data))
        Path("/proc/self/clear_refs").write_text(FORGET_PEAK)
        ready = time.perf_counter()
        module = importlib.import_module(f"graphc.bench.systems.{system.replace(' ', '_')}")
        imported = time.perf_counter()
        self.system = module.System(self.workload, data, weights)
        built = time.perf_counter()
        loss = self.system.number(self.system.step(*self.system.given(self.batches[0])))
        self.start = {
            "data": ready - started,
            "import": imported - ready + started - asked,
            "build": built - imported,
            "first_step": time.perf_counter() - built,
            "loss": loss,
            "version": self.system.version,
            "ways": ["step", "epoch"] if self.system.has_epoch else ["step"],
        }
        self.ready = [self.system.given(batch) for batch in self.batches]

    def losses(self) -> dict[str, Any]:
        self.system.reset()
        found = [self.system.step(*self.system.given(batch)) for batch in self.ordered[:LOSSES]]
        return {"losses": [self.system.number(loss) for loss in found]}

    def epoch(self) -> dict[str, Any]:
        self.system.reset()
        return {"mean": self.system.number(self.system.epoch(self.order))}

    def time(self, way: str, repeat: int) -> dict[str, Any]:
        """From the first weights: steps one call after the other, or whole epochs."""
        self.system.reset()
        self.system.number(self.system.step(*self.ready[0]))  # the memory that a step needs is there from now on
        before = waited()
        seconds = self.time_steps(repeat) if way == "step" else self.time_epochs(repeat)
        return {"seconds": seconds, "waited": waited() - before}

    def time_steps(self, repeat: int) -> float:
        step, ready, found = self.system.step, self.ready, None
        rounds = [ready[k % len(ready)] for k in range(repeat)]
        start = time.perf_counter()
        for batch in rounds:
            found = step(*batch)
        self.system.number(found)
        return time.perf_counter() - start

    def time_epochs(self, repeat: int) -> float:
        import numpy as np

        random, count = np.random.default_rng(0), self.workload.steps * self.workload.batch
        # graphc draws its order natively; the others get the quickest there is.
        drawn = self.workload.shuffled and not self.system.shuffles
        start = time.perf_counter()
        for _ in range(repeat):
            found = self.system.epoch(random.permutation(count) if drawn else None)
        self.system.number(found)
        return time.perf_counter() - start

    def memory(self) -> dict[str, Any]:
        status = Path("/proc/self/status").read_text()
        return {"peak_bytes": 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])}  # type: ignore[index]


def waited() -> float:
    """Seconds that this process's threads were ready to run while others had the core."""
    ready = [path.read_text().split()[1] for path in Path("/proc/self/task").glob("*/schedstat")]
    return 1e-9 * sum(map(int, ready))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system")
    parser.add_argument("workload")
    parser.add_argument("--dropout", type=float)
    parser.add_argument("--spawned", type=float, help="when the process was asked for, on the monotonic clock")
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    prepare_import(options.system)
    worker = Worker(options.system, options.workload, options.dropout)
    if options.spawned is not None:
        worker.start["process"] = time.monotonic() - options.spawned
    print(json.dumps(worker.start), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        answer = getattr(worker, asked.pop("do"))(**asked)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
