"""Whether steps can run on a GPU."""

from __future__ import annotations


def is_available() -> bool:
    """False: this version compiles for the CPU only, so `device="cuda"` is refused with a clear error."""
    return False
