"""All files of a library, as bytes by their paths."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from graphc.backends import wasm
from graphc.backends.cache import Cache
from graphc.backends.export.archive import write_archive
from graphc.backends.export.build import build_object, exports
from graphc.backends.export.header import write_header
from graphc.backends.export.library import Library
from graphc.backends.export.manifest import describe
from graphc.backends.export.sample import write_sample
from graphc.backends.link import link_shared_object
from graphc.backends.target import Target

LOADER = Path(__file__).with_name("loader.py")
MODULE_LOADER, PAGE = Path(__file__).with_name("model.mjs"), Path(__file__).with_name("page.html")


def write_files(
    library: Library,
    targets: Mapping[str, Target],
    version: str,
    store: Cache,
    progress: Callable[[str], None] = lambda target: None,
) -> dict[str, bytes]:
    """Path below the library's folder -> contents.

    progress  is told the name of each target before it is built
    """
    described = describe(library, version)
    embedded = json.dumps(described, separators=(",", ":"))
    files: dict[str, bytes] = {}
    listed = []
    for name, target in targets.items():
        progress(name)
        built = target_files(library, name, target, embedded, store)
        sums = [
            {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in built.items()
        ]
        listed.append({"name": name, "triple": target.triple, "fused": target.has_fma, "files": sums})
        files |= built
    files[f"{library.name}.h"] = write_header(library, version).encode()
    files["main.c"] = write_sample(library, version).encode()
    files[f"{library.name}.py"] = LOADER.read_bytes()
    files[f"{library.name}.json"] = (json.dumps({**described, "targets": listed}, indent=1) + "\n").encode()
    return files


def target_files(library: Library, name: str, target: Target, manifest: str, store: Cache) -> dict[str, bytes]:
    code, named = build_object(library, target, manifest, store), exports(library)
    member = f"{library.name[:12]}.o"
    archive = {f"{name}/lib{library.name}.a": write_archive({member: code}, {member: named})}
    if code.startswith(wasm.MAGIC):
        return archive | module_files(library.name, name, wasm.link_module(code, named))
    return {f"{name}/lib{library.name}.so": link_shared_object([code], named, f"lib{library.name}.so"), **archive}


def module_files(library: str, folder: str, module: bytes) -> dict[str, bytes]:
    """A WebAssembly module, what loads it, and a page in which it trains."""
    return {
        f"{folder}/{library}.wasm": module,
        f"{folder}/{library}.mjs": MODULE_LOADER.read_bytes(),
        f"{folder}/{library}.html": PAGE.read_bytes().replace(b"model.mjs", f"{library}.mjs".encode()),
    }
