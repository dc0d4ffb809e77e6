"""SHA-256, from where it costs nothing to get: `hashlib` loads OpenSSL, which takes longer than all we hash."""

from __future__ import annotations

import sys

try:
    if sys.version_info >= (3, 12):
        from _sha2 import sha256
    else:
        from _sha256 import sha256
except ImportError:  # another implementation of Python, or a build without these modules
    from hashlib import sha256

__all__ = ["sha256"]
