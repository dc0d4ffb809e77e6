"""Workers of several systems, timed turn by turn on the same cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
TURN = 0.05  # seconds of a turn, about
LEAST = 5  # steps of a turn
DISTURBED = 0.02  # share of a turn that other processes may take before it is done again, up to so many times
TRIES, PAUSE = 3, 0.1
SETTLE = 0.1  # seconds before a turn in which the threads of the last system, which may wait awake, fall asleep
LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "GRAPHC_THREADS", "NPROC")


def environment(threads: int) -> dict[str, str]:
    """Settings that hold every system to so many threads."""
    flags = "" if threads > 1 else "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return {**os.environ, **dict.fromkeys(LIMITS, str(threads)), "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


@dataclass
class Process:
    """A worker process and what it said when it was ready."""

    system: str
    workload: str
    python: str = sys.executable
    threads: int = 1
    options: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        command = [self.python, "-P", str(WORKER), self.system, self.workload, *self.options]
        # Not a pipe: one that nobody reads stops a worker that prints a lot.
        self.complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.child = subprocess.Popen(
            [*command, "--spawned", str(time.monotonic())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            text=True,
            env={**environment(self.threads), **self.variables},
        )
        self.start = self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line of the worker. Raises RuntimeError with its last words when it died."""
        line = self.child.stdout.readline()  # type: ignore[union-attr]
        if line:
            return json.loads(line)  # type: ignore[no-any-return]
        self.complaints.seek(0)
        words = self.complaints.read().strip()
        self.stop()
        raise RuntimeError(f"{self.system} on {self.workload} ended: {words or 'without a word'}")

    def ask(self, do: str, **given: Any) -> dict[str, Any]:
        print(json.dumps({"do": do, **given}), file=self.child.stdin, flush=True)
        return self.answer()

    def stop(self) -> None:
        self.child.communicate()
        self.complaints.close()


@dataclass(frozen=True)
class Lane:
    """One way of one system: what is timed in a turn."""

    process: Process
    way: str
    steps: int  # of training in one repetition
    repeat: int
    tries: int = TRIES

    @property
    def name(self) -> str:
        return f"{self.process.system} {self.way}"

    def turn(self) -> float:
        """Seconds of one training step, in the least disturbed of some tries."""
        told: list[dict[str, float]] = []
        for _ in range(self.tries):
            told.append(self.process.ask("time", way=self.way, repeat=self.repeat))
            if told[-1]["waited"] < DISTURBED * told[-1]["seconds"]:
                break
            time.sleep(PAUSE)
        calmest = min(told, key=lambda each: each["waited"] / each["seconds"])
        return calmest["seconds"] / (self.repeat * self.steps)


def lane(process: Process, way: str, steps: int) -> Lane:
    """A lane whose turn lasts about TURN seconds, warmed up."""
    each = steps if way == "epoch" else 1
    single = Lane(process, way, each, 1)
    single.turn()
    seconds = single.turn() * each
    return Lane(process, way, each, max(-(-LEAST // each), min(100_000, round(TURN / seconds))))


def rounds(lanes: Sequence[Lane], count: int) -> dict[str, list[float]]:
    """Seconds of a step, by lane, one number a round; in each round every lane has its turn."""
    found: dict[str, list[float]] = {lane.name: [] for lane in lanes}
    for _ in range(count):
        for each in lanes:
            time.sleep(SETTLE)
            found[each.name].append(each.turn())
    return found
