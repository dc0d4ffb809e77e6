"""`gx.export`: compiled functions as files that run without Python."""

from __future__ import annotations

import logging
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphc import generator
from graphc.arrays import as_array
from graphc.backends.artifact import passed
from graphc.backends.cache import default_cache
from graphc.backends.cuda.threads import NotCovered
from graphc.backends.export.build import LackingError
from graphc.backends.export.files import write_files
from graphc.backends.export.kernels import FIRST, GOLDEN, SECOND
from graphc.backends.export.library import Labels, Library, Member, State, lay_out
from graphc.backends.export.signatures import signatures
from graphc.backends.files import replacing
from graphc.backends.target import TARGETS, BuildError, Target
from graphc.cuda import not_covered
from graphc.errors import ArgumentError, CheckpointError, GraphcError, InternalError, TargetError, TraceError
from graphc.function import Function
from graphc.ir import ops
from graphc.ir.graph import user_origin
from graphc.ir.slices import in_slices
from graphc.ir.types import DTYPES, INTEGERS, TensorType
from graphc.plan import unique
from graphc.settings import check_list, check_path, require, shown
from graphc.tensor import Parameter


def library_of(functions: Sequence[Function] | Mapping[str, Function], name: str) -> tuple[Library, list[Parameter]]:
    """The functions as a library, and the parameters that are its states, in their order."""
    named = named_functions(functions)
    taken: set[str] = set()
    found = {parameter: own for function in named.values() for own, parameter in function.parameters.items()}
    in_order = sorted(found, key=lambda parameter: parameter.number)  # as they were made, like the layers of a net
    holders = {parameter: unique(found[parameter], taken) for parameter in in_order}
    states = lay_out([state_of(parameter, title) for parameter, title in holders.items()])
    places = dict(zip(holders, states, strict=True))
    members = tuple(member_of(title, function, places) for title, function in named.items())
    library = Library(name, members, states)
    called = [signature.name for signature in signatures(library)]
    twice = next((member.name for member in members if called.count(f"{name}_{member.name}") > 1), None)
    if twice is not None:
        raise TraceError(
            f"a library has something else called {twice}; give a dictionary {{name: function}}", user_origin()
        )
    return library, list(holders)


def named_functions(functions: Any) -> dict[str, Function]:
    each = [functions] if isinstance(functions, Function) else functions
    text = "compiled functions: a list, or a dictionary {name in C: function}"
    require(
        isinstance(each, (Mapping, Sequence)) and not isinstance(each, str) and len(each) > 0, "functions", each, text
    )
    pairs = each.items() if isinstance(each, Mapping) else ((function_name(one), one) for one in each)
    found: dict[str, Function] = {}
    for name, function in pairs:
        require(isinstance(function, Function), "a function to export", function, text)
        if not re.fullmatch(r"[A-Za-z]\w*", str(name), re.ASCII):
            raise TraceError(f"{name!r} cannot name a C function; give a dictionary {{name: function}}", user_origin())
        if name in found:
            raise TraceError(f"two functions are called {name}; give a dictionary {{name: function}}", user_origin())
        found[str(name)] = function
    return found


def function_name(function: Any) -> str:
    return re.sub(r"\W", "_", getattr(function, "name", "function"), flags=re.ASCII)


def state_of(parameter: Parameter, name: str) -> State:
    is_generator = parameter is generator.state
    array = parameter.storage.array
    given = None if is_generator or parameter.initial is not None else array.copy()
    return State(name, parameter.input.type, 0, parameter.requires_grad, parameter.initial, given, is_generator)


def member_of(name: str, function: Function, places: Mapping[Parameter, State]) -> Member:
    graph = passed(function.traced)
    rows = function.artifact.description.rows
    if rows:  # the same ones for every target, for the same bits
        graph = in_slices(graph, rows)
    states = tuple(places[function.parameters[value.attrs["name"]]] for value in graph.of_role("state"))
    settings = tuple(
        (value.attrs["name"], float(function.scalars[value.attrs["name"]].number)) for value in graph.of_role("scalar")
    )
    traced = None if rows else function.traced
    return Member(name, graph, states, settings, tuple(labels_of(function)), traced=traced)


def labels_of(function: Function) -> Iterator[Labels]:
    """The integers of inputs that must lie in a range, but for one number that stands for none."""
    for value in function.ranges:
        source, other = value.operands[0], value.attrs["low"]
        if source.op is ops.where:  # (labels != none, labels, some label), as in cross entropy
            condition, source, _ = source.operands
            if condition.op is not ops.not_equal or condition.operands[0] is not source:
                continue
            other = condition.operands[1].attrs.get("value", other)
        while source.op is ops.reshape:
            source = source.operands[0]
        if source in function.inputs and source.dtype in INTEGERS:
            name, limits = source.attrs["name"], (value.attrs["low"], value.attrs["high"], int(other))
            yield Labels(name, *limits, value.attrs["message"])


# -- files


class Export:
    """What `gx.export` wrote.

    folder  of the files, `files` their paths
    """

    def __init__(self, library: Library, holders: Sequence[Parameter], folder: Path, files: Sequence[Path]) -> None:
        self.library = library
        self.holders = tuple(holders)
        self.folder = folder
        self.files = tuple(files)

    def __repr__(self) -> str:
        functions = ", ".join(member.name for member in self.library.members)
        return f"<{self.library.name}: {functions}; {len(self.files)} files in {self.folder}>"

    def state_hash(self) -> int:
        """What the library's own function gives for a state of the numbers that the functions have now."""
        return state_hash([holder.storage.array for holder in self.holders])

    def block(self) -> bytes:
        """The numbers that the functions have now, as the library's state."""
        return self.library.block([holder.storage.array for holder in self.holders])

    def load_block(self, block: bytes) -> None:
        """Take over a state of the library. Raises CheckpointError, before anything changes, for any other bytes."""
        for holder, array in zip(self.holders, self.arrays_of(block), strict=True):
            holder.assign(array)

    def state_dict_of(self, block: bytes) -> dict[str, np.ndarray[Any, Any]]:
        """The numbers in a state of the library by name, as `gx.save` writes them to a safetensors file."""
        names = (state.name for state in self.library.states)
        return dict(zip(names, self.arrays_of(block), strict=True))

    def block_of(self, state: Mapping[str, Any]) -> bytes:
        """The library's state of numbers by name, such as `gx.load` reads; CheckpointError where they do not fit."""
        expected = {each.name: each for each in self.library.states}
        if expected.keys() != state.keys():
            differing = ", ".join(sorted(expected.keys() ^ state.keys()))
            raise CheckpointError(f"the state is not one of {self.library.name}: {differing}", user_origin())
        arrays = []
        for name, each in expected.items():
            array = as_array(state[name], f"{name} in the state")
            if TensorType(each.type.dtype, tuple(array.shape)) != each.type:
                given = f"{array.dtype}{list(array.shape)}"
                raise CheckpointError(f"{name} is {each.type} in {self.library.name} and {given} here", user_origin())
            arrays.append(array.astype(DTYPES[each.type.dtype], copy=False))
        return self.library.block(arrays)

    def arrays_of(self, block: bytes) -> list[np.ndarray[Any, Any]]:
        try:
            return self.library.arrays(block)
        except ValueError as error:
            raise CheckpointError(str(error), user_origin()) from None


def export(functions: Any, path: str | os.PathLike[str], targets: Sequence[str] = ("native",)) -> Export:
    """Write compiled functions as a library that needs neither Python nor any other library.

    functions  a function, a list of them or a dictionary {name in C: function}; they share one state
    path       a folder, whose name is that of the library: "build/mnist" gives build/mnist/mnist.h and so on
    targets    of TARGETS; "native" is the kind of this machine, "cuda" an NVIDIA GPU beside a processor of that kind

    Targets of Linux get lib<name>.so and lib<name>.a, others an object and an archive for their own linker. Beside
    them lie the header <name>.h, the manifest <name>.json, <name>.py, which loads the library with NumPy alone, and
    main.c, which trains on made-up numbers. "cuda" adds cuda/lib<name>_cuda.so, which carries its kernels as PTX and
    gives them to a stream of the caller's, and <name>_cuda.h; the first state comes from the library of the processor.

    Raises ArgumentError for an unknown target or a name that C does not take, TargetError where a target lacks what a
    function needs. The files appear when all of them are made.
    """
    folder = check_path("path", path)
    name = folder.name
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        raise ArgumentError(
            f"{name!r} cannot name a library in C; end the path with a name such as mnist", user_origin()
        )
    chosen = chosen_targets(targets)
    library, holders = library_of(functions, name)
    log = logging.getLogger("graphc.export")
    try:
        made = write_files(
            library, chosen, version(), default_cache(), lambda each: log.info("%s for %s", name, each),
            device_host() if "cuda" in targets else None,
        )  # fmt: skip
    except NotCovered as error:
        raise not_covered(name, error, user_origin()) from None
    except LackingError as error:
        raise lacking(error) from error
    except BuildError as error:
        raise TargetError(str(error), user_origin()) from error
    written = []
    for file, data in made.items():
        place = folder / file
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing(place) as stream:
                stream.write(data)
        except OSError as error:
            raise CheckpointError(f"cannot write {place}: {error.strerror}", user_origin()) from error
        written.append(place)
    return Export(library, holders, folder, written)


def lacking(error: LackingError) -> GraphcError:
    value = error.value
    if value is None:
        return InternalError(str(error), user_origin())
    kinds = ", ".join(str(operand.type) for operand in value.operands)
    message = f"{error.target} cannot compute {value.op.name} of {kinds}: that takes {', '.join(error.undefined)}"
    details = ("a library of graphc needs no other one; leave the target out, or the operation",)
    return TargetError(message, value.origin, details)


def chosen_targets(names: Sequence[str]) -> dict[str, Target]:
    check_list("targets", names, f"names of targets: {', '.join(['native', 'cuda', *TARGETS])}")
    found = {}
    for each in names:
        name = native_name() if each in ("native", "cuda") else each  # a GPU has a processor beside it
        if name not in TARGETS:
            known = ", ".join(["native", "cuda", *TARGETS])
            raise ArgumentError(f"{shown(each)} is not a target; known are {known}", user_origin())
        found[name] = TARGETS[name]
    return found


def device_host() -> Target:
    """The processor beside a GPU: of this machine's kind. Raises ArgumentError where its files are not ELF."""
    found = TARGETS[native_name()]
    if found.is_windows or found.is_apple or not found.is_linked:
        raise ArgumentError(f"libraries for 'cuda' are written on Linux, not for {found.name}", user_origin())
    return found


def native_name() -> str:
    """The target for this machine and its system."""
    machine = platform.machine().lower()
    machine = {"amd64": "x86-64", "x86_64": "x86-64", "arm64": "aarch64", "armv7l": "armv7"}.get(machine, machine)
    system = {"Windows": "-windows", "Darwin": "-macos"}.get(platform.system(), "")
    return machine + system


def version() -> str:
    from graphc import __version__

    return __version__


def state_hash(arrays: Sequence[np.ndarray[Any, Any]]) -> int:
    """What kernels.hash_of sums up: 32-bit words, or bytes where elements are bytes, each mixed with its place."""
    total, place = 0, 1
    for array in arrays:
        line = np.ascontiguousarray(array).reshape(-1)
        words = line.view(np.uint8 if array.dtype.itemsize == 1 else np.uint32).astype(np.uint64)
        x = words ^ (np.arange(place, place + words.size, dtype=np.uint64) * np.uint64(GOLDEN))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(FIRST)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(SECOND)
        total += int((x ^ (x >> np.uint64(31))).sum(dtype=np.uint64))
        place += words.size
    return total % 2**64
