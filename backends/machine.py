"""This machine's instruction set by name, without asking LLVM."""

from __future__ import annotations

import platform
from functools import cache

from graphc.backends.digest import sha256

PROCESSOR_KEYS = {"vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU implementer", "CPU part"}


@cache
def host_signature() -> str:
    """A name for this machine's instruction set: equal signatures can run each other's `target.host()` objects."""
    described = [platform.system(), *(processor_lines() or [platform.processor()])]
    return f"{platform.machine().lower()}-{sha256(repr(described).encode()).hexdigest()[:16]}"


def processor_lines(path: str = "/proc/cpuinfo") -> list[str]:
    """What Linux says about the kinds of processors in the machine; nothing on other systems."""
    try:
        with open(path, errors="replace") as file:
            lines = set(file)
    except FileNotFoundError:
        return []
    return sorted(line.rstrip("\n") for line in lines if line.partition(":")[0].strip() in PROCESSOR_KEYS)
