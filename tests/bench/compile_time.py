"""How long a deep model takes to compile, part by part, and that equal blocks share their kernels.

    python tests/bench/compile_time.py [--layers 1 12] [--rounds 3]

Each row is a transformer's training step (d 128, 4 heads, T 64, AdamW) compiled in a process of its own: seconds of the
passes over the graph, of the plan, of the kernels' source and of native code with an empty cache; the same but loaded
from the cache, which takes no passes, plan and source; the number of loop nests and of distinct kernels. Medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

CHILD = """
import json
import graphc as gx
from graphc import nn, optim

class Transformer(nn.Module):
    def __init__(self):
        self.characters, self.places = nn.Embedding(64, 128), nn.Embedding(64, 128)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(128, 4, 512, 0.0, activation="gelu", batch_first=True, norm_first=True)
            for _ in range({layers})
        )
        self.norm, self.scores = nn.LayerNorm(128), nn.Linear(128, 64)

    def forward(self, x):
        x = self.characters(x) + self.places.weight
        for block in self.blocks:
            x = block(x, is_causal=True)
        return self.scores(self.norm(x)).flatten(0, 1)

net, batch = Transformer(), gx.dim("batch", max=16)
loss = lambda scores, y: gx.cross_entropy(scores, y.flatten())
step = gx.train_step(net, loss, optim.AdamW(net.parameters()), x=gx.i64[batch, 64], y=gx.i64[batch, 64])
kernels = {{source.kernel.name for source in step.artifact.sources}}
print(json.dumps(dict(step.seconds, nests=len(step.artifact.program.nests), kernels=len(kernels))))
"""


def compile_in_process(layers: int, folder: str) -> dict[str, float]:
    environment = {**os.environ, "GRAPHC_CACHE_DIR": folder}
    run = [sys.executable, "-c", CHILD.format(layers=layers)]
    return json.loads(subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 12])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    columns = ("passes", "plan", "source", "native")
    print(f"{'layers':>6}{'cache':>8}" + "".join(f"{name:>9}" for name in (*columns, "but native", "nests", "kernels")))
    for layers in options.layers:
        rows: dict[str, list[dict[str, float]]] = {"empty": [], "filled": []}
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                for kind in rows:
                    rows[kind].append(compile_in_process(layers, folder))
        for kind, found in rows.items():
            middle = {name: statistics.median(row[name] for row in found) for name in found[0]}
            seconds = "".join(f"{middle.get(name, 0):>9.2f}" for name in columns)
            graph = sum(middle.get(name, 0) for name in columns[:3])
            print(f"{layers:>6}{kind:>8}{seconds}{graph:>11.2f}{middle['nests']:>9.0f}{middle['kernels']:>9.0f}")


if __name__ == "__main__":
    main()
