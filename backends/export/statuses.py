"""What the functions of an exported library return: 0, or what is wrong; nothing was changed then."""

from __future__ import annotations

OK, NULL, MISALIGNED, SIZE, STATE, THREADS, ORDER, PROCESSOR = range(8)
CHECKS_FROM = 16  # a check of the function's own: this and its number

NAMES = {
    OK: "OK", NULL: "NULL", MISALIGNED: "MISALIGNED", SIZE: "SIZE", STATE: "STATE", THREADS: "THREADS",
    ORDER: "ORDER", PROCESSOR: "PROCESSOR",
}  # fmt: skip
TEXTS = {
    OK: "success",
    NULL: "a pointer is null",
    MISALIGNED: "a pointer is not aligned: state and work to 16 bytes, all else to its elements",
    SIZE: "a count is outside of its range: a batch has 1 to the maximum it was compiled for",
    STATE: "this is no state of this library: it was not initialised, or belongs to another model",
    THREADS: "thread must be from 0 to threads - 1, and threads from 1 to 256, or 1 in WebAssembly",
    ORDER: "a row number in the order is negative or not below the count of samples",
    PROCESSOR: "the library was built for processors with more instructions than this one has",
}
UNKNOWN = "no status of this library"
