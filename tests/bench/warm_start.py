"""From a fresh process to the first finished step with a filled cache, against JAX with its persistent cache.

    python tests/bench/warm_start.py [--rounds N] [--json FILE]

Every round starts one process of each kind, turn by turn; the first of each fills its cache and does not count. Prints
the medians in milliseconds, from before the process was started: of an empty process, one that imports NumPy, graphc
(without and with layers), and JAX where it is installed; and the medians of the ratios of pairs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHOW_TIME = "import os, time; print(time.time() - float(os.environ['STARTED']))"

NUMPY = """
import numpy as np
"""

REGRESSION = """
import numpy as np
import graphc as gx
x, y = gx.input("x", gx.f32["batch", 2]), gx.input("y", gx.f32["batch", 1])
w, b = gx.parameter("w", np.zeros((2, 1))), gx.parameter("b", np.zeros(1))
loss = ((x @ w + b - y) ** 2 / 2).mean()
gw, gb = gx.grad(loss, [w, b])
step = gx.function([x, y], loss, updates={w: w - 0.03 * gw, b: b - 0.03 * gb})
step(np.ones((10, 2), np.float32), np.ones((10, 1), np.float32))
"""

MLP = """
import numpy as np
import graphc as gx
from graphc import nn, optim
batch = gx.dim("batch", max=256)
net = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
opt = optim.SGD(net.parameters(), lr=0.1)
step = gx.train_step(net, nn.CrossEntropyLoss(), opt, x=gx.f32[batch, 784], y=gx.i64[batch])
step(np.zeros((256, 784), np.float32), np.zeros(256, np.int64))
"""

JAX = """
import os
import numpy as np
import jax, jax.numpy as jnp
jax.config.update("jax_compilation_cache_dir", os.environ["GRAPHC_CACHE_DIR"] + "/jax")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
"""

JAX_REGRESSION = """
@jax.jit
def step(w, b, x, y):
    loss, (gw, gb) = jax.value_and_grad(lambda w, b: jnp.mean((x @ w + b - y) ** 2 / 2), (0, 1))(w, b)
    return w - 0.03 * gw, b - 0.03 * gb, loss
found = step(np.zeros((2, 1), np.float32), np.zeros(1, np.float32), np.ones((10, 2), np.float32),
             np.ones((10, 1), np.float32))
float(found[2])
"""

JAX_MLP = """
random = np.random.default_rng(0)
weights = [random.uniform(-0.03, 0.03, shape).astype(np.float32) for shape in ((784, 256), 256, (256, 10), 10)]
def loss(w, x, y):
    scores = jax.nn.relu(x @ w[0] + w[1]) @ w[2] + w[3]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], 1))
@jax.jit
def step(w, x, y):
    cost, gradients = jax.value_and_grad(loss)(w, x, y)
    return [a - 0.1 * g for a, g in zip(w, gradients)], cost
float(step(weights, np.zeros((256, 784), np.float32), np.zeros(256, np.int32))[1])
"""

PROGRAMS = {"nothing": "", "numpy": NUMPY, "graphc regression": REGRESSION, "graphc MLP": MLP}
PEERS = {"jax regression": JAX + JAX_REGRESSION, "jax MLP": JAX + JAX_MLP}


def milliseconds(program: str, folder: str) -> float:
    environment = {**os.environ, "GRAPHC_CACHE_DIR": folder, "STARTED": repr(time.time())}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, every start would compile Python
    command = [sys.executable, "-c", program + SHOW_TIME]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return 1e3 * float(found.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    programs = PROGRAMS | (PEERS if importlib.util.find_spec("jax") else {})
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds + 1):
            row = {name: milliseconds(program, folder) for name, program in programs.items()}
            rows += [row] if number else []
    medians = {name: statistics.median(row[name] for row in rows) for name in programs}
    for name, median in medians.items():
        print(f"{name:<20}{median:>8.0f} ms")
    found = {}
    for kind in KINDS:
        found[f"{kind} beyond numpy, ms"] = [row[f"graphc {kind}"] - row["numpy"] for row in rows]
        if f"jax {kind}" in programs:
            found[f"{kind}, graphc / jax"] = [row[f"graphc {kind}"] / row[f"jax {kind}"] for row in rows]
    for name, values in found.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{name:<32}{middle:>8.3g} ({low:.3g}..{high:.3g})")
    if options.json:
        options.json.write_text(json.dumps({"milliseconds": medians, "pairs": found}, indent=1) + "\n")


KINDS = ("regression", "MLP")

if __name__ == "__main__":
    main()
