"""What was found, as lines for the terminal, a JSON file, a Markdown table and a picture."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphc.bench import bars
from graphc.bench.workloads import WORKLOADS

CHECKED = 1e-3  # how far losses may be apart
Found = dict[str, Any]  # {"machines": {threads: ...}, "workloads": [...]}


def spread(numbers: Sequence[float]) -> tuple[float, float, float]:
    """(lower quartile, median, upper quartile)."""
    if len(numbers) < 2:
        return numbers[0], numbers[0], numbers[0]
    low, middle, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return low, middle, high


def ours(measured: Found) -> str | None:
    """The lane of graphc with the smaller median."""
    return best(measured, [name for name in measured["seconds"] if name.startswith("graphc ")])


def rival(measured: Found) -> str | None:
    """The lane of all peers with the smallest median."""
    return best(measured, [name for name in measured["seconds"] if not name.startswith("graphc ")])


def best(measured: Found, names: Sequence[str]) -> str | None:
    return min(names, key=lambda name: statistics.median(measured["seconds"][name]), default=None)


def ratios(measured: Found, name: str) -> tuple[float, float, float]:
    """Quartiles of a lane's time by graphc's better one's, turn by turn: over 1 where graphc is ahead."""
    mine = measured["seconds"][ours(measured)]
    return spread([theirs / time for theirs, time in zip(measured["seconds"][name], mine)])


def system_ratios(measured: Found) -> dict[str, float]:
    """For each peer the median ratio of its better lane."""
    found: dict[str, float] = {}
    for name in measured["seconds"]:
        system = named(name)
        if system != "graphc" and ours(measured):
            ratio = ratios(measured, name)[1]
            found[system] = min(ratio, found.get(system, ratio))
    return found


def named(lane: str | None) -> str:
    """The system of a lane."""
    return (lane or "").rsplit(" ", 1)[0]


# -- the terminal


def lines(measured: Found) -> str:
    """A line for each lane, and what else was found."""
    title = WORKLOADS[measured["workload"]].title
    found = [f"{measured['workload']}  {title}, {measured['threads']} thread{'s' * (measured['threads'] > 1)}"]
    for name, times in measured["seconds"].items():
        low, middle, high = (1e6 * number for number in spread(times))
        against = ""
        if ours(measured) and not name.startswith("graphc "):
            against = "{1:9.2f}x  ({0:.2f} to {2:.2f})".format(*ratios(measured, name))
        found.append(f"  {name:<20}{middle:>12.2f} µs  ({low:.2f} to {high:.2f}){against:>32}")
    for system, distance in measured["apart"].items():
        if distance >= CHECKED:
            found.append(f"  the losses of {system} differ by {distance:.1e}: NOT THE SAME MATHS")
    largest = max(measured["apart"].values(), default=0)
    found.append(f"  losses of 20 steps at most {largest:.1e} apart")
    if ours(measured) and "floor" in measured:
        share = max(measured["floor"].values()) / statistics.median(measured["seconds"][ours(measured)])
        parts = ", ".join(f"{part} {1e6 * seconds:.1f}" for part, seconds in measured["floor"].items())
        found.append(f"  floor in µs: {parts}; graphc is at {share:.0%} of it")
    for system, start in measured.get("starts", {}).items():
        found.append(f"  {system:<20}{start_line(start)}")
    return "\n".join(found)


def start_line(start: Found) -> str:
    parts = [
        f"{kind} import {start[kind]['import']:.2f} build {start[kind]['build']:.2f} "
        f"first step {start[kind]['first_step']:.2f} in all {start[kind]['process']:.2f} s"
        for kind in ("cold", "warm")
    ]
    return f"{'; '.join(parts)}; peak {start['peak_bytes'] / 2**20:.0f} MiB"


# -- files


def read(folder: Path | None) -> Found:
    """What was found before, in the same folder."""
    path = folder / "bench.json" if folder else None
    if path is None or not path.exists():
        return {"machines": {}, "workloads": []}
    found: Found = json.loads(path.read_text())
    return found


def add(found: Found, machine: Found, measured: Found) -> None:
    """Put a workload in place of what was found of it before with as many threads."""
    found["machines"][str(machine["threads"])] = machine
    key = (measured["threads"], list(WORKLOADS).index(measured["workload"]))

    def place(each: Found) -> tuple[int, int]:
        return each["threads"], list(WORKLOADS).index(each["workload"])

    before = [each for each in found["workloads"] if place(each) == key]
    if before and "starts" in before[0]:
        measured.setdefault("starts", before[0]["starts"])
    found["workloads"] = sorted([e for e in found["workloads"] if place(e) != key] + [measured], key=place)


def write(found: Found, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "bench.md").write_text(markdown(found))
    drawn = {threads: rows_of(found, threads) for threads in (1, 2)}
    text = bars.draw({f"{n} thread{'s' * (n > 1)}": rows for n, rows in drawn.items() if rows})
    (folder / "bench.svg").write_text(text)


def rows_of(found: Found, threads: int) -> list[tuple[str, dict[str, float]]]:
    return [(e["workload"], system_ratios(e)) for e in found["workloads"] if e["threads"] == threads and ours(e)]


def markdown(found: Found) -> str:
    """Times, then starts and memory, a table for each number of threads."""
    texts = []
    for threads, machine in found["machines"].items():
        chosen = [each for each in found["workloads"] if str(each["threads"]) == threads and ours(each)]
        if chosen:
            texts += [about(machine, chosen), times_table(chosen), starts_table(chosen)]
    return "\n\n".join(filter(None, texts)) + "\n"


def about(machine: Found, chosen: Sequence[Found]) -> str:
    versions: dict[str, str] = {}
    for each in chosen:
        versions |= each["versions"]
    named = ", ".join(f"{system} {version}" for system, version in versions.items() if system != "torch compile")
    threads = machine["threads"]
    peak = max(machine["multiply_adds"], machine["products"]) / 1e9
    copies = [rate / 1e9 for rate in machine["copies"].values()]
    return (
        f"{threads} thread{'s' * (threads > 1)} of {machine['cores']} cores, {machine['processor']}: multiply-adds "
        f"{peak:.0f} GF/s, NumPy's products {machine['products'] / 1e9:.0f} GF/s, copies "
        f"{max(copies):.0f} GB/s in the caches and {copies[-1]:.0f}"
        f" outside. Python {machine['python']}, {named}."
    )


def times_table(chosen: Sequence[Found]) -> str:
    rows = [
        "| | graphc step µs | epoch µs | best peer | its µs | ratio (quartiles) | of the floor | others |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in chosen:
        other = rival(each)
        median = {name: 1e6 * statistics.median(times) for name, times in each["seconds"].items()}
        share = 1e6 * max(each["floor"].values()) / median[ours(each)]
        epoch = number(median["graphc epoch"]) if "graphc epoch" in median else ""
        peer = ["", "", ""]
        if other is not None:
            low, middle, high = ratios(each, other)
            peer = [other, number(median[other]), f"{middle:.2f} ({low:.2f}–{high:.2f})"]
        rest = ", ".join(
            f"{system} {ratio:.2f}" for system, ratio in system_ratios(each).items() if system != named(other)
        )
        title = f"{each['workload']} {WORKLOADS[each['workload']].title}"
        floor = f"{share:.0%}" if share >= 0.01 else "–"
        rows.append("| " + " | ".join([title, number(median["graphc step"]), epoch, *peer, floor, rest]) + " |")
    middles = [ratios(each, other)[1] for each in chosen if (other := rival(each))]
    if middles:
        rows.append(f"| geometric mean | | | | | {statistics.geometric_mean(middles):.2f} | | |")
    return "\n".join(rows)


def starts_table(chosen: Sequence[Found]) -> str:
    """Of systems that were started: cold compile, start to first step cold and warm, memory."""
    told = [each for each in chosen if "starts" in each]
    if not told:
        return ""
    systems = list(told[0]["starts"])
    head = ["", *(f"{what} {s}" for what in ("compile s", "cold s", "warm s", "MiB") for s in systems)]
    rows = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for each in told:
        found = [each["starts"].get(system) for system in systems]
        cells = [
            *(f"{s['cold']['build'] + s['cold']['first_step']:.2f}" if s else "" for s in found),
            *(f"{s['cold']['process']:.2f}" if s else "" for s in found),
            *(f"{s['warm']['process']:.2f}" if s else "" for s in found),
            *(f"{s['peak_bytes'] / 2**20:.0f}" if s else "" for s in found),
        ]
        rows.append("| " + " | ".join([each["workload"], *cells]) + " |")
    return "\n".join(rows)


def number(microseconds: float) -> str:
    """Three digits that say something."""
    return (
        f"{microseconds:.2f}"
        if microseconds < 10
        else f"{microseconds:.1f}"
        if microseconds < 100
        else f"{microseconds:.0f}"
    )
