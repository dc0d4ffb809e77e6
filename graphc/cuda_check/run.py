"""The sections of the check, each in a process of its own: one that fails, hangs or leaves the GPU in ruins stops no
other one. What they find goes to a table and a JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from graphc.cuda_check import report

SECONDS = 450  # for everything
SHARING = ("kernels", "training", "exchange")  # sections that time nothing, of which several run at once
AT_ONCE = max(2, min(8, (os.cpu_count() or 2) // 2))
EXCHANGES = {"export": "W4", "torch": "W4"}  # what is exchanged, and the program it is tried with
TIMED = {"times": 40, "torch": 75, "jax": 60}  # sections of a workload, and their seconds
LEAST = 10  # seconds that a section needs to be begun
MARK = "graphc-found "  # before a line of findings


@dataclass(frozen=True)
class Section:
    """One part of the check.

    subject  the kind of findings
    name     of the program or workload it is about, and the precision of its products if it is not the highest
    seconds  it may take
    """

    subject: str
    name: str
    seconds: int

    @property
    def title(self) -> str:
        return f"{self.subject} {self.name}".strip()


def sections(options: argparse.Namespace) -> list[Section]:
    """In the order of what is wanted most: if time runs out, the last ones are left out."""
    from graphc.cuda_check.programs import programs, timed

    checked, loads = [*programs(options.small)], [*timed(options.small)]
    found = [Section("environment", "", 30)]
    found += [Section(subject, name, 60) for subject in ("kernels", "training") for name in checked]
    found += [Section("exchange", name, 60) for name in EXCHANGES]
    found += [Section("ceilings", "", 40), Section("starts", "", 60)]
    for some in (loads[:4], loads[4:]):
        found += [Section(subject, name, seconds) for subject, seconds in TIMED.items() for name in some]
    lower = [f"{name}:{precision}" for precision in ("tf32", "bf16") for name in ("L1", "W9") if name in loads]
    found += [Section(subject, name, 60) for name in lower for subject in ("times", "torch", "jax")]
    return [each for each in found if not options.only or each.subject in options.only]


def work(section: Section, small: bool) -> Iterator[dict[str, Any]]:
    """The findings of a section, in this process."""
    from graphc.cuda_check import exchange, programs, starts, times, training
    from graphc.cuda_check.peers import PEERS

    name, _, precision = section.name.partition(":")
    if section.subject == "environment":
        from graphc.cuda_check.environment import environment

        yield environment()
    elif section.subject == "kernels":
        from graphc.cuda_check.kernels import findings

        yield from findings(programs.programs(small)[section.name])
    elif section.subject == "training":
        yield training.compared(programs.programs(small)[section.name])
    elif section.subject == "exchange":
        program = programs.programs(small)[EXCHANGES[section.name]]
        yield from (exchange.exported if section.name == "export" else exchange.with_torch)(program)
    elif section.subject == "ceilings":
        yield from times.ceilings(small)
    elif section.subject == "starts":
        yield from starts.starts(small)
    elif section.subject == "made":
        yield starts.made(small)
    elif section.subject == "times":
        yield from times.step_times(programs.timed(small)[name], precision or "highest")
    else:
        yield from PEERS[section.subject](programs.timed(small)[name], precision or "highest")


SUBJECTS = ("environment", "kernels", "training", "exchange", "ceilings", "starts", "times", "torch", "jax")
OURS = ("kernels", "training", "exchange", "ceilings", "starts", "times")  # where whatever fails is a fault of graphc's


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m graphc.cuda_check", description="Check and time device='cuda'.")
    made.add_argument("--only", action="append", choices=SUBJECTS, help="one kind of section; may be repeated")
    made.add_argument("--seconds", type=int, default=SECONDS, help=f"for everything; {SECONDS} if not given")
    made.add_argument("--small", action="store_true", help="small sizes, to see whether the check itself works")
    made.add_argument("--out", type=Path, help="a file for all findings as JSON")
    made.add_argument("--here", action="store_true", help="all sections in this process, which one that hangs stops")
    made.add_argument("--without-gpu", action="store_true", help="compile every kernel, and no more; fails on spills")
    made.add_argument("--section", nargs=2, metavar=("SUBJECT", "NAME"), help=argparse.SUPPRESS)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all is right; 1 if something is not; 2 if there is no GPU to check on."""
    from graphc.cuda import is_available, the_device
    from graphc.errors import DeviceError

    options = parser().parse_args(arguments)
    if options.section:
        for row in work(Section(options.section[0], options.section[1], 0), options.small):
            print(MARK + as_text(row), flush=True)
        return 0
    if options.without_gpu:
        return compiled(options)
    if not is_available():
        try:
            the_device()
        except DeviceError as error:
            told = f"nothing was checked: {error.message}; {' '.join(error.details)}"
            print(told)
            write(options.out, {"error": told})
        return 2
    return check(options)


def compiled(options: argparse.Namespace) -> int:
    """What `main` does without a GPU: 1 where a kernel spills, or has memory of its own, or is refused."""
    from graphc.cuda_check import compiling
    from graphc.cuda_check.programs import programs

    rows = [*compiling.findings([*programs(options.small).values()])]
    print(*compiling.report(rows), sep="\n")
    write(options.out, rows)
    return int(any(row.get("ok") is False for row in rows))


def check(options: argparse.Namespace) -> int:
    start, found = time.monotonic(), []
    with ThreadPoolExecutor(AT_ONCE) as pool, tempfile.TemporaryDirectory() as folder:
        for together in groups(sections(options), options.here):
            for finding in pool.map(lambda section: finding_of(section, options, start, folder), together):
                found.append(finding)
                print(report.lines_of(finding), flush=True)
                told = {"seconds": time.monotonic() - start, "wanted": report.wanted_figures(found), "sections": found}
                write(options.out, told)  # again and again: what is there is not lost with this process
    print(report.summary(found))
    return 1 if any(report.is_wrong(each) for each in found if each["subject"] in OURS) else 0


def write(out: Path | None, told: Any) -> None:
    """As JSON, whole or not at all."""
    if out is None:
        return
    unfinished = out.with_name(f"{out.name}.unfinished")
    unfinished.write_text(as_text(told, indent=1))
    unfinished.replace(out)


def as_text(told: Any, indent: int | None = None) -> str:
    return json.dumps(told, indent=indent, default=lambda number: number.item())  # NumPy's numbers


def groups(found: Sequence[Section], one_by_one: bool) -> Iterator[list[Section]]:
    """Those that may run side by side, as they time nothing."""
    for may_share, some in groupby(found, lambda section: section.subject in SHARING and not one_by_one):
        alike = [*some]
        yield from [alike] if may_share else ([section] for section in alike)


def finding_of(section: Section, options: argparse.Namespace, start: float, folder: str) -> dict[str, Any]:
    begun = time.monotonic()
    # What sections beside each other time, to choose among kernels, is no guide for those that are alone.
    kept = {"GRAPHC_CACHE_DIR": folder} if section.subject in SHARING else {}
    left = options.seconds - (begun - start)
    if left < LEAST:
        rows: list[dict[str, Any]] = [{"skipped": "no time left"}]
    else:
        allowed = min(section.seconds, left)
        rows = [*(in_place(section, options.small) if options.here else apart(section, options.small, allowed, kept))]
    seconds = time.monotonic() - begun
    return {"section": section.title, "subject": section.subject, "seconds": seconds, "rows": rows}


def in_place(section: Section, small: bool) -> Iterator[dict[str, Any]]:
    try:
        yield from work(section, small)
    except Exception as error:  # told as a finding: the other sections are of use without it
        yield failure(f"{type(error).__name__}: {error}")


def apart(
    section: Section, small: bool, seconds: float, variables: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """The same in a process of its own, which is ended when its time is over; and so are all that it has started."""
    command = [sys.executable, "-m", "graphc.cuda_check", "--section", section.subject, section.name]
    try:
        yield from found_by([*command, *(["--small"] if small else [])], seconds, {**os.environ, **(variables or {})})
    except Exception as error:  # as of `in_place`
        yield failure(f"{type(error).__name__}: {error}")


def found_by(command: Sequence[str], seconds: float, variables: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What a process tells until its time is over."""
    # To files: compilers that PyTorch starts would hold on to pipes when it has ended.
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=said, stderr=errors, start_new_session=True, env=dict(variables))
        status = None
        try:
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(seconds)
        finally:
            end_all(process)
            process.wait()
        said.seek(0)
        errors.seek(0)
        yield from (json.loads(line.removeprefix(MARK)) for line in said if line.startswith(MARK))
        if status is None:
            yield failure(f"not done after {seconds:.0f} s")
        elif status:
            yield failure(errors.read().strip()[-1500:] or f"ended with status {status}")


def end_all(process: subprocess.Popen[bytes]) -> None:
    """A process and those that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def failure(text: str) -> dict[str, Any]:
    return {"error": text}
