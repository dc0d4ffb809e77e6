"""Code of an object, brought into this process."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from graphc.backends.interface import LINKED


def load_object(data: bytes) -> Any:
    """What keeps an object's code alive and tells where its functions are: `get_function_address(name)`.

    On Linux it is linked as artifacts are. LLVM's own engine may put code and numbers further apart than instructions
    can reach, in a process that has much else in its memory, and then ends the process.
    """
    return Linked(data) if LINKED else engine_with(data)


class Linked:
    """A shared library of all that an object defines, which lives as long as the process."""

    def __init__(self, data: bytes) -> None:
        import tempfile

        from graphc.backends.link import link_shared_object
        from graphc.backends.symbols import read_symbols

        names = [name for name in read_symbols(data).defined if name]
        handle, path = tempfile.mkstemp(".so")  # a name of its own: the loader takes an equal one for the same library
        try:
            with open(handle, "wb") as file:
                file.write(link_shared_object([data], names, "graphc-object.so"))
            self.library = ctypes.CDLL(path)
        finally:
            os.unlink(path)

    def get_function_address(self, name: str) -> int:
        return ctypes.cast(getattr(self.library, name), ctypes.c_void_p).value or 0


def engine_with(data: bytes) -> Any:
    """LLVM's engine with an object's code in memory; the code lives as long as the engine."""
    from llvmlite import binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return engine
