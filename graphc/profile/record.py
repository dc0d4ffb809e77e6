"""A profile: a row a kernel, the time of the whole step, and what every thread did in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.ir.frozen import dataclass
from graphc.settings import check_choice

if TYPE_CHECKING:
    from graphc.function import Function

OTHER = "data"  # the part of what is no kernel
LEVELS = ("kernels", "layers", "graph", "bars")


@dataclass(frozen=True, slots=True)
class Seconds:
    """The median of all repetitions and its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, taken: np.ndarray[Any, Any]) -> Seconds:
        low, median, high = map(float, np.quantile(taken, (0.25, 0.5, 0.75)))
        return cls(median, low, high)

    def to_dict(self) -> dict[str, float]:
        return {"median": self.median, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel.

    path        its number, as pictures have it; of a kernel in a loop, behind the number of that loop. A loop itself
                has a row for bringing its states to where they are kept. On a GPU the number of a launch, as
                `step.text("launches")` has it, () for copies
    name        what it computes, as `step.text("kernels")` has it; or the kernel that is launched
    over        what it goes over: "[batch, 256]"; or its blocks and threads
    part        "forward", "backward" or "update"; of a kernel that is part of several, the first; in a loop, the
                loop's, but for loops over slices of a batch; "data" of copies
    modules     of the model that its values belong to
    lines       the user's: "mlp.py:12  self.fc1(x)"
    calls       how often it runs in one call of the step
    seconds     in one call of the step, all its runs together; of the thread that took longest
    share       of the time of all kernels
    bytes       read and written in one call of these sizes, as the step's certificate counts them
    operations  likewise
    predicted   seconds in one call, as the certificate predicts them; None on a GPU and for what is no kernel
    kernels     by the numbers that pictures have, which part of its time belongs to that kernel
    """

    path: tuple[int, ...]
    name: str
    over: str
    part: str
    modules: tuple[str, ...]
    lines: tuple[str, ...]
    calls: int
    seconds: Seconds
    share: float
    bytes: int
    operations: int
    predicted: float | None = None
    kernels: Mapping[int, float] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return ".".join(map(str, self.path))

    def to_dict(self) -> dict[str, Any]:
        plain = ("name", "over", "part", "calls", "share", "bytes", "operations", "predicted")
        more = {"modules": [*self.modules], "lines": [*self.lines], "seconds": self.seconds.to_dict()}
        return {"kernel": self.place, **{name: getattr(self, name) for name in plain}, **more}


@dataclass(frozen=True, slots=True)
class Span:
    """Something a thread did in one call, in seconds since that call began; `row` is None where it waited for others,
    or for its whole share of the step."""

    thread: int
    name: str
    row: Row | None
    begin: float
    end: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Profile:
    """What `step.profile` measured; all times in seconds. `print(profile)` is a table, a notebook shows it with bars.

    name      of the step
    inputs    their types
    sizes     of the dims, by name
    device    "cpu" or "cuda"
    threads   that shared a call
    repeat    how many calls were measured
    rows      in the order in which the kernels run first
    step      the step as it is: what a call of its native code takes from Python
    marked    the same with the readings of a clock between kernels that give their times
    waiting   of the thread that waited longest for the others
    reading   what one reading takes; it is not in the kernels' times
    spans     of the call that took the median time
    left_out  how many spans were not kept, as there were too many
    """

    name: str
    inputs: str
    sizes: Mapping[str, int]
    device: str
    threads: int
    repeat: int
    rows: tuple[Row, ...]
    step: Seconds
    marked: Seconds
    waiting: Seconds
    reading: float
    spans: tuple[Span, ...] = field(repr=False)
    left_out: int
    function: Function = field(repr=False)

    @property
    def kernels(self) -> float:
        """Seconds of all kernels of one call."""
        return sum(row.seconds.median for row in self.rows)

    @property
    def predicted(self) -> float | None:
        """Seconds of all kernels as they are predicted; None on a GPU."""
        known = [row.predicted for row in self.rows if row.predicted is not None]
        return sum(known) if known else None

    @property
    def by_time(self) -> list[Row]:
        """The rows, those that take longest first."""
        return sorted(self.rows, key=lambda row: -row.seconds.median)

    @property
    def by_number(self) -> dict[int, float]:
        """Seconds by kernel number, as pictures take them: those in a loop are part of the loop."""
        found: dict[int, float] = {}
        for row in self.rows:
            for number, part in row.kernels.items():
                found[number] = found.get(number, 0.0) + part * row.seconds.median
        return found

    def __repr__(self) -> str:
        return f"<profile of {self.name}: {len(self.rows)} kernels, {self.step.median * 1e3:.3g} ms>"

    def __str__(self) -> str:
        from graphc.profile.table import table

        return table(self)

    def _repr_html_(self) -> str:
        from graphc.profile.table import html

        return html(self)

    def to_dict(self) -> dict[str, Any]:
        """All of it but the spans, as numbers, texts, lists and dictionaries: fit for JSON."""
        whole = {name: getattr(self, name) for name in ("name", "inputs", "device", "threads", "repeat", "reading")}
        times = {name: getattr(self, name).to_dict() for name in ("step", "marked", "waiting")}
        rows = [row.to_dict() for row in self.rows]
        return {**whole, "sizes": dict(self.sizes), **times, "kernels": self.kernels, "rows": rows}

    def to_chrome_trace(self, path: Any = None) -> str:
        """One call as JSON in the Trace Event Format, written to `path` if one is given: open it in Perfetto
        (ui.perfetto.dev) or chrome://tracing. A track a thread; each event says line, bytes and operations."""
        from graphc.profile.trace import trace
        from graphc.show import written

        return written(trace(self), path)

    def to_svg(self, path: Any = None, level: str = "kernels", *, fold: bool | None = None) -> str:
        """A drawing coloured by these times, written to `path` if one is given.

        level  "kernels", "layers" or "graph", as of `step.to_svg`; or "bars": a bar a kernel, the longest first
        """
        from graphc import show

        if check_choice("level", level, LEVELS) != "bars":
            return show.to_svg(self.function, path, level, self.by_number, fold, "graphc")
        from graphc.picture.display import Drawing
        from graphc.profile.bars import bars

        return Drawing(show.written(bars(self), path))

    def to_html(self, path: Any = None, *, fold: bool | None = None) -> str:
        """The page of `step.to_html`, all three levels coloured by these times."""
        from graphc import show

        return show.to_html(self.function, path, self.by_number, fold)
