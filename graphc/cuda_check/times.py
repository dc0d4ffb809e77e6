"""How long our steps take, and what the device can do at most, by our own kernels."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import graphc as gx
from graphc import functional
from graphc.backends.cuda.driver import Device, Stream
from graphc.backends.runtime import address
from graphc.bench.workloads import Array, Workload
from graphc.cuda import parts_of
from graphc.cuda_check.programs import HEAD, WIDE, of_workload
from graphc.cuda_check.report import SHARE
from graphc.data import DataLoader, TensorDataset
from graphc.function import Function

SAMPLES = 9
SAMPLE_SECONDS = 0.03
MOST_TURNS = 2000
COPY_ELEMENTS = 1 << 28  # a gibibyte in, and one out
HEADS, LONG = 64, 2048  # of attention: matrices of so many vectors
MODEST = 1 << 12  # elements and rows where all is small


def on_device(stream: Stream, device: Device, work: Callable[[], None], seconds: float = SAMPLE_SECONDS) -> float:
    """Microseconds of one turn of `work`, the median of some samples of many turns."""
    for _ in range(3):
        work()
    stream.finish()
    start = time.perf_counter()
    work()
    stream.finish()
    turns = min(max(round(seconds / max(time.perf_counter() - start, 1e-7)), 1), MOST_TURNS)
    first, last = device.event(timed=True), device.event(timed=True)
    found = []
    for _ in range(SAMPLES):
        stream.record(first)
        for _ in range(turns):
            work()
        stream.record(last)
        stream.finish()
        found.append(device.milliseconds(first, last) * 1e3 / turns)
    return statistics.median(found)


def replayed(function: Function, arrays: Sequence[Array] = ()) -> float:
    """Microseconds of a step whose inputs are on the device, captured and replayed again and again."""
    _, runner = parts_of(function)
    ready, extents = function.fit(arrays)
    runner.device.enter()
    for array, block in zip(ready, runner.input_blocks, strict=True):
        runner.stream.send(block.place, address(array), array.nbytes)
    runner.make_ready()
    sizes = dict(zip(runner.dims, extents, strict=True))
    runner.launcher.rehearse(runner.stream, sizes)
    replay = runner.stream.captured(lambda: runner.launcher.give(runner.stream, sizes))
    found = on_device(runner.stream, runner.device, replay)
    replay.discard()
    for state in runner.updated:
        state.ahead = True
    return found


def by_host(work: Callable[[], Any], seconds: float = SAMPLE_SECONDS) -> float:
    """Microseconds of one turn as Python sees it, the median of some samples."""
    work()
    start = time.perf_counter()
    work()
    turns = min(max(round(seconds / max(time.perf_counter() - start, 1e-7)), 1), MOST_TURNS)
    found = []
    for _ in range(SAMPLES):
        start = time.perf_counter()
        for _ in range(turns):
            work()
        found.append((time.perf_counter() - start) * 1e6 / turns)
    return statistics.median(found)


def step_times(workload: Workload, precision: str = "highest") -> Iterator[dict[str, Any]]:
    """Of one workload: a replay, a step of an epoch, a call with arrays of the host."""
    program = of_workload(workload, precision)
    start = time.perf_counter()
    function = program.make("cuda")
    made = time.perf_counter() - start
    batch = program.batches()[0]
    row: dict[str, Any] = {
        "system": "graphc",
        "workload": workload.name,
        "title": workload.title,
        "precision": precision,
    }
    row |= {"make_seconds": made, "fresh": function.artifact.fresh, "launches": function.artifact.description.kernels}
    row |= {"products_by_cublas": parts_of(function)[0].drawing.program.products}
    yield row | {"what": "step", "microseconds": replayed(function, batch)}
    yield row | {"what": "call", "microseconds": by_host(lambda: function(*batch))}
    if program.batch:
        loader = DataLoader(TensorDataset(*program.draw(program.batch * program.steps)), program.batch)
        epoch = by_host(lambda: function.epoch(loader), 4 * SAMPLE_SECONDS)
        yield row | {"what": "epoch", "microseconds": epoch / program.steps}


# -- ceilings


def ceilings(small: bool) -> Iterator[dict[str, Any]]:
    """Bytes a second of a copy and of a chain that is bound by memory; multiply-adds a second of a product."""
    count = MODEST if small else COPY_ELEMENTS
    copy = bandwidth("copy by a kernel", copied(count), 2 * 4 * count)
    yield copy
    moved = driver_copy(4 * count)
    yield moved
    most = max(copy["bytes_a_second"], moved["bytes_a_second"])
    chain = bandwidth("memory-bound chain of 12 operations over 2 arrays", chained(count // 2), 3 * 4 * (count // 2))
    yield chain | {"share_of_copy": chain["bytes_a_second"] / most, "wanted": SHARE}
    rows = 64 if small else WIDE
    microseconds = replayed(product(rows))
    title = f"product of two matrices of {rows} x {rows}, float32"
    yield {"what": title, "microseconds": microseconds, "operations_a_second": 2 * rows**3 / microseconds * 1e6}
    yield attention(2 if small else HEADS, 40 if small else LONG)


def attention(heads: int, places: int) -> dict[str, Any]:
    """Forward and backward; counted are the two and five products that it takes with scores that are kept."""
    microseconds = replayed(attended(heads, places))
    title = f"causal attention of {heads} heads over {places} places of {HEAD}, forward and backward, float32"
    operations = (2 + 5) * 2 * heads * places**2 * HEAD / 2
    return {"what": title, "microseconds": microseconds, "operations_a_second": operations / microseconds * 1e6}


def bandwidth(what: str, function: Function, size: int) -> dict[str, Any]:
    microseconds = replayed(function)
    return {"what": what, "microseconds": microseconds, "bytes_a_second": size / microseconds * 1e6}


def driver_copy(size: int) -> dict[str, Any]:
    from graphc.backends.cuda.driver import first_device
    from graphc.backends.cuda.memory import Block

    device = first_device()
    device.enter()
    source, target = Block(device, size), Block(device, size)
    microseconds = on_device(device.work, device, lambda: device.work.copy(target.place, source.place, size))
    return {"what": "copy by the driver", "microseconds": microseconds, "bytes_a_second": 2 * size / microseconds * 1e6}


def zeros(name: str, *shape: int) -> gx.Parameter:
    return gx.parameter(name, np.zeros(shape, np.float32))


def copied(count: int) -> Function:
    x, y = zeros("x", count), zeros("y", count)
    return gx.function([], None, updates={y: x + 1.0}, name="copied", device="cuda")


def chained(count: int) -> Function:
    x, y, z = zeros("x", count), zeros("y", count), zeros("z", count)
    t = gx.maximum(x * 2.0 + y, 0.5)
    u = (t - x) * (t + y) * 0.25
    return gx.function([], None, updates={z: gx.maximum(u * u - t, -u) + 3.0}, name="chained", device="cuda")


def product(rows: int) -> Function:
    a, b, c = (zeros(name, rows, rows) for name in "abc")
    return gx.function([], None, updates={c: a @ b}, name="product", device="cuda")


def attended(heads: int, places: int) -> Function:
    q, k, v = (zeros(name, heads, places, HEAD) for name in "qkv")
    result = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    slopes = gx.grad((result * result).sum(), [q, k, v])
    updates = {each: each - slope for each, slope in zip((q, k, v), slopes, strict=True)}
    return gx.function([], None, updates=updates, name="attended", device="cuda")
