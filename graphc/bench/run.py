"""`python -m graphc bench`: what is timed, and what is printed of it."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence

from graphc.bench.compare import Lane, Process, lane, rounds, spread
from graphc.bench.workloads import WORKLOADS, Workload

SYSTEMS = ("graphc", "torch", "torch compile", "jax", "numpy")
CHECKED = 1e-3  # how far losses may be from graphc's, relative to the larger of 1 and the loss


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("workloads", nargs="*", metavar="W1", help=f"any of {', '.join(WORKLOADS)}; all if none")
    command.add_argument("--only", action="append", choices=SYSTEMS, help="one system; may be repeated")
    command.add_argument("--threads", type=int, default=1, choices=(1, 2))
    command.add_argument("--rounds", type=int, default=15, help="turns of each system")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    pin(options.threads)
    print(f"{'':<5}{'lane':<22}{'µs a step':>12}{'quartiles':>22}{'graphc is':>12}", flush=True)
    for name in options.workloads or WORKLOADS:
        measure(WORKLOADS[name], options)
    return 0


def pin(threads: int) -> None:
    """Keep this process and its workers on as many of its cores as there are threads."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:threads])


def measure(workload: Workload, options: argparse.Namespace) -> None:
    processes = started(options.only or SYSTEMS, workload, options.threads)
    if not processes:
        return
    check_losses(processes)
    lanes = [lane(process, way, workload.steps) for process in processes for way in process.start["ways"]]
    show(workload, lanes, rounds(lanes, options.rounds))
    for process in processes:
        process.stop()


def started(systems: Sequence[str], workload: Workload, threads: int) -> list[Process]:
    found = []
    for system in systems:
        try:
            found.append(Process(system, workload.name, threads=threads))
        except RuntimeError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


def check_losses(processes: Sequence[Process]) -> None:
    """Say which losses of 20 steps are not those of the first process."""
    told = {process.system: process.ask("losses")["losses"] for process in processes}
    first = next(iter(told))
    for system, losses in told.items():
        apart = max(abs(a - b) / max(1, abs(b)) for a, b in zip(losses, told[first]))
        verdict = "" if apart < CHECKED else "  DIFFERENT MATHS"
        if system != first:
            print(f"     losses of {system} are {apart:.1e} from those of {first}{verdict}")


def show(workload: Workload, lanes: Sequence[Lane], seconds: dict[str, list[float]]) -> None:
    best = min(
        (lane.name for lane in lanes if lane.process.system == "graphc"),
        default=None,
        key=lambda name: statistics.median(seconds[name]),
    )
    for name, times in seconds.items():
        low, middle, high = (1e6 * number for number in spread(times))
        ratio = ""
        if best and not name.startswith("graphc"):
            ratio = f"{statistics.median(theirs / ours for ours, theirs in zip(seconds[best], times)):.2f}x"
        print(f"{workload.name:<5}{name:<22}{middle:>12.2f}{f'{low:.2f} – {high:.2f}':>22}{ratio:>12}", flush=True)
