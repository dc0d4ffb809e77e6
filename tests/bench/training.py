"""Step and epoch times against PyTorch eager, one thread, interleaved in one process.

    python tests/bench/training.py [--json results/NAME.json]

Prints a table of medians and the ratio torch / graphc (more than 1: graphc is faster), the seconds of a compile with an
empty cache, the milliseconds of a start with a filled one, and peak memory. Needs torch, which graphc itself does not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402

ROUNDS = 15


def linear_regression():
    """(name, data, graphc step and loader, torch step, batch) of linear regression 2 -> 1, batch 10, SGD."""
    random = np.random.default_rng(0)
    x = random.standard_normal((1000, 2)).astype(np.float32)
    y = (x @ np.array([[2.0], [-3.4]]) + 4.2 + 0.01 * random.standard_normal((1000, 1))).astype(np.float32)
    return x, y, 10, 0.03


def mlp():
    random = np.random.default_rng(0)
    x = random.standard_normal((10240, 784)).astype(np.float32)
    return x, random.integers(0, 10, 10240), 256, 0.1


def deep():
    random = np.random.default_rng(0)
    x = random.standard_normal((1280, 64)).astype(np.float32)
    return x, random.integers(0, 10, 1280), 32, 0.1


WORKLOADS = {"linear regression": linear_regression, "mlp 784-256-10": mlp, "20 tanh layers of 64": deep}


def layers(nn, name):
    """The modules of a workload, for graphc's nn or torch's, and the loss."""
    if name == "linear regression":
        return [nn.Linear(2, 1)], nn.MSELoss()
    if name == "mlp 784-256-10":
        return [nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)], nn.CrossEntropyLoss()
    hidden = [module for _ in range(20) for module in (nn.Linear(64, 64), nn.Tanh())]
    return [*hidden, nn.Linear(64, 10)], nn.CrossEntropyLoss()


def build_graphc(name, x, y, batch, lr):
    import graphc as gx
    from graphc import data, nn, optim

    gx.manual_seed(0)
    n = gx.dim("batch", max=batch)
    modules, loss = layers(nn, name)
    net = nn.Sequential(*modules)
    target = gx.i64[n] if y.ndim == 1 else gx.f32[n, 1]
    step = gx.train_step(net, loss, optim.SGD(net.parameters(), lr=lr), x=gx.f32[n, x.shape[1]], y=target)
    return step, data.DataLoader(data.TensorDataset(x, y), batch_size=batch, shuffle=True, seed=0)


def build_torch(name, batch, lr):
    import torch

    torch.set_num_threads(1)
    modules, loss = layers(torch.nn, name)
    net = torch.nn.Sequential(*modules)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)

    def step(x, y):
        cost = loss(net(x), y)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        return cost

    return step


def seconds(action, repeat):
    start = time.perf_counter()
    for _ in range(repeat):
        action()
    return (time.perf_counter() - start) / repeat


def measure(name):
    import torch

    x, y, batch, lr = WORKLOADS[name]()
    step, loader = build_graphc(name, x, y, batch, lr)
    torch_step = build_torch(name, batch, lr)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    steps = len(loader)

    def torch_epoch():
        order = torch.randperm(len(tx))
        for start in range(0, len(tx), batch):
            rows = order[start : start + batch]
            torch_step(tx[rows], ty[rows])

    repeat = 10 if batch > 100 else 100
    pairs = {
        "step": (lambda: step(x[:batch], y[:batch]), lambda: torch_step(tx[:batch], ty[:batch]), repeat, 1),
        "epoch, a step": (lambda: step.epoch(loader), torch_epoch, 1, steps),
    }
    rows = []
    for kind, (ours, theirs, repeat, divide) in pairs.items():
        ours(), theirs()
        times = [(seconds(ours, repeat) / divide, seconds(theirs, repeat) / divide) for _ in range(ROUNDS)]
        rows.append(
            {
                "workload": name,
                "what": kind,
                "graphc_us": round(1e6 * statistics.median(a for a, _ in times), 2),
                "torch_us": round(1e6 * statistics.median(b for _, b in times), 2),
                "ratio": round(statistics.median(b / a for a, b in times), 2),
            }
        )
    return rows


CHILD = """
import json, re, sys, time
sys.path[:0] = {path!r}
import numpy as np
start = time.perf_counter()
import training
step, loader = training.build_graphc({name!r}, *training.WORKLOADS[{name!r}]())
built = time.perf_counter() - start
x, y = loader.dataset.arrays
step(x[:loader.batch_size], y[:loader.batch_size])
first = time.perf_counter() - start
print(json.dumps(dict(built=built, first=first, compile=sum(step.seconds.values()), fresh=step.artifact.fresh,
    imported=[name for name in ("numba", "llvmlite") if name in sys.modules],
    peak_mb=int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)))
"""


def measure_start(name):
    """Cold and warm start in processes of their own: import graphc, build the step, run one batch."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("cold", "warm", "warm", "warm"):
            code = CHILD.format(path=[str(Path(__file__).parent)], name=name)
            run = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "GRAPHC_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            rows.setdefault(kind, []).append(json.loads(run.stdout))
    warm = sorted(rows["warm"], key=lambda row: row["first"])[1]
    return {"workload": name, "cold": rows["cold"][0], "warm": warm}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    times = [row for name in WORKLOADS for row in measure(name)]
    print(f"{'workload':<24}{'what':<16}{'graphc µs':>12}{'torch µs':>12}{'ratio':>8}")
    for row in times:
        print(f"{row['workload']:<24}{row['what']:<16}{row['graphc_us']:>12}{row['torch_us']:>12}{row['ratio']:>8}")
    starts = [measure_start(name) for name in WORKLOADS]
    for row in starts:
        cold, warm = row["cold"], row["warm"]
        print(
            f"{row['workload']}: cold compile {cold['compile']:.2f} s, import to first step {cold['first']:.2f} s; "
            f"warm build {1e3 * warm['compile']:.1f} ms, import to first step {1e3 * warm['first']:.0f} ms "
            f"(imports {warm['imported'] or 'neither numba nor llvmlite'}); peak memory {warm['peak_mb']:.0f} MB"
        )
    if options.json:
        import torch

        about = {
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        }
        options.json.write_text(json.dumps({"about": about, "times": times, "starts": starts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
