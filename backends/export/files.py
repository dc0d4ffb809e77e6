"""All files of a library, as bytes by their paths."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graphc.backends import wasm
from graphc.backends.cache import Cache
from graphc.backends.export.archive import write_apple_archive, write_archive
from graphc.backends.export.build import build_object, exports
from graphc.backends.export.dispatch import LEVEL_BYTES
from graphc.backends.export.header import write_header
from graphc.backends.export.library import Library
from graphc.backends.export.manifest import describe
from graphc.backends.export.sample import write_sample
from graphc.backends.link import link_shared_object
from graphc.backends.symbols import read_symbols
from graphc.backends.target import BuildError, Target

LOADER = Path(__file__).with_name("loader.py")
DEVICE_LOADER = Path(__file__).with_name("device_loader.py")
MODULE_LOADER, PAGE = Path(__file__).with_name("model.mjs"), Path(__file__).with_name("page.html")


def write_files(
    library: Library,
    targets: Mapping[str, Target],
    version: str,
    store: Cache,
    progress: Callable[[str], None] = lambda target: None,
    device_host: Target | None = None,
) -> dict[str, bytes]:
    """Path below the library's folder -> contents.

    progress     is told the name of each target before it is built
    device_host  the processor beside the GPU that a library is for too; None: for none
    """
    described = describe(library, version)
    embedded = json.dumps(described, separators=(",", ":"))
    files: dict[str, bytes] = {}
    listed = []
    for name, target in ((name, target.looked_for) for name, target in targets.items()):
        progress(name)
        built = target_files(library, name, target, embedded, store)
        sums = checksums(built)
        fused = {each.name: each.has_fma for each in target.variants or (target,)}
        family: dict[str, Any] = {"variants_fused": fused} if len(fused) > 1 else {"fused": fused[name]}
        if target.flushes:
            family["flushes_subnormals"] = True
        listed.append({"name": name, "triple": target.triple, **family, "files": sums})
        files |= built
    if device_host is not None:
        from graphc.backends.cuda.ptx import TRIPLE  # few exports are for GPUs
        from graphc.backends.export.device import NAME, device_files
        from graphc.backends.export.device_sample import write_device_sample

        progress(NAME)
        built, bytes_needed = device_files(library, device_host, version)
        told = {"name": NAME, "triple": TRIPLE, "host": device_host.name, **bytes_needed}
        listed.append({**told, "files": checksums(built)})
        files |= built
        sample = write_device_sample(library, version)
        files |= {} if sample is None else {"main_cuda.c": sample.encode()}
        files[f"{library.name}_cuda.py"] = DEVICE_LOADER.read_bytes()
    files[f"{library.name}.h"] = write_header(library, version).encode()
    files["main.c"] = write_sample(library, version).encode()
    files[f"{library.name}.py"] = LOADER.read_bytes()
    files[f"{library.name}.json"] = (json.dumps({**described, "targets": listed}, indent=1) + "\n").encode()
    return files


def checksums(built: Mapping[str, bytes]) -> list[dict[str, Any]]:
    return [
        {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in built.items()
    ]


def target_files(library: Library, name: str, target: Target, manifest: str, store: Cache) -> dict[str, bytes]:
    """A shared object and an archive, or for a linker that is not ours the object and an archive."""
    code, named = build_object(library, target, manifest, store), exports(library)
    stem = library.name[:12]
    check_symbols(code, library, target)
    if target.is_windows:
        archive = write_archive({f"{stem}.obj": code}, {f"{stem}.obj": named})
        return {f"{name}/{library.name}.obj": code, f"{name}/{library.name}.lib": archive}
    if target.is_apple:
        archive = write_apple_archive(f"{stem}.o", code, [f"_{each}" for each in named])
        return {f"{name}/{library.name}.o": code, f"{name}/lib{library.name}.a": archive}
    archive = write_archive({f"{stem}.o": code}, {f"{stem}.o": named})
    if target.is_wasm:
        module = wasm.link_module(code, named)
        check_symbols(module, library, target)
        return {f"{name}/lib{library.name}.a": archive, **module_files(library.name, name, module)}
    if not target.is_linked:
        return {f"{name}/{library.name}.o": code, f"{name}/lib{library.name}.a": archive}
    shared = link_shared_object([code], named, f"lib{library.name}.so", names_all=False)
    check_symbols(shared, library, target)
    return {f"{name}/lib{library.name}.so": shared, f"{name}/lib{library.name}.a": archive}


def check_symbols(data: bytes, library: Library, target: Target) -> None:
    """Raises BuildError for a file that offers or asks for anything else than it should, or keeps what it may not."""
    found, wanted = read_symbols(data), tuple(sorted(exports(library)))
    kept = LEVEL_BYTES if target.variants else 0
    if (found.defined, found.undefined, found.writable) != (wanted, (), kept):
        about = f"defines {found.defined}, needs {found.undefined}, keeps {found.writable} bytes"
        raise BuildError(f"the file of {library.name} for {target.name} {about}; expected are {wanted}, () and {kept}")


def module_files(library: str, folder: str, module: bytes) -> dict[str, bytes]:
    """A WebAssembly module, what loads it, and a page in which it trains."""
    return {
        f"{folder}/{library}.wasm": module,
        f"{folder}/{library}.mjs": MODULE_LOADER.read_bytes(),
        f"{folder}/{library}.html": PAGE.read_bytes().replace(b"model.mjs", f"{library}.mjs".encode()),
    }
