"""`python -m graphc bench`: which systems and workloads are timed, and where the findings go."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from graphc.bench import floor, report
from graphc.bench.compare import WORKER, Lane, Process, environment, lane, rounds
from graphc.bench.neighbour import slowdown
from graphc.bench.start import starts
from graphc.bench.workloads import WORKLOADS, Workload
from graphc.settings import check_choice, require

SYSTEMS = ("graphc", "torch", "torch compile", "jax", "numpy", "pytensor")
SLOW = ("torch compile", "pytensor")  # minutes of compiling
EXPECTED = ("ModuleNotFoundError", "NotImplementedError")  # a peer that is not there, a workload that it does not do


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("workloads", nargs="*", metavar="W1", help=f"any of {', '.join(WORKLOADS)}; all if none")
    command.add_argument("--only", action="append", choices=SYSTEMS, help="a system; may be repeated")
    command.add_argument("--compile", action="store_true", help=f"with {' and '.join(SLOW)} too, which take minutes")
    command.add_argument("--threads", type=int, default=1, choices=(1, 2))
    command.add_argument("--rounds", type=int, default=11, help="turns of each system")
    command.add_argument("--starts", action="store_true", help="measure starts and memory too")
    command.add_argument(
        "--python", action="append", default=[], metavar="SYSTEM=PATH", help="the Python that can import a peer"
    )
    command.add_argument(
        "--neighbour", action="store_true", help="only compare two threads with one while one of two cores is busy"
    )
    command.add_argument("--out", type=Path, help="a folder for bench.json, bench.md and bench.svg, which add up")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    for name in options.workloads:
        check_choice("the workload", name, WORKLOADS)
    for pair in options.python:
        require("=" in pair, "--python", pair, "SYSTEM=PATH, such as jax=/opt/jax/bin/python")
    pythons = dict(pair.split("=", 1) for pair in options.python)
    benches = [Bench(WORKLOADS[name], options, pythons) for name in options.workloads or WORKLOADS]
    if options.neighbour:
        with pinned(2):
            for bench in benches:
                bench.show_slowdowns()
        return 0
    with pinned(options.threads):
        compare(benches, options)
    return 0


def compare(benches: Sequence[Bench], options: argparse.Namespace) -> None:
    found = report.read(options.out)
    machine = measure_machine(options.threads) if options.out else None
    for bench in benches:
        measured = bench.measured()
        if machine is not None:
            measured["floor"] = floor.seconds(bench.workload, machine)
            report.add(found, machine, measured)
            report.write(found, options.out)
        print(report.lines(measured), flush=True)


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """This process and its workers on as many of its cores as there are threads."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def measure_machine(threads: int) -> dict[str, Any]:
    """What `machine.py` finds in a process of its own, with BLAS held to so many threads."""
    command = [sys.executable, "-P", "-m", "graphc.bench.machine", "--threads", str(threads)]
    paths = os.pathsep.join(filter(None, [str(WORKER.parents[2]), os.environ.get("PYTHONPATH")]))
    variables = {**environment(threads), "PYTHONPATH": paths}
    found: dict[str, Any] = json.loads(
        subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True).stdout
    )
    return found


class Bench:
    """One workload in all systems that are there."""

    def __init__(self, workload: Workload, options: argparse.Namespace, pythons: Mapping[str, str]) -> None:
        self.workload, self.options, self.pythons = workload, options, pythons
        usual = [system for system in SYSTEMS if options.compile or system not in SLOW]
        self.systems: list[str] = options.only or usual

    def measured(self) -> dict[str, Any]:
        processes = self.started(self.systems)
        found: dict[str, Any] = {
            "workload": self.workload.name,
            "threads": self.options.threads,
            "versions": {process.system: process.start["version"] for process in processes},
            "apart": self.compared(processes),
        }
        lanes = [each for process in processes for each in self.lanes(process)]
        found["seconds"] = rounds(lanes, self.options.rounds)
        for process in processes:
            process.stop()
        if self.options.starts:
            found["starts"] = {process.system: self.starts(process.system) for process in processes}
        return found

    def show_slowdowns(self) -> None:
        """A line for each system: two threads by one, with a busy neighbour."""
        for system in self.systems:
            try:
                found = slowdown(partial(self.spawn, system, (), {}), self.workload, self.options.rounds)
            except RuntimeError as error:
                left_out(error)
                continue
            line = "two threads take {1:.2f}x of one  ({0:.2f} to {2:.2f})".format(*found)
            print(f"{self.workload.name:<5}{system:<15}{line}", flush=True)

    def spawn(
        self,
        system: str,
        extra: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        threads: int | None = None,
    ) -> Process:
        python = self.pythons.get(system, sys.executable)
        return Process(system, self.workload.name, python, threads or self.options.threads, extra, variables or {})

    def started(self, systems: Sequence[str], extra: Sequence[str] = ()) -> list[Process]:
        """The worker of each system that can do the workload."""
        found = []
        for system in systems:
            try:
                found.append(self.spawn(system, extra))
            except RuntimeError as error:
                left_out(error)
        return found

    def lanes(self, process: Process) -> list[Lane]:
        return [lane(process, way, self.workload.steps) for way in process.start["ways"]]

    def compared(self, processes: Sequence[Process]) -> dict[str, float]:
        """How far each system's losses of 20 steps, and its epoch's, are from those of the first system.

        Masks of dropout differ from system to system, so these are compared without dropout.
        """
        if not self.workload.dropout:
            return apart(processes)
        plain = self.started([process.system for process in processes], ["--dropout", "0"])
        found = apart(plain)
        for process in plain:
            process.stop()
        return found

    def starts(self, system: str) -> dict[str, Any]:
        return starts(lambda variables: self.spawn(system, variables=variables))


def left_out(error: RuntimeError) -> None:
    """Say why a system is not there: in one line where that is no surprise."""
    last = str(error).splitlines()[-1]
    print(f"left out: {last if last.startswith(EXPECTED) else error}", file=sys.stderr)


def apart(processes: Sequence[Process]) -> dict[str, float]:
    """The largest distance of losses from those of the first process, relative to the larger of 1 and the loss."""
    told = {}
    for process in processes:
        losses = process.ask("losses")["losses"]
        told[process.system] = [*losses, process.ask("epoch")["mean"]] if "epoch" in process.start["ways"] else losses
    first = told[processes[0].system] if processes else []
    return {system: max(abs(a - b) / max(1, abs(b)) for a, b in zip(losses, first)) for system, losses in told.items()}
