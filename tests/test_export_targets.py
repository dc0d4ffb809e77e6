"""Libraries for other processors: each gives the bits of its family, and offers, needs and keeps what it should."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from exported_models import MODELS, built, trained_in_process

import graphc as gx
from graphc import exporting, nn, optim
from graphc.backends import primitives, symbols
from graphc.backends.export.files import check_symbols
from graphc.backends.export.kernels import SHUFFLE
from graphc.backends.lacking import EXTREMES, LONG
from graphc.backends.symbols import read_symbols
from graphc.backends.target import ARMV7, TARGETS, BuildError, host
from graphc.ir.random import GROUP, permutation

CROSS = {  # target: what its tools are called, what runs its programs
    "aarch64": ("aarch64-linux-gnu", "qemu-aarch64"),
    "riscv64": ("riscv64-linux-gnu", "qemu-riscv64"),
    "armv7": ("arm-linux-gnueabihf", "qemu-arm"),
}
NATIVE = [name for name in TARGETS if re.fullmatch(r"x86-64(-v\d)?", name)]
LEVELS = {"x86-64-v2": "sse4_2", "x86-64-v3": "avx2", "x86-64-v4": "avx512bw"}
STEPS = 2

on_x86 = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64" or shutil.which("cc") is None,
    reason="needs Linux on x86-64 and a C compiler",
)
in_fused_family = pytest.mark.skipif(not host().has_fma, reason="this processor has no fused multiply-add")


def needed(tool: str) -> str:
    """The test is skipped, with a notice, where a tool is not installed."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on PATH")
    return tool


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(model, target) -> the folder of its library."""

    @cache
    def export(name: str, target: str) -> Path:
        folder = tmp_path_factory.mktemp(f"{name}-{target}") / name
        gx.export({"step": built(name)}, folder, [target])
        return folder

    return export


@cache
def in_process(name: str) -> str:
    """The hash after STEPS steps of this process, as the sample program prints it."""
    step = built(name)
    made = exporting.Export(*exporting.library_of({"step": step}, name), Path(), [])
    trained_in_process(step, STEPS)
    return f"state_hash {made.state_hash():016x}"


def program(folder: Path, compiler: str, *options: str) -> Path:
    found = folder.parent / "program"
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1"]
    command = [compiler, *strict, str(folder / "main.c"), "-I", str(folder), *options, "-o", str(found)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return found


def said(*command: str | Path) -> str:
    """The last line a program prints, or what it complains of."""
    done = subprocess.run([*map(str, command), str(STEPS)], capture_output=True, text=True)
    return (done.stdout if done.returncode == 0 else done.stderr).splitlines()[-1]


def archive(folder: Path, target: str) -> str:
    return str(folder / target / f"lib{folder.name}.a")


# -- bits


@in_fused_family
@pytest.mark.parametrize("target", CROSS)
@pytest.mark.parametrize("name", MODELS)
def test_other_processors_train_to_the_bits_of_this_process(name, target, exported):
    tools, runner = CROSS[target]
    needed(f"{tools}-gcc"), needed(runner)
    folder = exported(name, target)
    assert said(runner, program(folder, f"{tools}-gcc", archive(folder, target), "-static")) == in_process(name)


@in_fused_family
@pytest.mark.parametrize("target", CROSS)
def test_shared_objects_of_other_processors_are_loaded(target, exported):
    tools, runner = CROSS[target]
    needed(f"{tools}-gcc"), needed(runner)
    folder = exported("mlp", target)
    made = program(folder, f"{tools}-gcc", f"-L{folder / target}", "-lmlp", f"-Wl,-rpath,{folder / target}")
    assert said(runner, "-L", f"/usr/{tools}", made) == in_process("mlp")


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Runs a program for Windows: what it prints last."""
    runner, home = needed("wine"), tmp_path_factory.mktemp("wine")
    known = {**os.environ, "WINEPREFIX": str(home / "prefix"), "WINEDEBUG": "-all", "DISPLAY": ""}

    def run(made: Path) -> str:
        done = subprocess.run([runner, str(made), str(STEPS)], capture_output=True, text=True, env=known, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    return run


@on_x86
@in_fused_family
@pytest.mark.parametrize("name", ["regression", "mlp", "gru"])
def test_programs_for_windows_train_to_the_bits_of_this_process(name, exported, windows):
    """The object, and for the first the archive and a DLL too."""
    compiler, folder = needed("x86_64-w64-mingw32-gcc"), exported(name, "x86-64-windows")
    place = folder / "x86-64-windows"
    given = [str(place / f"{name}.obj")]
    assert windows(program(folder, compiler, *given).with_suffix(".exe")) == in_process(name)
    if name != "regression":
        return
    assert windows(program(folder, compiler, str(place / f"{name}.lib")).with_suffix(".exe")) == in_process(name)
    made, entry = folder.parent / f"{name}.dll", folder.parent / "entry.c"
    entry.write_text("int DllMainCRTStartup(void) { return 1; }\n")
    subprocess.run([compiler, "-shared", "-nostdlib", *given, str(entry), "-o", str(made)], check=True)
    assert windows(program(folder, compiler, str(made)).with_suffix(".exe")) == in_process(name)


# What main.c calls, in code that was linked for macOS and lies in memory as it would there. It calls no system that it
# could miss; arguments go where Linux has them too, as long as not more than one is behind those in registers.
LOADED = """
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "gru.h"
static char *at(size_t offset) {
    static char *code;
    if (!code) {
        FILE *file = fopen("image", "rb");
        code = mmap(NULL, BYTES, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (!file || fread(code, 1, BYTES, file) != BYTES) exit(9);
        __builtin___clear_cache(code, code + BYTES);
        fclose(file);
    }
    return code + offset;
}
int32_t gru_init(void *state, uint64_t seed) {
    return ((int32_t (*)(void *, uint64_t))at(INIT))(state, seed);
}
int64_t gru_work_bytes(int32_t threads) {
    return ((int64_t (*)(int32_t))at(WORK_BYTES))(threads);
}
uint64_t gru_state_hash(const void *state) {
    return ((uint64_t (*)(const void *))at(STATE_HASH))(state);
}
const char *gru_strerror(int32_t status) {
    return status ? "it failed" : "success";
}
int32_t gru_step(void *state, void *work, const int64_t *x, const int64_t *y, int64_t batch,
                 const struct gru_step_settings *settings, struct gru_step_results *results, int32_t thread,
                 int32_t threads) {
    return ((int32_t (*)(void *, void *, const int64_t *, const int64_t *, int64_t, const struct gru_step_settings *,
                         struct gru_step_results *, int32_t, int32_t))at(STEP))(state, work, x, y, batch, settings,
                                                                                results, thread, threads);
}
"""


def in_memory(dylib: bytes) -> tuple[bytes, dict[str, int]]:
    """A library for macOS as it lies in memory but for the table of texts of strerror, and where its functions are."""
    image, places = bytearray(), {}
    for kind, place in symbols._mach_commands(dylib):
        if kind == symbols.LC_SEGMENT_64:
            start, size, offset, there = struct.unpack_from("<QQQQ", dylib, place + 24)
            image += bytes(max(0, start + size - len(image)))
            image[start : start + there] = dylib[offset : offset + there]
        if kind == 0x80000022:  # LC_DYLD_INFO_ONLY
            assert struct.unpack_from("<6I", dylib, place + 16) == (0,) * 6  # nothing to bind
        if kind == symbols.LC_SYMTAB:
            table, count, names, _ = struct.unpack_from("<IIII", dylib, place + 8)
            for name, _, _, _, value in struct.iter_unpack("<IBBHQ", dylib[table : table + 16 * count]):
                places[symbols._text(dylib, names + name)] = value
    return bytes(image), places


@in_fused_family
@pytest.mark.parametrize(("target", "machine"), [("x86-64-macos", "x86_64"), ("aarch64-macos", "arm64")])
def test_code_for_macos_trains_to_the_bits_of_this_process(target, machine, exported, tmp_path):
    tools, emulator = CROSS["aarch64"] if machine == "arm64" else ("x86_64-linux-gnu", "qemu-x86_64")
    compiler, runner = needed(f"{tools}-gcc"), needed(emulator)
    linker, folder = shutil.which("ld64.lld") or needed("ld64.lld-14"), exported("gru", target)
    about = ["-dylib", "-arch", machine, "-platform_version", "macos", "11.0", "11.0", "-o", "gru.dylib"]
    subprocess.run([linker, *about, str(folder / target / "gru.o")], check=True, cwd=tmp_path)
    image, places = in_memory((tmp_path / "gru.dylib").read_bytes())
    (tmp_path / "image").write_bytes(image)
    (tmp_path / "loaded.c").write_text(LOADED)
    called = ("init", "work_bytes", "state_hash", "step")
    defined = [f"-D{name.upper()}={places[f'_gru_{name}']}" for name in called]
    sources = ["loaded.c", str(folder / "main.c"), "-I", str(folder), f"-DBYTES={len(image)}"]
    subprocess.run([compiler, "-O1", "-static", *sources, *defined, "-o", "program"], check=True, cwd=tmp_path)
    done = subprocess.run(
        [runner, "-cpu", "max", "./program", str(STEPS)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == in_process("gru")


TINY = """
#include <stdio.h>
#include <stdlib.h>
#include "tiny.h"
static float x[32], y[32];
int main(void) {
    void *state = aligned_alloc(64, TINY_STATE_BYTES), *work = aligned_alloc(64, (tiny_work_bytes(1) + 63) / 64 * 64);
    for (int i = 0; i < 32; i++) x[i] = 1e-39f;
    int32_t status = tiny_init(state, 1);
    if (!status) status = tiny_halve(state, work, x, y, 0, 1);
    printf("%d %d", status, y[0] != 0);
    return 0;
}
"""


@pytest.mark.parametrize(("target", "kept"), [("aarch64", 1), ("riscv64", 1), ("armv7", 0)])
def test_what_is_said_of_subnormal_numbers_is_so(target, kept, tmp_path):
    tools, runner = CROSS[target]
    needed(f"{tools}-gcc"), needed(runner)
    w, x = gx.parameter("w", np.zeros(1)), gx.input("x", gx.f32[32])
    halve = gx.function([x], {"y": x * 0.5 + w}, name="halve")
    folder = gx.export({"halve": halve}, tmp_path / "tiny", [target]).folder
    (folder / "tiny.c").write_text(TINY)
    made = [f"{tools}-gcc", "-std=c11", "-static", "tiny.c", f"{target}/libtiny.a", "-I.", "-o", "tiny"]
    subprocess.run(made, cwd=folder, check=True)
    done = subprocess.run([runner, "tiny"], cwd=folder, capture_output=True, text=True)
    assert done.stdout == f"0 {kept}"


def runs(target: str) -> bool:
    flags = Path("/proc/cpuinfo").read_text().split() if platform.system() == "Linux" else []
    return LEVELS.get(target, "sse2") in flags


@on_x86
@in_fused_family
@pytest.mark.parametrize("name", ["mlp", "gru"])
def test_variants_of_one_family_give_the_same_bits(name, exported):
    for target in ("x86-64", "x86-64-v3", "x86-64-v4"):
        if runs(target):
            folder = exported(name, target)
            assert said(program(folder, "cc", archive(folder, target))) == in_process(name)


@on_x86
@in_fused_family
@pytest.mark.parametrize(("processor", "like"), [("Haswell", "x86-64-v3"), ("Nehalem", "x86-64-v2"), ("qemu64", "")])
def test_a_library_takes_the_variant_that_its_processor_runs(processor, like, exported):
    runner, folder = needed("qemu-x86_64"), exported("mlp", "x86-64")
    found = said(runner, "-cpu", processor, program(folder, "cc", archive(folder, "x86-64")))
    if not like:
        assert found == "the library was built for processors with more instructions than this one has"
        return
    alone = exported("mlp", like)
    assert found == said(program(alone, "cc", archive(alone, like)))
    assert (found == in_process("mlp")) == (like == "x86-64-v3")


@on_x86
@pytest.mark.parametrize(
    ("target", "enough", "too_old"),
    [("x86-64-v2", "Nehalem", "qemu64"), ("x86-64-v3", "Haswell", "SandyBridge"), ("x86-64-v4", "", "Haswell")],
)
def test_a_processor_is_told_that_it_lacks_what_a_single_level_needs(target, enough, too_old, exported):
    """Not stopped by an instruction that it does not know, neither in a step nor in what comes before."""
    runner, folder = needed("qemu-x86_64"), exported("mlp", target)
    made = program(folder, "cc", archive(folder, target))
    refused = "the library was built for processors with more instructions than this one has"
    assert said(runner, "-cpu", too_old, made) == refused
    if enough:
        assert said(runner, "-cpu", enough, made).startswith("state_hash ")


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200])
def test_orders_of_a_library_are_those_of_this_process(count):
    for seed, epoch in ((0, 0), (5, 1), (2**63 - 7, 2**62 + 3), (-3, 2**32)):
        order = np.full(count, -1)
        primitives.run(SHUFFLE, order, np.zeros(GROUP, np.int64), count, seed, epoch)
        np.testing.assert_array_equal(order, permutation(count, seed % 2**64, epoch))


# -- files


@pytest.mark.parametrize("target", TARGETS)
def test_two_builds_are_equal_and_the_manifest_has_their_sums(target, exported, tmp_path):
    folder = exported("regression", target)
    again = gx.export({"step": built("regression")}, tmp_path / "regression", [target])
    assert sorted(file.relative_to(again.folder) for file in again.files) == sorted(
        file.relative_to(folder) for file in folder.rglob("*") if file.is_file()
    )
    for file in again.files:
        assert file.read_bytes() == (folder / file.relative_to(again.folder)).read_bytes(), file
    (listed,) = json.loads((folder / "regression.json").read_text())["targets"]
    assert listed["files"]
    families = {each.name: each.has_fma for each in TARGETS[target].variants} or TARGETS[target].has_fma
    assert listed.get("fused", listed.get("variants_fused")) == families
    assert ("flushes_subnormals" in listed) == (target == "armv7")
    for each in listed["files"]:
        data = (folder / each["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (each["bytes"], each["sha256"])


def test_files_are_checked_for_what_they_offer_need_and_keep(exported):
    folder = exported("regression", "x86-64")
    library, _ = exporting.library_of({"step": built("regression")}, "regression")
    data = (folder / "x86-64" / "libregression.so").read_bytes()
    assert read_symbols(data).writable == 4
    check_symbols(data, library, TARGETS["x86-64"])
    with pytest.raises(BuildError, match=r"keeps 4 bytes; expected .* and 0"):
        check_symbols(data, library, TARGETS["x86-64-v3"])
    with pytest.raises(BuildError, match=r"defines .*regression_step.*; expected .*other_step"):
        check_symbols(data, replace(library, name="other"), TARGETS["x86-64"])


@pytest.mark.parametrize("target", ["x86-64-v3", "aarch64-macos", "x86-64-windows"])
def test_symbols_of_every_format(target):
    from graphc.backends.target import build_unit

    text = """@kept = internal global i64 7
declare void @elsewhere(ptr)
define internal void @hidden() noinline {
  call void @elsewhere(ptr @kept)
  ret void
}
define void @offered_to_all_who_link() {
  call void @hidden()
  ret void
}
"""
    found = read_symbols(build_unit(text, TARGETS[target]))
    assert (found.defined, found.undefined, found.writable) == (("offered_to_all_who_link",), ("elsewhere",), 8)
    with pytest.raises(ValueError, match="no object file"):
        read_symbols(b"MZ, the start of a program")


def test_archives_point_to_their_members(exported):
    unix = (exported("regression", "x86-64-windows") / "x86-64-windows" / "regression.lib").read_bytes()
    assert unix[8:24] == b"/" + b" " * 15
    place = int.from_bytes(unix[72:76], "big")
    assert unix[place : place + 16] == b"regression.obj/ "
    apple = (exported("regression", "aarch64-macos") / "aarch64-macos" / "libregression.a").read_bytes()
    name = int(apple[11:24])
    rows = apple[68 + name :]
    place = int.from_bytes(rows[8:12], "little")
    assert apple[place : place + 3] == b"#1/" and place % 8 == 0
    start = apple.index(b"\xcf\xfa\xed\xfe")
    assert start % 8 == 0 and start > place


def test_the_linker_of_windows_takes_both_files(exported, tmp_path):
    linker, folder = needed("lld-link"), exported("regression", "x86-64-windows") / "x86-64-windows"
    out = ["/dll", "/noentry", "/nodefaultlib", f"/out:{tmp_path / 'regression.dll'}", "/export:regression_step"]
    for file in (folder / "regression.obj", folder / "regression.lib"):
        whole = [f"/wholearchive:{file}"] if file.suffix == ".lib" else []
        done = subprocess.run([linker, *out, *whole, str(file)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("target", "machine"), [("x86-64-macos", "x86_64"), ("aarch64-macos", "arm64")])
def test_the_linker_of_macos_takes_both_files(target, machine, exported, tmp_path):
    linker = shutil.which("ld64.lld") or needed("ld64.lld-14")
    folder, made = exported("regression", target) / target, tmp_path / "regression.dylib"
    out = ["-dylib", "-arch", machine, "-platform_version", "macos", "11.0", "11.0", "-o", str(made)]
    for file in (folder / "regression.o", folder / "libregression.a"):
        wanted = [] if file.suffix == ".o" else ["-u", "_regression_step"]
        done = subprocess.run([linker, *out, *wanted, str(file)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert b"_regression_step\0" in made.read_bytes()


def test_sizes(tmp_path):
    gx.manual_seed(1)
    net, batch = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)), gx.dim("batch", max=256)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    step = gx.train_step(net, nn.CrossEntropyLoss(), optimizer, x=gx.f32[batch, 784], y=gx.i64[batch])
    made = gx.export({"step": step}, tmp_path / "mnist", ["x86-64", "x86-64-v3", "aarch64", "riscv64", "armv7"])
    sizes = {file.parent.name: file.stat().st_size for file in made.files if file.suffix in (".so", ".o")}
    assert sizes.pop("x86-64") <= 100 * 1024
    assert max(sizes.values()) <= 40 * 1024, sizes


# -- errors and choices


def test_a_target_that_lacks_something_is_told_with_the_line(monkeypatch, tmp_path):
    bare = replace(ARMV7, name="bare", lacks=(EXTREMES, LONG))
    monkeypatch.setattr(exporting, "TARGETS", {"bare": bare})
    x = gx.input("x", gx.f32[gx.dim("batch", max=4), 3])
    y = gx.functional.floor(x * 2.0)
    step = gx.function([x], {"y": y + 1.0}, name="step")
    with pytest.raises(gx.TargetError) as caught:
        gx.export({"step": step}, tmp_path / "floors", ["bare"])
    first, second, *_ = str(caught.value).splitlines()
    assert first == "bare cannot compute floor of f32[batch,3]: that takes floorf"
    assert "y = gx.functional.floor(x * 2.0)" in second and "test_export_targets.py" in second
    assert not (tmp_path / "floors").exists()


def test_a_target_that_llvm_does_not_know_is_told(monkeypatch, tmp_path):
    unknown = replace(ARMV7, name="unknown", triple="vax-unknown-linux-gnu")
    monkeypatch.setattr(exporting, "TARGETS", {"unknown": unknown})
    with pytest.raises(gx.TargetError, match="this LLVM makes no code for unknown"):
        gx.export({"step": built("regression")}, tmp_path / "regression", ["unknown"])


def test_native_is_what_this_machine_is(monkeypatch):
    cases = {
        ("Linux", "x86_64"): "x86-64", ("Linux", "aarch64"): "aarch64", ("Linux", "riscv64"): "riscv64",
        ("Linux", "armv7l"): "armv7", ("Darwin", "arm64"): "aarch64-macos", ("Windows", "AMD64"): "x86-64-windows",
    }  # fmt: skip
    for (system, machine), name in cases.items():
        monkeypatch.setattr(platform, "system", lambda system=system: system)
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        assert list(exporting.chosen_targets(["native"])) == [name]


@on_x86
def test_the_loader_takes_the_best_that_the_processor_runs(exported, monkeypatch):
    folder = exported("regression", "x86-64")
    spec = importlib.util.spec_from_file_location("regression_loader", folder / "regression.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)

    def offers(*targets):
        files = [{"files": [{"path": f"{target}/lib.so"}, {"path": f"{target}/lib.a"}]} for target in targets]
        monkeypatch.setitem(loader.MANIFEST, "targets", files)

    def found():
        return loader.find_library().parent.name

    few = set().union(*(loader.LEVELS[level] for level in ("-v2", "-v3")))
    monkeypatch.setattr(loader, "instructions", lambda: few)
    offers("x86-64-v4", "x86-64-v2", "x86-64-v3", "aarch64")
    assert found() == "x86-64-v3"
    offers("x86-64-v4", "x86-64-v2", "x86-64", "x86-64-windows")
    assert found() == "x86-64"
    monkeypatch.setattr(loader.platform, "machine", lambda: "aarch64")
    offers("aarch64-macos", "aarch64", "x86-64")
    assert found() == "aarch64"
    offers("x86-64-v4", "x86-64-windows")
    with pytest.raises(OSError, match=r"has no library that runs on aarch64; there are .*x86-64-v4"):
        found()
