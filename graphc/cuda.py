"""Which devices steps can run on."""

from __future__ import annotations

from graphc.errors import TraceError
from graphc.ir.graph import user_origin

DEVICES = ("cpu", "auto")


def is_available() -> bool:
    """False: this version compiles for the CPU only."""
    return False


def check_device(device: str) -> None:
    """Raises TraceError for a device this version cannot compile for."""
    if not isinstance(device, str) or device not in DEVICES:
        raise TraceError(f"device {device!r} is not available; this version compiles for 'cpu'", user_origin())
