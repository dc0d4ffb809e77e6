"""The C functions of a library and the structures they take, from which header, loaders and code are written."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from graphc.backends.export.library import Library, Member
from graphc.backends.export.statuses import CHECKS_FROM
from graphc.backends.interface import epoch_dim
from graphc.ir.frozen import dataclass
from graphc.ir.graph import Output, Value

C_TYPES = {"f32": "float", "f64": "double", "i32": "int32_t", "i64": "int64_t", "u8": "uint8_t", "bool": "uint8_t"}
IR_TYPES = {
    "float": "float", "double": "double", "int32_t": "i32", "int64_t": "i64", "uint64_t": "i64", "uint8_t": "i8",
    "const char *": "ptr", "void": "void",
}  # fmt: skip
YIELD_TYPE = "graphc_yield"  # a pointer to a function: int (*)(void)
FIND_TYPE = "graphc_find"  # the same: void *(*)(const char *)
SIZES = {"float": 4, "double": 8, "int32_t": 4, "int64_t": 8, "uint64_t": 8, "uint8_t": 1}


@dataclass(frozen=True, slots=True)
class Argument:
    """One parameter of a C function: `kind` is its C type, which ends with `*` for a pointer."""

    name: str
    kind: str
    text: str = ""

    @property
    def is_pointer(self) -> bool:
        return self.kind.endswith("*") or self.kind in (YIELD_TYPE, FIND_TYPE)

    @property
    def ir_type(self) -> str:
        return "ptr" if self.is_pointer else IR_TYPES[self.kind]


@dataclass(frozen=True, slots=True)
class Signature:
    """A C function."""

    name: str
    arguments: tuple[Argument, ...]
    text: str
    returns: str = "int32_t"


@dataclass(frozen=True, slots=True)
class Structure:
    """A C structure of numbers."""

    name: str
    fields: tuple[Argument, ...]
    text: str

    @property
    def offsets(self) -> tuple[int, ...]:
        found, offset = [], 0
        for field in self.fields:
            size = SIZES[field.kind]
            offset = -(-offset // size) * size
            found.append(offset)
            offset += size
        return tuple(found)


# What C or C++ keeps for itself, and what compilers define before the first line.
_KEPT = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const const_cast
consteval constexpr constinit continue co_await co_return co_yield decltype default delete do double dynamic_cast else
enum explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq
nullptr operator or or_eq private protected public register reinterpret_cast requires restrict return short signed
sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename
typeof typeof_unqual union unsigned using virtual void volatile wchar_t while xor xor_eq linux unix
"""
KEYWORDS = frozenset(_KEPT.split())
CALL_ARGUMENTS = ("state", "work", "settings", "results", "thread", "threads")
EPOCH_ARGUMENTS = ("samples", "batch", "order", "means")


def identifiers(names: Iterable[str], taken: Collection[str] = ()) -> list[str]:
    """The names as C takes them, all different and none that is taken: with underscores at their ends where need be."""
    found: list[str] = []
    for name in names:
        own = re.sub(r"\W", "_", name, flags=re.ASCII)
        own = f"_{own}" if own[:1].isdigit() else own
        while own in KEYWORDS or own in taken or own in found:
            own += "_"
        found.append(own)
    return found


def is_number(output: Output) -> bool:
    """A result of one number, which goes into the structure of results."""
    return not output.value.shape


def shape_text(value: Value) -> str:
    return "[" + ", ".join(str(extent) for extent in value.shape) + "]"


def array_argument(name: str, value: Value, is_input: bool) -> Argument:
    kind = f"{'const ' if is_input else ''}{C_TYPES[value.dtype]} *"
    return Argument(name, kind, f"{shape_text(value)}, row by row")


@dataclass(frozen=True, slots=True)
class Face:
    """How one function of a library looks from C."""

    library: Library
    member: Member

    @property
    def name(self) -> str:
        return f"{self.library.name}_{self.member.name}"

    @property
    def inputs(self) -> tuple[Argument, ...]:
        data = self.member.graph.of_role("data")
        taken = {*CALL_ARGUMENTS, *EPOCH_ARGUMENTS, *(size.name for size in self.sizes)}
        names = identifiers((value.attrs["name"] for value in data), taken)
        return tuple(array_argument(name, value, True) for name, value in zip(names, data, strict=True))

    @property
    def sizes(self) -> tuple[Argument, ...]:
        dims = self.member.graph.dims
        names = identifiers((dim.name for dim in dims), CALL_ARGUMENTS)
        return tuple(Argument(name, "int64_t", f"1 to {dim.max}") for name, dim in zip(names, dims, strict=True))

    @property
    def settings(self) -> Structure | None:
        scalars = self.member.graph.of_role("scalar")
        names = identifiers(value.attrs["name"] for value in scalars)
        fields = tuple(Argument(name, C_TYPES[value.dtype]) for name, value in zip(names, scalars, strict=True))
        if not fields:
            return None
        return Structure(f"{self.name}_settings", fields, f"What {self.name} may be told anew in every call.")

    @property
    def numbers(self) -> tuple[Output, ...]:
        return tuple(output for output in self.member.graph.of_kind("result") if is_number(output))

    @property
    def arrays(self) -> tuple[Output, ...]:
        return tuple(output for output in self.member.graph.of_kind("result") if not is_number(output))

    @property
    def results(self) -> Structure | None:
        names = identifiers(each.name for each in self.numbers)
        kinds = (C_TYPES[each.value.dtype] for each in self.numbers)
        fields = tuple(Argument(name, kind) for name, kind in zip(names, kinds, strict=True))
        return Structure(f"{self.name}_results", fields, f"What {self.name} gives.") if fields else None

    @property
    def means(self) -> Structure:
        names = identifiers((each.name for each in self.numbers), ["steps"])
        fields = tuple(Argument(name, "double", "mean over samples") for name in names)
        steps = Argument("steps", "int64_t", "that were done; where one failed, its number")
        return Structure(f"{self.name}_means", (*fields, steps), f"What {self.name}_epoch gives.")

    @property
    def has_epoch(self) -> bool:
        return epoch_dim(self.member.graph) is not None and not self.arrays

    @property
    def call(self) -> Signature:
        inputs, sizes = self.inputs, self.sizes
        taken = {*CALL_ARGUMENTS, *(argument.name for argument in (*inputs, *sizes))}
        names = identifiers((each.name for each in self.arrays), taken)
        outputs = tuple(array_argument(name, each.value, False) for name, each in zip(names, self.arrays, strict=True))
        arguments = (*MEMORY, *inputs, *sizes, *outputs, *self.structures(), *SHARE)
        return Signature(self.name, arguments, "One batch.")

    @property
    def epoch(self) -> Signature:
        order = Argument("order", "const int64_t *", "[samples], the rows in the order of the epoch; NULL: as they lie")
        counts = (Argument("samples", "int64_t", "rows of each array"), Argument("batch", "int64_t", "rows of a step"))
        means = Argument("means", f"struct {self.means.name} *", "of thread 0")
        rest = (*self.structures(results=False), means, *SHARE)
        text = "Every batch of a data set, the last one as small as it is. Batches before one that fails are done."
        return Signature(f"{self.name}_epoch", (*MEMORY, *self.inputs, *counts, order, *rest), text)

    def structures(self, results: bool = True) -> Iterator[Argument]:
        if self.settings is not None:
            yield Argument("settings", f"const struct {self.settings.name} *", "NULL: as they were at export")
        if results and self.results is not None:
            yield Argument("results", f"struct {self.results.name} *")


MEMORY = (Argument("state", "void *"), Argument("work", "void *"))
SHARE = (Argument("thread", "int32_t"), Argument("threads", "int32_t"))
STATE = Argument("state", "const void *")
YIELD = Argument("yield", YIELD_TYPE, "lets others have the processor, such as sched_yield; NULL: spin")


def common(library: Library) -> Iterator[Signature]:
    """The functions that every library has."""
    name = library.name
    yield Signature(
        f"{name}_init", (Argument("state", "void *"), Argument("seed", "uint64_t")),
        "First numbers, those that Python draws after gx.manual_seed(seed).",
    )  # fmt: skip
    yield Signature(f"{name}_check", (STATE,), "Whether this is a state of this library, such as after reading a file.")
    yield Signature(
        f"{name}_state_hash", (STATE,), "64 bits that differ where any number of the state does; 0 for no state.",
        "uint64_t",
    )  # fmt: skip
    yield Signature(
        f"{name}_prepare", (Argument("work", "void *"), Argument("threads", "int32_t"), YIELD),
        "Makes memory ready for so many threads, once before their first call. A single thread needs no such call.",
    )  # fmt: skip
    yield Signature(f"{name}_work_bytes", (Argument("threads", "int32_t"),), "Of the work memory.", "int64_t")
    if any(face.has_epoch for face in faces(library)):
        numbers = (Argument("samples", "int64_t"), Argument("seed", "uint64_t"), Argument("epoch", "uint64_t"))
        order = Argument("order", "int64_t *", "[samples]")
        yield Signature(f"{name}_shuffle", (order, *numbers), "The order a DataLoader of that seed has in that epoch.")
    if library.parameters:
        number = C_TYPES[library.parameters[0].type.dtype]
        flat = f"[{name.upper()}_PARAMETERS]"
        yield Signature(
            f"{name}_get_parameters", (STATE, Argument("parameters", f"{number} *", flat)), "All that trains, flat."
        )
        yield Signature(
            f"{name}_set_parameters", (Argument("state", "void *"), Argument("parameters", f"const {number} *", flat)),
            "New numbers for all that trains.",
        )  # fmt: skip
    yield Signature(f"{name}_strerror", (Argument("status", "int32_t"),), "A status in words.", "const char *")
    yield Signature(f"{name}_manifest", (), "The manifest, JSON.", "const char *")


def faces(library: Library) -> list[Face]:
    return [Face(library, member) for member in library.members]


def signatures(library: Library) -> list[Signature]:
    """All functions, in the order of the header."""
    found = list(common(library))
    for face in faces(library):
        found.append(face.call)
        if face.has_epoch:
            found.append(face.epoch)
    return found


def checks_of(face: Face) -> list[tuple[int, str]]:
    """(status, what is wrong) of the checks a function makes itself."""
    checks = face.member.graph.of_kind("check")
    return [(CHECKS_FROM + number, check.name) for number, check in enumerate(checks)]


def is_output(argument: Argument) -> bool:
    """An array that is written."""
    return (
        argument.is_pointer
        and not argument.kind.startswith(("const", "void", "struct"))
        and argument.kind != YIELD_TYPE
    )


def size_of(argument: Argument) -> int:
    return SIZES[argument.kind.removeprefix("const ").rstrip("* ")]


def widest(structure: Structure) -> int:
    return max(SIZES[field.kind] for field in structure.fields)
