"""What was compiled once, kept on disk: a store of payloads under content hashes.

An entry is one plain file, `<key>.<kind>`: the payload, then a trailer of 40 bytes with its sha256. A loader of shared
objects ignores what follows them, so the file of a library can be loaded as it is. And because it is one file, an entry
appears, is replaced and vanishes at once, for any number of processes and without locks.

Trouble with the disk is logged and never raised: what the folder does not take goes to a private temporary folder that
lasts as long as the process.

Reading comes first in every process that starts warm, so what only writing or trouble needs is imported there, and
files go by their names as text.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from graphc.backends.digest import sha256
from graphc.ir.frozen import dataclass

if TYPE_CHECKING:
    from pathlib import Path

TRAILER_MAGIC = b"graphc\0\1"  # the last byte is the version of the trailer
TRAILER_SIZE = len(TRAILER_MAGIC) + sha256().digest_size
ENTRY_NAME = re.compile(r"(?P<key>[0-9a-f]{64})\.(?P<kind>[a-z0-9_-]+)")
UNFINISHED_PREFIX = ".unfinished-"
UNFINISHED_LIFETIME = 3600.0  # seconds; an unfinished file that old was left by a writer that died
UNFINISHED = "whoever wrote it did not come to an end"
DEFAULT_LIMIT = 1 << 30  # bytes
RARELY = 64
EVICTION_TARGET = 0.9  # of the limit, so that evicting is rare


def warn(message: str, *details: object) -> None:
    import logging

    logging.getLogger("graphc.cache").warning(message, *details)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache: `size` in bytes on disk, last `used` in seconds since the epoch."""

    kind: str
    key: str
    path: str
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Fault:
    """A file of the cache that is of no use, and why."""

    path: str
    why: str


class Cache:
    """A content-addressed store of at most `limit` bytes in `folder`; with None, it lasts as long as the process.

    The folder is made if need be, for its owner only. One that others can write to is not used, since a payload may be
    code that will run. When a put makes the store too large, the entries unused for longest are removed.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self.folder = os.fspath(folder) if folder and _prepare(os.fspath(folder)) else None
        # Made when `folder` does not take a payload, and written to from then on.
        self._private_folder: str | None = None
        self._written_size: int | None = None  # bytes in the folder that is written to, None before the first look

    @staticmethod
    def key(*parts: str | bytes) -> str:
        """The sha256, in hexadecimal, of the sequence of parts; parts that are split or shifted give another key."""
        digest = sha256()
        for part in parts:
            tag, content = (b"s", part.encode("utf-8", "surrogatepass")) if isinstance(part, str) else (b"b", part)
            digest.update(b"%s%d:" % (tag, len(content)))
            digest.update(content)
        return digest.hexdigest()

    def get(self, kind: str, key: str) -> bytes | None:
        """The payload put under `kind` and `key`; None when there is none, or it is damaged."""
        found = self._find(kind, key)
        return found[1] if found else None

    def file(self, kind: str, key: str) -> str | None:
        """The file of an entry, just verified, which begins with the payload; None when there is none."""
        found = self._find(kind, key)
        return found[0] if found else None

    def path(self, kind: str, key: str) -> Path | None:
        """The same as a Path."""
        from pathlib import Path

        found = self.file(kind, key)
        return Path(found) if found else None

    def put(self, kind: str, key: str, payload: bytes) -> Path:
        """Keep `payload` in place of what was there, and return its file; it does not exist if no disk takes it."""
        from pathlib import Path

        name = _file_name(kind, key)
        for folder in self._writable_folders():
            path = os.path.join(folder, name)
            if _write(path, payload):
                self._bound(path, len(payload) + TRAILER_SIZE)
                return Path(path)
        return Path(self.folder or os.devnull, name)

    def entries(self) -> list[Entry]:
        """All entries, those unused for longest first."""
        return sorted((entry for folder in self._folders() for entry in _entries(folder)), key=lambda entry: entry.used)

    def size(self) -> int:
        """Bytes on disk."""
        return sum(entry.size for entry in self.entries())

    def clear(self) -> None:
        """Remove all entries. Libraries that are loaded stay usable."""
        for entry in self.entries():
            _remove(entry.path)
        self._written_size = None

    def faults(self) -> list[Fault]:
        """Every entry that is damaged, and what writers that died left behind. All is read and nothing changed."""
        reasons = {entry.path: _damage(entry.path) for entry in self.entries()}
        left = (path for folder in self._folders() for path in _abandoned(folder))
        return [Fault(path, why) for path, why in reasons.items() if why] + [Fault(path, UNFINISHED) for path in left]

    def discard(self, path: str) -> None:
        """Remove one file."""
        _remove(path)
        self._written_size = None

    def _folders(self) -> list[str]:
        """Where entries are, the latest ones first."""
        return [folder for folder in (self._private_folder, self.folder) if folder]

    def _writable_folders(self) -> Iterator[str]:
        """The folder; then, if the caller asks for another one, a private one that is the only one from then on."""
        if self.folder and not self._private_folder and _prepare(self.folder):
            yield self.folder
        if not self._private_folder:
            self._private_folder, self._written_size = _make_private_folder(), None
        if self._private_folder:
            yield self._private_folder

    def _find(self, kind: str, key: str) -> tuple[str, bytes] | None:
        name = _file_name(kind, key)
        for folder in self._folders():
            path = os.path.join(folder, name)
            payload = _read(path)
            if payload is not None:
                return path, payload
        return None

    def _bound(self, written: str, size: int) -> None:
        """Evict if `written`, of `size` bytes, makes its folder too large.

        The folder is listed at the first put and when the running total says that it is full. What other processes put
        meanwhile is seen only then, so for a while the limit can be passed by as much as they write. First puts that
        are small list it one time in RARELY only, which their keys decide: programs are put in many small pieces.
        """
        looks = size * RARELY**2 > self.limit or int(os.path.basename(written)[:4], 16) % RARELY == 0
        if self._written_size is None and not looks:
            return
        if self._written_size is None:
            _remove_abandoned(os.path.dirname(written))
            self._written_size = sum(entry.size for entry in _entries(os.path.dirname(written)))
        else:
            self._written_size += size
        if self._written_size > self.limit:
            self._written_size = _evict(written, int(self.limit * EVICTION_TARGET))


def default_cache() -> Cache:
    """The cache of this user, one object per folder and process.

    Its folder is the value of GRAPHC_CACHE_DIR, else `graphc` in the platform's folder for caches. With the value
    `off`, or where there is no folder to write to, nothing is kept beyond the process.
    """
    setting = os.environ.get("GRAPHC_CACHE_DIR", "")
    if setting.lower() == "off":
        return _cache_in(None)
    folder = os.path.expanduser(setting) if setting else _user_cache_folder()
    if folder.startswith("~"):
        warn("nothing is kept beyond this process: there is no home folder; set GRAPHC_CACHE_DIR to a folder")
        return _cache_in(None)
    return _cache_in(os.path.abspath(folder))


@functools.cache
def _cache_in(folder: str | None) -> Cache:
    return Cache(folder)


def _user_cache_folder() -> str:
    """It starts with "~" where nobody knows the home folder."""
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        return os.path.join(os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local"), "graphc", "Cache")
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Caches", "graphc")
    configured = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(configured if os.path.isabs(configured) else os.path.join(home, ".cache"), "graphc")


# ---- folders ---------------------------------------------------------------------------------------------------------


def _prepare(folder: str) -> bool:
    """Make `folder` if need be; whether it can be trusted."""
    try:
        if not os.path.isdir(folder):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        danger = _danger(folder)
    except OSError as error:
        danger = str(error)
    if danger:
        warn("cache folder %s is not used: %s; mend this or set GRAPHC_CACHE_DIR", folder, danger)
    return not danger


def _danger(folder: str) -> str:
    """Why someone else could place files in `folder`; empty if nobody can."""
    if os.name != "posix":
        return ""  # access lists guard the user's own folders
    status = os.stat(folder)
    if {status.st_uid, os.lstat(folder).st_uid} - {os.geteuid(), 0}:
        return f"it belongs to user {status.st_uid}, not to {os.geteuid()}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others can write to it (mode {stat.S_IMODE(status.st_mode):o}, at most 755 is safe)"
    parent = os.path.realpath(folder)
    while parent != os.path.dirname(parent):
        parent = os.path.dirname(parent)
        mode = os.stat(parent).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"anyone can replace it, since {parent} has mode {stat.S_IMODE(mode):o}"
    return ""


def _make_private_folder() -> str | None:
    import tempfile

    try:
        folder = tempfile.mkdtemp(prefix="graphc-")
    except OSError as error:
        warn("nothing can be cached, not even in a temporary folder: %s", error)
        return None
    atexit.register(_remove_folder, folder, os.getpid())
    return folder


def _remove_folder(folder: str, owner: int) -> None:
    """Remove the temporary folder of process `owner`; its forked children also get here and must leave it."""
    import shutil

    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _entries(folder: str) -> Iterator[Entry]:
    for item in _items(folder):
        name = ENTRY_NAME.fullmatch(item.name)
        if not name:
            continue
        with suppress(OSError):  # another process may have removed it
            status = item.stat(follow_symlinks=False)
            yield Entry(name["kind"], name["key"], item.path, status.st_size, status.st_mtime)


def _remove_abandoned(folder: str) -> None:
    for path in _abandoned(folder):
        _remove(path)


def _abandoned(folder: str) -> Iterator[str]:
    """What writers that died left behind."""
    for item in _items(folder):
        if not item.name.startswith(UNFINISHED_PREFIX):
            continue
        with suppress(OSError):
            if time.time() - item.stat(follow_symlinks=False).st_mtime > UNFINISHED_LIFETIME:
                yield item.path


def _items(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except OSError as error:
        warn("cannot list the cache folder: %s", error)
        return []


def _evict(written: str, target: int) -> int:
    """Remove entries beside `written`, those unused for longest first, down to `target` bytes; return what is left."""
    entries = sorted(_entries(os.path.dirname(written)), key=lambda entry: entry.used)
    size = sum(entry.size for entry in entries)
    for entry in entries:
        if size <= target:
            break
        if entry.path != written and _remove(entry.path):
            size -= entry.size
    return size


# ---- files -----------------------------------------------------------------------------------------------------------


def _file_name(kind: str, key: str) -> str:
    name = f"{key}.{kind}"
    if not ENTRY_NAME.fullmatch(name):
        raise ValueError(
            f"kind {kind!r} and key {key!r} name no cache entry: a kind is made of a-z, 0-9, _ and -, "
            "a key is what Cache.key() returns"
        )
    return name


def _write(path: str, payload: bytes) -> bool:
    """Write an entry so that others see all of it or nothing; whether that succeeded.

    The disk is not waited for, some milliseconds an entry: one that a loss of power left unfinished has no trailer.
    """
    import tempfile

    unfinished = None
    try:
        descriptor, unfinished = tempfile.mkstemp(prefix=UNFINISHED_PREFIX, dir=os.path.dirname(path))
        with open(descriptor, "wb") as file:
            file.write(payload)
            file.write(TRAILER_MAGIC + sha256(payload).digest())
        os.replace(unfinished, path)
    except OSError as error:
        warn("cannot write to the cache: %s", error)
        if unfinished:
            _remove(unfinished)
        return False
    return True


def _read(path: str) -> bytes | None:
    """The payload in `path`, None when it is missing, unreadable, or damaged: then the file is removed."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        warn("cannot read from the cache: %s", error)
        return None
    payload = content[:-TRAILER_SIZE]
    if content[len(payload) :] != TRAILER_MAGIC + sha256(payload).digest():
        warn("damaged cache entry %s is dropped", path)
        _remove(path)
        return None
    with suppress(OSError):
        os.utime(path)  # for eviction; access times are often off
    return payload


def _damage(path: str) -> str:
    """What is wrong with an entry; "" if nothing is, or it went meanwhile."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    payload, trailer = content[:-TRAILER_SIZE], content[-TRAILER_SIZE:]
    if not trailer.startswith(TRAILER_MAGIC):
        return "it was not written to its end, or by another version"
    return "" if trailer.endswith(sha256(payload).digest()) else "its content is not what its hash says"


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        warn("cannot remove from the cache: %s", error)
        return False
    return True
