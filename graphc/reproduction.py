"""A kernel that is not what the reference computes, as a script that anybody can run who has this package."""

from __future__ import annotations

import base64
import io
import os
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphc.backends.artifact import draw
from graphc.backends.cache import Cache, default_cache
from graphc.backends.runtime import Storage
from graphc.backends.stepping import Difference, Stepper
from graphc.ir.dot.style import user_lines
from graphc.ir.graph import PACKAGE, Graph, IRError
from graphc.ir.text import parse_graph, print_graph

Array = np.ndarray[Any, Any]

SCRIPT = '''\
"""{title}

Found by gx.debug(check="reference"). Run it with {package} installed: it compiles the graph below and compares each
kernel with the reference; it ends with status 1 and says what differs if the fault is there. It needs no other file.
{lines}"""

import sys

from {package}.reproduction import replay

GRAPH = """
{graph}"""

ARRAYS = """
{arrays}
"""

sys.exit(replay(GRAPH, ARRAYS))
'''


def compare(graph: Graph, arrays: Mapping[str, Any], store: Cache) -> Difference | None:
    """The first kernel of a graph, which went through the passes, that is not what the reference computes."""
    states = [Storage(np.asarray(arrays[value.attrs["name"]])) for value in graph.of_role("state")]
    inputs = [np.array(arrays[value.attrs["name"]], order="C") for value in graph.of_role("data")]
    scalars = [arrays[value.attrs["name"]] for value in graph.of_role("scalar")]
    sizes = sizes_of(graph, arrays)
    stepper = Stepper(draw(graph), states, store)
    for number, known in stepper.run(inputs, sizes, scalars):
        found = stepper.difference(number, known, sizes)
        if found is not None:
            return found
    return None


def sizes_of(graph: Graph, arrays: Mapping[str, Any]) -> Sequence[int]:
    from graphc.backends import reference

    known = reference.dim_sizes(graph, arrays)
    return [known[dim] for dim in graph.dims]


def replay(text: str, packed: str) -> str | int:
    """What such a script does: 0 where all kernels agree with the reference, else what differs."""
    with np.load(io.BytesIO(base64.b64decode(packed))) as file:
        arrays = dict(file)
    found = compare(parse_graph(text), arrays, default_cache())
    if found is None:
        print("all kernels agree with the reference")
        return 0
    return told(found)


def told(found: Difference) -> str:
    """The difference in one line."""
    at = f" at index {found.index[0] if len(found.index) == 1 else found.index}" if found.index else ""
    return (
        f"kernel {found.number} ({found.nest.name}) gives {found.native} for {found.value.op.name} "
        f"{found.value.type}{at}, the reference {found.expected}"
    )


def write_script(found: Difference, stepper: Stepper, known: Mapping[Any, Array], whole: Mapping[str, Any]) -> Path:
    """Write the smallest script that shows the difference: of that kernel alone if it does so, else of the whole step.

    whole  all inputs of the graph by name, as they were before the step
    """
    graph, arrays = stepper.cut(found.number, dict(known))
    try:
        shows = compare(graph, arrays, default_cache()) is not None
    except (IRError, KeyError):  # a dim that no input of the kernel alone tells, or what it cannot be cut off from
        shows = False
    if not shows:
        graph, arrays = stepper.graph, dict(whole)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    text = SCRIPT.format(
        title=told(found).capitalize(),
        package=PACKAGE,
        lines="".join(f"\n    {line}" for line in user_lines(found.nest.origins)) + "\n",
        graph=print_graph(graph).replace("\\", "\\\\"),
        arrays="\n".join(textwrap.wrap(base64.b64encode(stream.getvalue()).decode(), 116)),
    )
    handle, name = tempfile.mkstemp(prefix=f"{stepper.graph.name}_", suffix=".py", text=True)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return Path(name)
