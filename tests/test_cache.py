"""graphc.backends.cache: what was put comes back whole or not at all, whatever the disk and other processes do."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import graphc
from graphc.backends.cache import TRAILER_SIZE, Cache, default_cache

KEY = Cache.key("a program")
NOBODY = 65534  # a user without rights
PAYLOAD = bytes(range(256)) * 40


def refuse_to_write(monkeypatch: pytest.MonkeyPatch, *folders: Path, number: int = errno.ENOSPC) -> None:
    """From now on, no file can be made in `folders`."""
    make = tempfile.mkstemp

    def mkstemp(*args: Any, **options: Any) -> tuple[int, str]:
        if Path(options["dir"]) in folders:
            raise OSError(number, os.strerror(number))
        return make(*args, **options)

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)


def environment(**variables: str) -> dict[str, str]:
    """For a new process that imports the package under test."""
    root = str(Path(graphc.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]), **variables}


# ---- keeping ---------------------------------------------------------------------------------------------------------


def test_a_payload_comes_back_in_this_and_in_a_later_process(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "made" / "here")
    assert cache.get("object", KEY) is None and cache.path("object", KEY) is None
    path = cache.put("object", KEY, PAYLOAD)
    for reader in (cache, Cache(tmp_path / "made" / "here")):
        assert reader.get("object", KEY) == PAYLOAD
        assert reader.path("object", KEY) == path
        assert reader.get("other", KEY) is None
    assert path.read_bytes()[:-TRAILER_SIZE] == PAYLOAD


@pytest.mark.parametrize("payload", [b"", b"x", b"graphc\0\1" + bytes(32), b"\0" * 1_000_000])
def test_any_bytes_are_kept(payload: bytes, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("object", KEY, payload)
    assert cache.get("object", KEY) == payload


def test_a_second_put_replaces_the_first_but_not_a_file_in_use(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.put("object", KEY, b"first").open("rb") as in_use:
        cache.put("object", KEY, b"second")
        assert in_use.read().startswith(b"first")
    assert cache.get("object", KEY) == b"second"


def test_entries_size_and_clear(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an entry")
    cache = Cache(tmp_path)
    keys = [Cache.key(str(number)) for number in range(3)]
    for number, key in enumerate(keys):
        os.utime(cache.put("ir", key, bytes(number)), (100 - number, 100 - number))
    assert [(entry.kind, entry.key, entry.size) for entry in cache.entries()] == [
        ("ir", keys[number], number + TRAILER_SIZE) for number in (2, 1, 0)
    ]
    assert cache.size() == 3 + 3 * TRAILER_SIZE
    cache.clear()
    assert cache.entries() == [] and cache.size() == 0 and cache.get("ir", keys[0]) is None
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_keys_tell_parts_apart() -> None:
    sequences: list[tuple[str | bytes, ...]] = [
        (),
        ("",),
        ("", ""),
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        ("a", "b", "c"),
        ("c", "ab"),
        (b"abc",),
        ("s3:abc",),
        ("1:a", "bc"),
        ("a1:b", "c"),
        ("é",),
        ("\udc80",),
        ("é".encode(),),
    ]
    assert len({Cache.key(*parts) for parts in sequences}) == len(sequences)
    assert Cache.key("a", b"b") == Cache.key("a", b"b")


@pytest.mark.parametrize("kind, key", [("../up", KEY), ("object", "../" + KEY[3:]), ("", KEY), ("object", KEY + "\n")])
def test_names_that_could_leave_the_folder_are_refused(kind: str, key: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for use in (cache.get, cache.path, lambda kind, key: cache.put(kind, key, b"")):
        with pytest.raises(ValueError, match=r"Cache\.key"):
            use(kind, key)


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 5000, len(PAYLOAD) - 1, len(PAYLOAD), len(PAYLOAD) + TRAILER_SIZE - 1])
def test_a_damaged_entry_is_dropped(place: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path)
    path = cache.put("object", KEY, PAYLOAD)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert cache.path("object", KEY) is None
    assert "damaged" in caplog.text and not path.exists()
    cache.put("object", KEY, PAYLOAD)
    assert cache.get("object", KEY) == PAYLOAD


@pytest.mark.parametrize("size", [0, 1, TRAILER_SIZE - 1, TRAILER_SIZE, len(PAYLOAD), len(PAYLOAD) + TRAILER_SIZE - 1])
def test_a_truncated_entry_is_dropped(size: int, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    path = cache.put("object", KEY, PAYLOAD)
    os.truncate(path, size)
    assert cache.get("object", KEY) is None
    assert not path.exists()


def test_a_grown_entry_is_dropped(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.put("object", KEY, PAYLOAD).open("ab") as file:
        file.write(b"\0")
    assert cache.get("object", KEY) is None


# ---- several processes -----------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from graphc.backends.cache import Cache
cache, key = Cache(Path(sys.argv[1])), Cache.key("shared")
for number in range(40):
    cache.put("object", key, sys.argv[2].encode() * 50_000)
    payload = cache.get("object", key)
    assert payload in (b"a" * 50_000, b"b" * 50_000), payload and payload[:9]
"""


def test_two_processes_can_write_the_same_entry(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen([*command, letter], env=environment(), stderr=subprocess.PIPE, text=True) for letter in "ab"
    ]
    assert [writer.communicate()[1] for writer in writers] == ["", ""]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1
    assert Cache(tmp_path).get("object", Cache.key("shared")) in (b"a" * 50_000, b"b" * 50_000)


def test_files_of_writers_that_died_are_removed(tmp_path: Path) -> None:
    abandoned, recent = tmp_path / ".unfinished-old", tmp_path / ".unfinished-new"
    abandoned.write_bytes(b"half")
    recent.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    Cache(tmp_path, limit=100_000).put("object", KEY, PAYLOAD)
    assert not abandoned.exists() and recent.exists()


# ---- bounds ----------------------------------------------------------------------------------------------------------


def test_entries_unused_for_longest_are_evicted(tmp_path: Path) -> None:
    size = len(PAYLOAD) + TRAILER_SIZE
    cache = Cache(tmp_path, limit=4 * size)
    keys = [Cache.key(str(number)) for number in range(5)]
    for number, key in enumerate(keys[:4]):
        os.utime(cache.put("object", key, PAYLOAD), (100 + number, 100 + number))
    assert len(cache.entries()) == 4
    assert cache.get("object", keys[0]) == PAYLOAD  # now the one used last
    cache.put("object", keys[4], PAYLOAD)
    assert {entry.key for entry in cache.entries()} == {keys[0], keys[3], keys[4]}
    assert cache.size() <= cache.limit


def test_a_full_folder_found_at_start_is_bounded_too(tmp_path: Path) -> None:
    roomy = Cache(tmp_path)
    for number in range(10):
        os.utime(roomy.put("object", Cache.key(str(number)), PAYLOAD), (number, number))
    cache = Cache(tmp_path, limit=3 * (len(PAYLOAD) + TRAILER_SIZE))
    cache.put("object", KEY, PAYLOAD)
    assert [entry.key for entry in cache.entries()] == [Cache.key("9"), KEY]


def test_a_payload_above_the_limit_is_kept_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=1000)
    cache.put("object", Cache.key("small"), b"small")
    cache.put("object", KEY, PAYLOAD)
    assert [entry.key for entry in cache.entries()] == [KEY]
    assert cache.get("object", KEY) == PAYLOAD


# ---- trouble with the disk -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_takes_nothing_is_replaced_by_a_private_one(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(tmp_path)
    cache.put("object", KEY, b"old")
    refuse_to_write(monkeypatch, tmp_path, number=number)
    path = cache.put("object", KEY, PAYLOAD)
    assert os.strerror(number) in caplog.text
    assert path.parent != tmp_path and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert cache.path("object", KEY) == path
    assert cache.get("object", KEY) == PAYLOAD
    assert Cache(tmp_path).get("object", KEY) == b"old"
    cache.put("object", Cache.key("next"), PAYLOAD)
    assert len(caplog.records) == 1  # the folder is not tried again


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder of a user whom file modes bind: root, whom they do not, is another user for as long as the test runs."""
    if not hasattr(os, "geteuid"):
        pytest.skip("file modes are POSIX's")
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        if root:
            os.chown(folder, NOBODY, -1)
            os.seteuid(NOBODY)
        yield Path(folder)
        if root:
            os.seteuid(0)


def test_a_read_only_folder_is_read(own_folder: Path) -> None:
    Cache(own_folder).put("object", KEY, PAYLOAD)
    own_folder.chmod(0o500)
    cache = Cache(own_folder)
    assert cache.get("object", KEY) == PAYLOAD
    assert cache.put("object", Cache.key("new"), PAYLOAD).parent != own_folder
    assert cache.get("object", Cache.key("new")) == PAYLOAD
    own_folder.chmod(0o700)


def test_a_folder_that_cannot_be_made_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "cache")
    assert cache.get("object", KEY) is None
    cache.put("object", KEY, PAYLOAD)
    assert cache.get("object", KEY) == PAYLOAD


def test_nothing_is_raised_when_no_disk_takes_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    for cache in (Cache(tmp_path), Cache(None)):
        assert not cache.put("object", KEY, PAYLOAD).exists()
        assert cache.get("object", KEY) is None and cache.path("object", KEY) is None
        cache.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: Path) -> None:
        raise OSError(errno.EIO, "disk on fire")

    monkeypatch.setattr(os, "replace", refuse)
    Cache(tmp_path).put("object", KEY, PAYLOAD)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.put("object", KEY, PAYLOAD).unlink()
    (tmp_path / "cache").rmdir()
    assert cache.get("object", KEY) is None and cache.entries() == []
    assert cache.put("object", KEY, PAYLOAD).parent == tmp_path / "cache"


# ---- who else can write ----------------------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


@posix
def test_only_the_owner_can_read_and_write(tmp_path: Path) -> None:
    path = Cache(tmp_path / "cache").put("object", KEY, PAYLOAD)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@posix
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_folder_that_others_can_write_to_is_not_used(
    mode: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Cache(tmp_path).put("object", KEY, b"planted")
    tmp_path.chmod(mode)
    cache = Cache(tmp_path)
    assert "others can write to it" in caplog.text
    assert cache.get("object", KEY) is None
    assert cache.put("object", KEY, PAYLOAD).parent != tmp_path


@posix
def test_a_folder_that_others_can_replace_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert Cache(open_to_all / "cache").put("object", KEY, PAYLOAD).parent != open_to_all / "cache"
    assert "anyone can replace it" in caplog.text


# ---- the default -----------------------------------------------------------------------------------------------------


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "here"))
    assert default_cache().put("object", KEY, PAYLOAD).parent == tmp_path / "here"
    assert default_cache() is default_cache()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the XDG rule is for the other platforms")
def test_the_users_cache_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAPHC_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert default_cache().folder == str(tmp_path / ".cache" / "graphc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache().folder == str(tmp_path / "xdg" / "graphc")


def test_off_keeps_nothing_beyond_the_process() -> None:
    script = (
        "from graphc.backends.cache import *; cache = default_cache(); key = cache.key('k')\n"
        "path = cache.put('object', key, b'payload'); assert default_cache().get('object', key) == b'payload'\n"
        "assert cache.path('object', key) == path; print(path)"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, env=environment(GRAPHC_CACHE_DIR="off"), capture_output=True, text=True)
    assert result.returncode == 0 and result.stderr == ""
    assert not Path(result.stdout.strip()).parent.exists()
