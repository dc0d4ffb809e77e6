"""Objects in a static library, as `ar` writes them for Unix linkers: with an index of symbols, and without dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MAGIC = b"!<arch>\n"


def write_archive(objects: Mapping[str, bytes], symbols: Mapping[str, Sequence[str]]) -> bytes:
    """The archive of objects by file name (at most 15 characters), and of what each of them defines."""
    names = [(member, name) for member, defined in symbols.items() for name in defined]
    text = b"".join(name.encode() + b"\0" for _, name in names)
    index_size = 4 + 4 * len(names) + len(text)
    place = len(MAGIC) + len(entry("/", bytes(index_size)))
    places = {}
    for member, data in objects.items():
        places[member] = place
        place += len(entry(f"{member}/", data))
    numbers = [len(names), *(places[member] for member, _ in names)]
    index = b"".join(number.to_bytes(4, "big") for number in numbers) + text
    return MAGIC + entry("/", index) + b"".join(entry(f"{member}/", data) for member, data in objects.items())


def entry(name: str, data: bytes) -> bytes:
    if len(name) > 16:
        raise ValueError(f"{name} is too long for a member of an archive")
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'644':<8}{len(data):<10}`\n".encode()
    return head + data + b"\n" * (len(data) % 2)
