"""One call of a step in the Trace Event Format.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: complete events ("X") with times in
microseconds, one track (pid, tid) a thread, named by events of metadata ("M").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from graphc.profile.record import Profile, Row, Span

PROCESS = 1
MICRO = 1e6
DIGITS = 3  # after the point: nanoseconds


def trace(profile: Profile) -> str:
    about = {key: value for key, value in profile.to_dict().items() if key != "rows"}
    whole = {"traceEvents": [*tracks(profile), *map(event, profile.spans)], "displayTimeUnit": "ns", "otherData": about}
    return json.dumps(whole, ensure_ascii=False)


def tracks(profile: Profile) -> Iterator[dict[str, Any]]:
    yield named("process_name", 0, profile.name)
    for thread in sorted({span.thread for span in profile.spans}):
        yield named("thread_name", thread, f"thread {thread}" if profile.device == "cpu" else "stream")


def named(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": PROCESS, "tid": thread, "args": {"name": name}}


def event(span: Span) -> dict[str, Any]:
    return {
        "name": span.name,
        "cat": "step" if span.row is None else span.row.part,
        "ph": "X",
        "ts": round(span.begin * MICRO, DIGITS),
        "dur": round((span.end - span.begin) * MICRO, DIGITS),
        "pid": PROCESS,
        "tid": span.thread,
        "args": {} if span.row is None else arguments(span.row),
    }


def arguments(row: Row) -> dict[str, Any]:
    """What is shown of an event that is clicked; bytes and operations are those of one run."""
    lines = {f"line {number + 1}" if number else "line": line for number, line in enumerate(row.lines)}
    each = {"bytes": row.bytes // row.calls, "operations": row.operations // row.calls}
    modules = {"modules": ", ".join(row.modules)} if row.modules else {}
    return {"kernel": row.place, **lines, "over": row.over, **modules, **each}
