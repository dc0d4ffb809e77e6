"""How long the MLP step takes to be made for a GPU, in a process that starts: cold, with nothing kept, and warm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from graphc.cuda_check.report import STARTS

NAME = "W3"  # the program
SECONDS = 60  # for a start


def made(small: bool) -> dict[str, Any]:
    """What it takes in this process, once the driver is there."""
    from graphc.cuda import the_device
    from graphc.cuda_check.programs import programs

    program = programs(small)[NAME]
    the_device()
    start = time.perf_counter()
    function = program.make("cuda")
    return {"make_seconds": time.perf_counter() - start, "fresh": function.artifact.fresh}


def starts(small: bool) -> Iterator[dict[str, Any]]:
    """The same in two processes, one after the other; nothing but what the first one leaves is kept for the second."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"GRAPHC_CACHE_DIR": folder, "CUDA_CACHE_PATH": folder}  # ours, and the driver's
        for state, wanted in STARTS.items():
            command = [sys.executable, "-m", "graphc.cuda_check", "--section", "made", NAME, *["--small"] * small]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
            row = {"what": f"{state} start", "wanted": wanted}
            line = next((line for line in done.stdout.splitlines() if "make_seconds" in line), None)
            if line is None:
                yield row | {"error": done.stderr.strip()[-1500:] or f"ended with status {done.returncode}"}
                return
            yield row | json.loads(line[line.index("{") :])
