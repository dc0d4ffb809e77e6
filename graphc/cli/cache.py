"""`graphc cache ls | clear | verify`: the machine code that is remembered."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from graphc.backends.cache import Cache, Entry, default_cache
from graphc.cli.outcome import DONE, GREEN, RED, WRONG, Misuse, coloured, print_json

ACTIONS = ("ls", "clear", "verify")


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "action",
        nargs="?",
        default="ls",
        metavar="ls | clear | verify",
        help="list the entries, remove them all, or read each and compare it with its hash; ls if left out",
    )
    command.add_argument("--remove", action="store_true", help="verify: remove what is damaged or was left unfinished")
    command.add_argument("--json", action="store_true", help="the answer as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.action not in ACTIONS:
        from graphc.suggestions import did_you_mean

        text = f"there is no cache {options.action}; there are {', '.join(ACTIONS)}"
        raise Misuse(text, did_you_mean(options.action, ACTIONS))
    if options.remove and options.action != "verify":
        raise Misuse(f"--remove is for cache verify, not for {options.action}")
    store = default_cache()
    status, data, lines = {"ls": listed, "clear": cleared, "verify": verified}[options.action](store, options.remove)
    if options.json:
        print_json({"folder": store.folder, **data})
    else:
        print("\n".join([*lines, f"{store.size():,} bytes in {store.folder or 'memory only'}"]))
    return status


Answer = tuple[int, dict[str, Any], list[str]]  # exit status, data, lines


def listed(store: Cache, remove: bool) -> Answer:
    entries = store.entries()
    data = {"bytes": sum(entry.size for entry in entries), "limit": store.limit, "entries": [*map(described, entries)]}
    return DONE, data, [line(entry, time.ctime(entry.used)) for entry in entries]


def cleared(store: Cache, remove: bool) -> Answer:
    size = store.size()
    store.clear()
    return DONE, {"removed_bytes": size}, [f"removed {size:,} bytes"]


def verified(store: Cache, remove: bool) -> Answer:
    """With `remove`, what is found is mended: then all is well again."""
    count, faults = len(store.entries()), store.faults()
    if remove:
        for fault in faults:
            store.discard(fault.path)
    data = {"entries": count, "removed": remove, "faults": [{"path": each.path, "why": each.why} for each in faults]}
    lines = [f"{coloured('damaged', RED, sys.stdout)}  {each.path}: {each.why}" for each in faults]
    found = (
        f"{len(faults)} damaged{', removed' if remove else ''}"
        if faults
        else coloured("all are sound", GREEN, sys.stdout)
    )
    lines.append(f"{count:,} entries read, {found}")
    if faults and not remove:
        lines.append("python -m graphc cache verify --remove removes what is damaged; it is compiled again when needed")
    return WRONG if faults and not remove else DONE, data, lines


def described(entry: Entry) -> dict[str, Any]:
    return {"kind": entry.kind, "key": entry.key, "bytes": entry.size, "used": entry.used}


def line(entry: Entry, end: str) -> str:
    return f"{entry.kind:<9} {entry.key[:16]} {entry.size:>10,} bytes  {end}"
