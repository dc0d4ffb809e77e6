"""The same steps by PyTorch and JAX on the same GPU, as far as they are installed: data on the device, equal precision.

Precision is float32 in all of a product: neither TF32 nor a narrower type, which is what graphc does by default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from graphc.bench.workloads import Workload
from graphc.cuda_check.times import SAMPLE_SECONDS, by_host

WARM_UP = 5
DEVICE = "cuda"
TORCH = {"torch eager": None, "torch.compile, reduce-overhead": "reduce-overhead", "torch.compile": "default"}
PRECISIONS = {"highest": "highest", "tf32": "high", "bf16": "medium"}  # as PyTorch calls them


def torch_there() -> tuple[Any, str]:
    """PyTorch if it is installed and has a GPU; else None, and why."""
    try:
        import torch
    except ImportError:
        return None, "PyTorch is not installed"
    if not torch.cuda.is_available():
        return None, f"PyTorch {torch.__version__} finds no GPU"
    return torch, ""


def torch_times(workload: Workload, precision: str) -> Iterator[dict[str, Any]]:
    """Microseconds a step, of PyTorch's three ways."""
    torch, reason = torch_there()
    if torch is None:
        yield {"skipped": reason}
        return
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    for name, mode in TORCH.items():
        try:
            yield of_torch(torch, workload, mode) | {"system": name, "precision": precision}
        except Exception as error:  # a peer's fault is no fault of ours, and its other ways may work
            yield {"system": name, "workload": workload.name, "error": f"{type(error).__name__}: {error}"[:300]}


def of_torch(torch: Any, workload: Workload, mode: str | None) -> dict[str, Any]:
    from graphc.bench.systems import torch as eager
    from graphc.bench.systems import torch_compile

    class Fixed(torch_compile.System):
        """Its tensors stay where they are, without which reduce-overhead captures nothing."""

        def trained(self) -> Callable[..., Any]:
            if self.workload.model != "lstm":
                slots = [tensor for slot in self.slots.values() for tensor in slot.values()]
                for tensor in (self.steps, *self.weights.values(), *slots):
                    torch._dynamo.mark_static_address(tensor)
            return super().trained()

    Fixed.mode = mode
    start = time.perf_counter()
    with torch.device(DEVICE):  # only here: a default for all of PyTorch costs its every call a microsecond
        system = (eager.System if mode is None else Fixed)(workload, (), workload.weights())
    batch = [torch.from_numpy(each).to(DEVICE) for each in workload.batches(first_batch(workload))[0]]
    for _ in range(WARM_UP):
        system.tensor_step(*batch)
    torch.cuda.synchronize()
    made = time.perf_counter() - start
    return {"workload": workload.name, "what": "step", "make_seconds": made} | {
        "microseconds": settled(lambda: system.tensor_step(*batch), torch.cuda.synchronize)
    }


def jax_times(workload: Workload, precision: str) -> Iterator[dict[str, Any]]:
    try:
        import jax
    except ImportError:
        yield {"skipped": "JAX is not installed"}
        return
    if jax.default_backend() != "gpu":
        yield {"skipped": f"JAX {jax.__version__} finds no GPU"}
        return
    named = {"highest": "highest", "tf32": "tensorfloat32", "bf16": "bfloat16"}
    jax.config.update("jax_default_matmul_precision", named[precision])
    from graphc.bench.systems import jax as peer

    start = time.perf_counter()
    system = peer.System(workload, (), workload.weights())
    data = system.given(workload.batches(first_batch(workload))[0])
    batch = [jax.device_put(each) for each in data]
    for _ in range(WARM_UP):
        loss = system.step(*batch)
    jax.block_until_ready(loss)
    made = time.perf_counter() - start
    microseconds = settled(lambda: system.step(*batch), lambda: jax.block_until_ready(system.state))
    row = {"system": "jax.jit", "workload": workload.name, "what": "step", "precision": precision}
    yield row | {"make_seconds": made, "microseconds": microseconds}


def first_batch(workload: Workload) -> tuple[Any, ...]:
    """The data of one step; `Workload.batches` cuts it into that and empty ones."""
    import numpy as np

    return workload.draw(np.random.default_rng(7), workload.batch)


def settled(step: Callable[[], Any], wait: Callable[[], Any]) -> float:
    """Microseconds of a step where many are given to the device before it is waited for."""
    start = time.perf_counter()
    step()
    wait()
    turns = min(max(round(SAMPLE_SECONDS / max(time.perf_counter() - start, 1e-7)), 1), 1000)

    def many() -> None:
        for _ in range(turns):
            step()
        wait()

    return by_host(many, 0.0) / turns


PEERS: dict[str, Callable[[Workload, str], Iterator[dict[str, Any]]]] = {"torch": torch_times, "jax": jax_times}
