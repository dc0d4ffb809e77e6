"""Objects in a static library, as linkers of Unix, Windows and Apple read them: with an index, and without dates."""

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


def write_apple_archive(member: str, data: bytes, symbols: Sequence[str]) -> bytes:
    """The archive of one object, in the manner of BSD: names stand before contents, all at multiples of eight."""
    text, places = b"", []
    for symbol in symbols:
        places.append(len(text))
        text += symbol.encode() + b"\0"
    text += bytes(-len(text) % 8)
    size = 4 + 8 * len(places) + 4 + len(text)
    size += -size % 8
    start = len(MAGIC) + len(apple_entry("__.SYMDEF", bytes(size)))
    rows = b"".join(place.to_bytes(4, "little") + start.to_bytes(4, "little") for place in places)
    index = (8 * len(places)).to_bytes(4, "little") + rows + len(text).to_bytes(4, "little") + text
    return MAGIC + apple_entry("__.SYMDEF", index.ljust(size, b"\0")) + apple_entry(member, data)


def apple_entry(name: str, data: bytes) -> bytes:
    long = name.encode() + bytes(8)
    long = long[: len(long) - (60 + len(long)) % 8]
    content = long + data + bytes(-len(data) % 8)
    return f"#1/{len(long):<13}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
