"""Where a check ran: versions, the GPU, what NVIDIA's tools are there."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from typing import Any

PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "triton", "nvidia-cublas-cu12", "nvidia-cublas")


def environment() -> dict[str, Any]:
    import graphc
    from graphc.backends.cuda.driver import first_device

    device = first_device()
    device.enter()
    free, whole = device.memory()
    found: dict[str, Any] = {"graphc": graphc.__version__, "python": platform.python_version()}
    found |= {name: version for name in PACKAGES if (version := version_of(name))}
    found |= {"system": platform.platform(), "driver_for_cuda": device.driver.version / 1000, "gpu": device.name}
    found |= {"architecture": device.architecture, "multiprocessors": device.multiprocessors}
    found |= {"shared_bytes": device.shared_bytes, "memory_bytes": whole, "free_bytes": free}
    return found | {"ptxas": shutil.which("ptxas") is not None}


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
