"""Every kernel of the programs compiled for the GPUs that there are kernels for: what can be checked without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from graphc.backends.cuda.assembler import Resources, assemble, assembler
from graphc.backends.cuda.passes import passed_for_device
from graphc.backends.cuda.plan import draw
from graphc.backends.cuda.ptx import ARCHITECTURES, compile_modules, modules
from graphc.backends.target import BuildError
from graphc.cuda_check.programs import Program

AT_ONCE = 2  # assemblers, while LLVM goes on with the next program


def findings(programs: Sequence[Program]) -> Iterator[dict[str, Any]]:
    """For each program and architecture: kernels, and what the one that takes most takes, where NVIDIA's assembler is
    there to tell."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = [row for program in programs for row in begun(program, pool)]
        for row, future in rows:
            yield row | (taken(future, row["kernels"]) if assembler() is not None else {})


def begun(program: Program, pool: ThreadPoolExecutor) -> Iterator[tuple[dict[str, Any], Future[dict[str, Resources]]]]:
    """The kernels as PTX, and the assembler at work on it."""
    drawing = draw(passed_for_device(program.make("cpu").traced))
    texts, names = modules(drawing), [entry.name for entry in drawing.entries]
    for architecture in ARCHITECTURES:
        row = {"program": program.name, "title": program.title, "architecture": architecture, "kernels": len(names)}
        yield row, pool.submit(assemble, compile_modules(texts, names, architecture), architecture)


def taken(future: Future[dict[str, Resources]], kernels: int) -> dict[str, Any]:
    try:
        known = future.result().values()
    except BuildError as error:
        return {"ok": False, "error": str(error)}
    found = {"registers": max((each.registers for each in known), default=0)}
    found |= {"spilled_bytes": sum(each.spilled_bytes for each in known)}
    found |= {"local_bytes": sum(each.local_bytes for each in known)}
    return found | {"ok": len(known) == kernels and not found["spilled_bytes"] + found["local_bytes"]}


def report(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each, and the whole in the last one."""
    for row in rows:
        head = f"{row['program']:<5} {row['architecture']} {row['kernels']:>3} kernels"
        yield f"{head}, {taken_text([row])}  {row['title']}"
    kernels = sum(row["kernels"] for row in rows if row["architecture"] == ARCHITECTURES[0])
    yield f"{kernels} kernels compiled for {' and '.join(ARCHITECTURES)}: {taken_text(rows)}"


def taken_text(rows: Sequence[dict[str, Any]]) -> str:
    refused = [str(row["error"]) for row in rows if "error" in row]
    if refused:
        return refused[0]
    if any("registers" not in row for row in rows):
        return "registers unknown: no ptxas"
    spilled, local = (sum(row[name] for row in rows) for name in ("spilled_bytes", "local_bytes"))
    most = max(row["registers"] for row in rows)
    return f"at most {most:>3} registers, {spilled} bytes spilled, {local} bytes of local memory"
