"""Loading artifacts, the memory they run in, and the calls."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

import numpy as np

from graphc.backends.crew import Job, crew, thread_limit, yield_address
from graphc.backends.description import Artifact
from graphc.backends.interface import (
    EPOCH_WORDS,
    FIRST_AT,
    FRESH_AT,
    GIVEN,
    IN_PLACE,
    LAST_AT,
    LINKED,
    NUMBER_AT,
    ORDERING_AT,
    SEED_AT,
    SHUFFLED,
    YIELD,
    functions_of,
)
from graphc.backends.pace import Pace
from graphc.ir.types import ALIGNMENT, DTYPES, evaluate, round_up

if TYPE_CHECKING:
    from graphc.backends.exact import Feed

Array = np.ndarray[Any, Any]
POINTER = ctypes.c_void_p
NUMBER = ctypes.c_int64
NUMBER_BYTES = 8
# `fits` looks at Python's objects, so it keeps the interpreter's lock.
KINDS = {"attend": ctypes.CFUNCTYPE(ctypes.c_int64), "fits": ctypes.PYFUNCTYPE(ctypes.c_int32)}
STRETCH = 0.02  # seconds of an epoch between two looks at how many threads pay


def aligned_bytes(size: int) -> Array:
    """Zeroed bytes at an address that suits every vector, with room for a last whole set of lanes."""
    block = np.zeros(round_up(max(size, 1)) + ALIGNMENT, np.uint8)
    start = -address(block) % ALIGNMENT
    return block[start : start + round_up(max(size, 1))]


def addresses(arrays: Sequence[Any]) -> list[int]:
    """Where the first element of each lies; to ask the buffers is four times as quick as to ask NumPy."""
    try:
        return [*map(ctypes.addressof, map(ctypes.c_char.from_buffer, arrays))]
    except (TypeError, ValueError, BufferError):  # one must not be written, or has no elements
        return [array.__array_interface__["data"][0] for array in arrays]


def address(array: Any) -> int:
    return addresses((array,))[0]


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage collection inside."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Refused(Exception):
    """What a device, or its driver, does not do; `remedy` says what to do about it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}: {remedy}")
        self.message, self.remedy = message, remedy


class Storage:
    """The memory of one state tensor: a parameter, a buffer, an optimizer slot.

    It starts on its own and moves into the state block of the first function compiled with it; other functions then
    work on the same bytes. Functions for a device work on its mirror there.

    users  the runners that work on these bytes, while they last
    """

    def __init__(self, array: Array) -> None:
        self.here = self.place(aligned_bytes(array.nbytes), array)
        self.in_block = False
        self.mirror: Mirror | None = None
        self.users: list[ref[Runner]] = []

    @property
    def array(self) -> Array:
        """Its numbers, the newest there are; whoever asks for them may write them."""
        self.come_home()
        return self.here

    def come_home(self) -> None:
        """Have the newest numbers here, where they may be changed."""
        if self.mirror is not None:
            self.mirror.come_home()

    @staticmethod
    def place(memory: Array, array: Array) -> Array:
        """A copy of the array in the given bytes."""
        copy = memory[: array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    def move(self, memory: Array) -> None:
        self.here = self.place(memory, self.array)
        self.in_block = True

    def reflect(self, mirror: Mirror) -> None:
        """From now on a device has these numbers too, and may have newer ones."""
        self.mirror = mirror
        for user in filter(None, (each() for each in [*self.users])):
            user.afar = (*user.afar, self)


class Mirror(Protocol):
    """The numbers of a storage in the memory of a device."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Of whoever works on them there."""

    def come_home(self) -> None:
        """Have the newest numbers in the storage's own memory, where they may be changed."""

    @property
    def dlpack_device(self) -> tuple[int, int]:
        """What DLPack calls the device."""

    def dlpack(self, stream: int | None) -> Any:
        """A capsule of DLPack, for a consumer that reads on a stream."""

    def interface(self) -> dict[str, Any]:
        """`__cuda_array_interface__`."""


def join_block(storages: Sequence[Storage]) -> Array:
    """One state block for all storages that are in none yet."""
    loose = list(dict.fromkeys(storage for storage in storages if not storage.in_block))
    block = aligned_bytes(sum(round_up(storage.array.nbytes) for storage in loose))
    offset = 0
    for storage in loose:
        size = round_up(storage.array.nbytes)
        storage.move(block[offset : offset + size])
        offset += size
    return block


class Runner:
    """One artifact with its arena, ready to be called. Calls from several threads wait for each other."""

    def __init__(self, artifact: Artifact, storages: Sequence[Storage]) -> None:
        self.artifact = artifact
        self.storages = storages
        self.block = join_block(storages)
        self.afar = tuple(storage for storage in storages if storage.mirror is not None)
        for storage in storages:
            storage.users.append(ref(self, storage.users.remove))
        self.arena = artifact.description.arena
        self.threads = thread_limit() if self.arena.for_many else 1
        self.paces: dict[tuple[str, int], Pace] | None = {} if self.threads > 1 else None  # None: always all threads
        self.work = self.make_arena()
        self.graph = graph = artifact.graph
        self.dims = graph.dims
        self.results = [(output.name, output.value.type) for output in graph.of_kind("result")]
        self.array_results = [(number, kind) for number, (_, kind) in enumerate(self.results) if kind.shape]
        self.latest: tuple[Any, list[tuple[list[int], np.dtype[Any]]]] = (None, [])
        self.numbers = [number_in(aligned_bytes(8), tensor_type.dtype) for _, tensor_type in self.results]
        bases: Any = {id(storage.array.base): storage.array.base for storage in storages}.values()
        ends = [end for base in bases for end in (address(base), address(base) + base.nbytes)]
        self.blocks = len(bases), (NUMBER * max(len(ends), 1))(*ends)  # where the memory of states starts and ends
        self.state_table = table([storage.array for storage in storages])
        self.input_table = numbers_for(graph.of_role("data"))
        self.result_table = table(self.numbers)
        self.sizes = numbers_for(graph.dims)
        self.scalars = aligned_bytes(8 * max(len(graph.of_role("scalar")), 1))
        self.scalar_places = [number_in(self.scalars[8 * k :], v.dtype) for k, v in enumerate(graph.of_role("scalar"))]
        self.lock = threading.Lock()
        self.library, found = load(artifact)
        self.functions: dict[str, Callable[..., int]] = {
            name: KINDS.get(name, ctypes.CFUNCTYPE(ctypes.c_int32))(place) for name, place in found.items()
        }
        self.tell_places()

    @contextmanager
    def states_at_home(self) -> Iterator[None]:
        """The newest numbers of all states are here, and no device works on them meanwhile."""
        with ExitStack() as held:
            for storage in self.afar:
                assert storage.mirror is not None
                held.enter_context(storage.mirror.lock)
                storage.come_home()
            yield

    def tell_places(self) -> None:
        """Note where things are that calls are told of."""
        self.native = self.native_on(self.input_table, self.sizes)

    def use_threads(self, threads: int | None) -> None:
        """From now on use as many threads, even where one would be quicker; None: as many as pay, up to the limit."""
        with self.lock:
            most = thread_limit() if threads is None else threads
            self.threads = most if self.arena.for_many else 1
            self.paces = {} if threads is None and self.threads > 1 else None
            self.work = self.make_arena()
            self.tell_places()

    def make_arena(self) -> Array:
        """Fresh memory for all threads to work in."""
        work = aligned_bytes(self.arena.size(self.threads))
        slot = self.arena.shared + YIELD
        work[slot : slot + NUMBER_BYTES].view(np.int64)[0] = yield_address() if self.arena.for_many else 0
        return work

    def native_on(self, inputs: Any, sizes: Any) -> Callable[[], int]:
        """The native step for what two such tables say, with all its threads; of no use after `use_threads`."""
        tables = (self.state_table, self.work, inputs, sizes, self.scalars, self.result_table)
        words = table(tables)
        if self.threads == 1:
            return self.alone("step", words, tables)
        call, alone = self.by_all("step", words, tables), self.alone("step", words, tables)
        quiet, batch = 0, 0  # calls of that batch to go before the clock is looked at again

        def native() -> int:
            nonlocal quiet, batch
            if quiet and sizes[0] == batch:
                quiet -= 1
                return alone()
            batch = sizes[0]
            status = call(batch, 1)
            quiet = self.paces["step", batch].quiet if self.paces else 0
            return status

        return native

    def alone(self, name: str, words: Any, memory: Any) -> Callable[[], int]:
        """A call by one thread with a table of words; whoever may still call it keeps the memory it works in."""
        # ctypes takes values of its own as they are, three times as fast as it converts others to declared types.
        call = partial(self.functions[name], POINTER(address(words)), NUMBER(0), NUMBER(1))
        call.memory = words, memory  # type: ignore[attr-defined]
        return call

    def by_all(self, name: str, words: Any, memory: Any) -> Callable[[int, int], int]:
        """(size of a batch, steps) -> status: the same by all threads, or by one where that is quicker."""
        alone = self.alone(name, words, memory)
        if self.threads == 1:
            return lambda batch, steps: alone()
        function = ctypes.cast(self.functions[name], POINTER)  # type: ignore[arg-type]
        lead = partial(self.functions["lead"], function, POINTER(address(words)))
        job = Job(alone, lead, self.functions["attend"], (words, memory), self.library)
        return lambda batch, steps: self.share_out(job, (name, batch), steps)

    def step(self, inputs: Sequence[Array], sizes: Sequence[int]) -> tuple[int, list[Any]]:
        """(status, results): C-contiguous arrays of the inputs' own dtypes in; NumPy scalars and arrays out."""
        with self.lock:
            self.input_table[: len(inputs)] = addresses(inputs)
            self.sizes[: len(sizes)] = sizes
            return self.called(self.native, sizes)

    def called(self, native: Callable[[], int], sizes: Sequence[int]) -> tuple[int, list[Any]]:
        """The same, once its tables say where the inputs are and the caller holds the lock."""
        arrays = [np.empty(shape, dtype) for shape, dtype in self.array_shapes(tuple(sizes))]
        for (place, _), start in zip(self.array_results, addresses(arrays)):
            self.result_table[place] = start
        status = native()
        results = [number[()] for number in self.numbers]
        for (place, _), array in zip(self.array_results, arrays):
            results[place] = array
        return status, results

    def array_shapes(self, sizes: tuple[int, ...]) -> list[tuple[list[int], np.dtype[Any]]]:
        """Shape and dtype of every result that is an array, looked up for the sizes that came last."""
        if sizes != self.latest[0]:
            known = dict(zip(self.dims, sizes, strict=True))
            kinds = [kind for _, kind in self.array_results]
            shapes = [[evaluate(extent, known) for extent in kind.shape] for kind in kinds]
            self.latest = sizes, [(shape, DTYPES[kind.dtype]) for shape, kind in zip(shapes, kinds, strict=True)]
        return self.latest[1]

    def feed(self, arrays: Sequence[Array], kinds: Sequence[int]) -> Feed:
        """How `epoch` reads arrays, which the caller keeps; kinds are PLAIN or BYTES_AS_IMAGE, for each."""
        from graphc.backends.exact import Feed

        return Feed(self, arrays, kinds)

    def epoch(
        self,
        feed: Feed,
        order: Array,
        shuffle: tuple[int, int] | None,
        batch: int,
        steps: tuple[int, int],
        in_order: bool = False,
    ) -> tuple[int, list[float]]:
        """(status, totals): steps first to last over rows `order` of the data; totals are results times batch sizes.

        shuffle   (seed, epoch): first fill `order` with that permutation
        in_order  the order is that of the rows
        """
        with self.lock:
            status, (words, totals) = 0, self.epoch_words(feed, order, batch)
            call = self.by_all("epoch", words, (self.work, totals))
            words[ORDERING_AT] = SHUFFLED if shuffle else IN_PLACE if in_order else GIVEN
            words[SEED_AT], words[NUMBER_AT] = shuffle or (0, 0)
            words[FRESH_AT] = 1
            for words[FIRST_AT], words[LAST_AT] in self.stretches(*steps, batch):
                status = call(batch, words[LAST_AT] - words[FIRST_AT])
                if status:
                    break
                words[ORDERING_AT], words[FRESH_AT] = IN_PLACE if in_order else GIVEN, 0
            return status, totals[: len(self.results)]

    def epoch_words(self, feed: Feed, order: Array, batch: int) -> tuple[Any, Any]:
        """What `epoch` is told, but for which steps in which order; and the totals."""
        totals = (ctypes.c_double * max(len(self.results), 1))()
        known = (self.state_table, self.work, feed.places, feed.kinds, order, self.scalars, totals)
        *before, scalars, sums = addresses(known)
        return (NUMBER * len(EPOCH_WORDS))(*before, GIVEN, 0, 0, len(order), batch, 0, 0, scalars, sums, 0), totals

    def stretches(self, first: int, last: int, batch: int) -> Iterator[tuple[int, int]]:
        """The steps of an epoch, in one go or, where it is to be seen how many threads pay, in short runs."""
        if self.paces is None:
            yield first, last
            return
        while first < last or first == last == 0:
            pace = self.paces.get(("epoch", batch))
            run = max(int(STRETCH / pace.expected), 1) if pace is not None and pace.expected else 1
            yield first, min(first + run, last)
            first += run

    def share_out(self, job: Job, kind: tuple[str, int], steps: int) -> int:
        if self.paces is None:
            return crew().run(job, self.threads)
        pace = self.paces.get(kind)
        if pace is None:
            pace = self.paces[kind] = Pace(self.threads)
        threads, start = pace.choose(), time.perf_counter()
        status = crew().run(job, threads)
        pace.note(threads, time.perf_counter() - start, steps)
        return status

    def set_scalar(self, number: int, value: float) -> None:
        """Write one run-time scalar."""
        self.scalar_places[number][()] = value


def number_in(memory: Array, dtype: str) -> Array:
    """The first bytes of some memory as one number."""
    kind = DTYPES[dtype]
    return memory[: kind.itemsize].view(kind).reshape(())


def numbers_for(items: Sequence[Any]) -> Any:
    """One i64 an item, as native code reads them."""
    return (NUMBER * max(len(items), 1))()


def table(arrays: Sequence[Array]) -> Any:
    """The addresses of arrays, as native code reads them."""
    return (NUMBER * max(len(arrays), 1))(*addresses(arrays))


def load(artifact: Artifact) -> tuple[Any, dict[str, int]]:
    """(what keeps the code alive, the addresses of its functions by name)."""
    described = artifact.description
    names = functions_of(described.layout is not None, described.arena.for_many)
    if LINKED:
        library = ctypes.CDLL(artifact.file)
        return library, {name: ctypes.cast(getattr(library, name), POINTER).value or 0 for name in names}
    from graphc.backends.loading import load_object

    engine = load_object(artifact.path.read_bytes())
    return engine, {name: engine.get_function_address(name) for name in names}
