"""How two threads of each system do beside one, while another process keeps one of the two cores busy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from graphc.bench.compare import Process, lane
from graphc.bench.report import spread
from graphc.bench.workloads import Workload

Spawn = Callable[[int], Process]  # of so many threads


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that does nothing as fast as it can, on the last of this process's cores."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(child.pid, {max(os.sched_getaffinity(0))})
        yield
    finally:
        child.kill()
        child.wait()


def slowdown(spawn: Spawn, workload: Workload, count: int) -> tuple[float, float, float]:
    """Quartiles of the time of a step with two threads by that with one, turn by turn, with a busy neighbour."""
    processes = [spawn(threads) for threads in (1, 2)]
    with neighbour():
        # A turn is taken as it comes: being disturbed is what is measured.
        lanes = [replace(lane(process, "step", workload.steps), tries=1) for process in processes]
        pairs = [(lanes[0].turn(), lanes[1].turn()) for _ in range(count)]
    for process in processes:
        process.stop()
    return spread([two / one for one, two in pairs])
