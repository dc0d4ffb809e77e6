"""Several rounds of a loop at once, line by line, where one round is a long chain of arithmetic.

A processor looks only so many instructions ahead: a round longer than that would be waited for, operation after
operation, before the next one starts. Side by side, the chains of several rounds keep it busy. Every number is computed
as before and every running sum is added to in the same order, so no bit changes.

Random bits of four sets of lanes that follow one another are the four words of the same sixteen counters: taken side by
side they ask for the words by number, and the compiler sees that it needs the counters' words only once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise

WAYS = 4
MORE_WAYS = 8
HEAVY = 64  # lines of a round and of what it calls from which on it is too long to be looked past: some three functions
LONG = 100  # lines from which on four chains leave gaps: each is one operation after another for most of them
OFTEN = 4096  # rounds of a nest from which on it is worth a longer text

DRAWN_TOGETHER = 64  # elements whose random bits come from one set of counters

_DRAW = re.compile(r"random_bits\(indices\(j\), ")
_LOOP = re.compile(r"(?P<indent> *)for (?P<name>\w+) in range\((?P<bounds>.+)\):")
_ASSIGNED = re.compile(r" *(\w+) = ")
_NAME = re.compile(r"\b[a-zA-Z_]\w*\b")


def interleave(lines: Sequence[str], weights: Mapping[str, int], multiples: Mapping[str, int]) -> list[str]:
    """The lines with every heavy innermost loop taken several rounds at a time, and a loop for the rounds left.

    weights    operations behind each name that is called
    multiples  numbers that divide a bound, by its name
    """
    found: list[str] = []
    number = 0
    while number < len(lines):
        loop = _LOOP.fullmatch(lines[number])
        body = [] if loop is None else list(inside(lines, number))
        ways = ways_of(body, weights) if loop is not None and is_straight(body) else 1
        if loop is None or ways == 1:
            found.append(lines[number])
            number += 1
            continue
        found += several_rounds(loop, body, ways, multiples)
        number += 1 + len(body)
    return found


def inside(lines: Sequence[str], head: int) -> Iterator[str]:
    """The lines of the block under a head."""
    for line in lines[head + 1 :]:
        if indent(line) <= indent(lines[head]):
            return
        yield line


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def is_straight(body: Sequence[str]) -> bool:
    """No loops and branches inside."""
    return bool(body) and not any(line.endswith(":") for line in body)


def ways_of(body: Sequence[str], weights: Mapping[str, int]) -> int:
    """How many rounds at a time; those that draw take as many as a set of counters has words."""
    if has_draws(body):
        return WAYS
    heavy = weight(body, weights)
    return MORE_WAYS if heavy >= LONG else WAYS if heavy >= HEAVY else 1


def has_draws(body: Sequence[str]) -> bool:
    """Whether random bits are drawn for neighbours in memory."""
    return any(_DRAW.search(line) for line in body)


def weight(body: Sequence[str], weights: Mapping[str, int]) -> int:
    """The operations of one round."""
    return sum(weights.get(name, 0) for line in body for name in _NAME.findall(line)) + len(body)


def several_rounds(loop: re.Match[str], body: Sequence[str], ways: int, multiples: Mapping[str, int]) -> Iterator[str]:
    first, stop, step = bounds(loop["bounds"])
    wide = ways * step
    even = first == "0" and multiples.get(stop, 1) % wide == 0
    head, rounds = f"{loop['indent']}for {loop['name']} in range", f"({stop} - {first}) % {wide}"
    if first == "0":
        rounds = f"{stop} % {wide}"
    until = stop if even else f"{stop} - {rounds}"
    yield f"{head}({first}, {until}, {wide}):"
    yield from side_by_side(loop["name"], step, f"{loop['indent']}    ", body, ways)
    if not even:
        yield f"{head}({until}, {stop}, {step}):" if step > 1 else f"{head}({until}, {stop}):"
        yield from body


def rows_side_by_side(lines: Sequence[str], counter: str, ways: int, memory: Mapping[str, str]) -> list[str]:
    """Loops over rows with so many rows at a time, and a loop for the rows left.

    What is done to one row is done to the next one right after, line by line, so what rows add to is added to in their
    order. Loops and branches inside are the same for all of them.

    counter  of the innermost loop over rows
    memory   pointers to what each row has of its own, and how far it is from one to the next
    """
    number = next(number for number, line in enumerate(lines) if line.lstrip().startswith(f"for {counter} in "))
    loop, body = _LOOP.fullmatch(lines[number]), list(inside(lines, number))
    assert loop is not None
    own, shared = names_of_rows({counter, *memory}, body)
    first, stop, _ = bounds(loop["bounds"])
    until, margin = f"{stop} - ({stop} - {first}) % {ways}", loop["indent"]
    if first == "0":
        until = f"{stop} - {stop} % {ways}"
    found = list(lines[:number])
    for way in range(1, ways):
        found += [f"{margin}{name}_{way} = shift({name}, {way} * ({step}))" for name, step in memory.items()]
    found.append(f"{margin}for {counter} in range({first}, {until}, {ways}):")
    found += [f"{margin}    {counter}_{way} = {counter} + {way}" for way in range(1, ways)]
    for line in body:
        assigned = _ASSIGNED.match(line)
        found.append(line)
        if not line.endswith(":") and (assigned is None or assigned[1] not in shared):
            found += [_NAME.sub(partial(of_round, own, way), line) for way in range(1, ways)]
    return [*found, f"{margin}for {counter} in range({until}, {stop}):", *body, *lines[number + 1 + len(body) :]]


def names_of_rows(own: set[str], body: Sequence[str]) -> tuple[set[str], set[str]]:
    """The names that mean something else in every row, those known at the start among them, and those that mean the
    same. Sums that run on from row to row are neither."""
    sources: dict[str, set[str]] = {}
    running, read = set[str](), set[str]()
    for line in body:
        found, names = _ASSIGNED.match(line), _NAME.findall(line)
        read |= set(names[1:] if found else names)
        if found and found[1] in read and found[1] not in sources:
            running.add(found[1])
        if found:
            sources.setdefault(found[1], set()).update(names[1:])
    known = 0
    while known < len(own):
        known = len(own)
        own = own | {name for name, names in sources.items() if name not in running and not own.isdisjoint(names)}
    return own, sources.keys() - own - running


def bounds(text: str) -> tuple[str, str, int]:
    """First, stop and step of a range."""
    commas = [place for place, letter in enumerate(text) if letter == "," and is_outside(text[:place])]
    parts = [part.strip(" ,") for part in (text[a:b] for a, b in pairwise((0, *commas, len(text))))]
    if len(parts) == 1:
        return "0", parts[0], 1
    return parts[0], parts[1], int(parts[2]) if len(parts) == 3 else 1


def is_outside(text: str) -> bool:
    """After this text, one is inside of no parenthesis."""
    return text.count("(") == text.count(")")


def side_by_side(counter: str, step: int, margin: str, body: Sequence[str], ways: int) -> Iterator[str]:
    """Each line for one round after the other; a number that is the same in all of them, once."""
    own, shared = names_of_rounds(counter, body)
    for way in range(1, ways):
        yield f"{margin}{counter}_{way} = {counter} + {way * step}"
    for line in body:
        found = _ASSIGNED.match(line)
        if found is not None and step * ways == DRAWN_TOGETHER and _DRAW.search(line):
            yield from draws(line, found[1])
            continue
        yield line
        if found is None or found[1] not in shared:
            yield from (_NAME.sub(partial(of_round, own, way), line) for way in range(1, ways))


def draws(line: str, name: str) -> Iterator[str]:
    """The words of one set of counters, a word each round."""
    for way in range(WAYS):
        asked = _DRAW.sub(f"random_word_{way}(spread(j >> 2) + indices(0), ", line)
        yield asked.replace(f"{name} = ", f"{name}_{way} = ", 1) if way else asked


def of_round(own: set[str], way: int, name: re.Match[str]) -> str:
    return f"{name[0]}_{way}" if name[0] in own else name[0]


def names_of_rounds(counter: str, body: Sequence[str]) -> tuple[set[str], set[str]]:
    """The names that mean something else in every round, and those that mean the same. Running sums are neither."""
    own, shared, read = {counter}, set[str](), set[str]()
    for line in body:
        found, names = _ASSIGNED.match(line), _NAME.findall(line)
        read |= set(names[1:] if found else names)
        if found and found[1] not in read:
            (shared if own.isdisjoint(names) else own).add(found[1])
    return own, shared
