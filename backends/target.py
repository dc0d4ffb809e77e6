"""LLVM IR to object code for a named machine.

`build` links kernel modules, optimises them with the machine's own cost model and emits one position-independent
object that needs nothing from outside.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

from graphc.backends.lacking import EXTREMES, LONG, ROUNDING, spell_out
from graphc.backends.machine import processor_lines
from graphc.backends.symbols import is_known, read_symbols
from graphc.ir.frozen import dataclass


class BuildError(Exception):
    """LLVM refused a module, or the object would need symbols from outside, `undefined`."""

    def __init__(self, message: str, undefined: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.undefined = tuple(undefined)


@dataclass(frozen=True, slots=True)
class Target:
    """A machine to build for.

    triple, cpu, features: LLVM's names. tile_rows x tile_vectors: the largest register tile of f32x16 vectors that
    stays in registers. has_fma: without it `fma` rounds twice, so results belong to a second family of bits.
    spin_hint: the call of an intrinsic that tells the processor of a loop that waits; "" where there is none.
    halves_masks: sixteen 32-bit elements under a mask are read as two registers, by the processor's own instruction.
    masks_lines: what is under a mask is read and written in whole lines, as only WebAssembly allows.
    has_prefetch: memory can be asked for ahead; loops that do nothing else are left out where it cannot.
    fma_of_16_bytes: the intrinsic that fuses, for vectors of 16 bytes alone; "" where LLVM finds instructions for all.
    relocation: LLVM's name for how code finds what it refers to. is_short: code is made short, not soon.
    most_threads: of one call.
    flushes: its vectors take subnormal numbers for zeros, so results with such numbers are others than elsewhere.
    lacks: what it has no instructions for, see lacking.py. attributes: LLVM's, of every function.
    variants: for which a library holds its steps, lowest first, to choose among when it runs; all else is for this one.
    """

    name: str
    triple: str
    cpu: str
    features: str
    tile_rows: int
    tile_vectors: int
    has_fma: bool = True
    spin_hint: str = ""
    halves_masks: bool = False
    masks_lines: bool = False
    has_prefetch: bool = True
    fma_of_16_bytes: str = ""
    relocation: str = "pic"
    is_short: bool = False
    most_threads: int = 1 << 20
    flushes: bool = False
    lacks: tuple[str, ...] = ()
    attributes: str = ""
    variants: tuple[Target, ...] = ()

    @property
    def suffix(self) -> str:
        """What names its functions in a library of several variants."""
        return self.name.rpartition("-")[2]

    @property
    def looked_for(self) -> Target:
        """What a library is built for: itself, or where processors may lack it, any with this one as a variant."""
        if not self.cpu.startswith("x86-64-v"):
            return self
        return replace(_any_x86_64(self.name, self.triple), variants=(self,))

    @property
    def is_linked(self) -> bool:
        """Its shared objects are written here, see link.py."""
        return "-linux-gnu" in self.triple

    @property
    def is_wide(self) -> bool:
        """Its registers have 64 bits."""
        return not self.triple.startswith(("wasm32", "armv7"))

    @property
    def is_windows(self) -> bool:
        return "-windows" in self.triple

    @property
    def is_apple(self) -> bool:
        return "-apple-" in self.triple

    @property
    def is_wasm(self) -> bool:
        return self.triple.startswith("wasm32")


# Processors that support AVX-512 mostly ask LLVM for 256-bit vectors; kernels spell 512-bit ones out.
_WIDE_VECTORS = "-prefer-256-bit"

_PAUSE, _HINT = "llvm.x86.sse2.pause()", "llvm.aarch64.hint(i32 1)"
_LINUX, _WINDOWS, _MACOS = "unknown-linux-gnu", "pc-windows-gnu", "apple-macosx11.0"


def _any_x86_64(name: str, triple: str) -> Target:
    return Target(name, triple, "x86-64", "", 2, 1, False, _PAUSE, lacks=(ROUNDING,))


def _x86_64(name: str, system: str) -> Target:
    """Any processor of the last fifteen years."""
    triple = f"x86_64-{system}"
    variants = (
        Target(f"{name}-v2", triple, "x86-64-v2", "", 2, 1, False, _PAUSE),
        Target(f"{name}-v3", triple, "x86-64-v3", "", 6, 1, True, _PAUSE, halves_masks=True),
        Target(f"{name}-v4", triple, "x86-64-v4", _WIDE_VECTORS, 14, 2, True, _PAUSE),
    )
    return replace(_any_x86_64(name, triple), variants=variants)


X86_64 = _x86_64("x86-64", _LINUX)
X86_64_V2, X86_64_V3, X86_64_V4 = X86_64.variants
AARCH64 = Target("aarch64", f"aarch64-{_LINUX}", "generic", "", 6, 1, True, _HINT)
# Our linker keeps code as long as it is, so relaxation is off, and takes no differences of addresses.
RISCV64 = Target(
    "riscv64", f"riscv64-{_LINUX}", "generic-rv64", "+m,+a,+f,+d,+c,-relax", 1, 1,
    has_prefetch=False, attributes='"no-jump-tables"="true"',
)  # fmt: skip
ARMV7 = Target(
    "armv7", "armv7-unknown-linux-gnueabihf", "generic", "+neon,+vfp4,+hwdiv-arm", 2, 1, True, "llvm.arm.hint(i32 1)",
    flushes=True, lacks=(ROUNDING, EXTREMES, LONG),
)  # fmt: skip
X86_64_WINDOWS = _x86_64("x86-64-windows", _WINDOWS)
X86_64_MACOS = _x86_64("x86-64-macos", _MACOS)
AARCH64_MACOS = Target("aarch64-macos", f"arm64-{_MACOS}", "apple-m1", "", 6, 1, True, _HINT)
# What browsers and node have had since 2023; some of them have relaxed SIMD since then, others came later.
_WASM = Target(
    "wasm32",
    "wasm32-unknown-unknown",
    "mvp",
    "+bulk-memory,+bulk-memory-opt,+nontrapping-fptoint,+sign-ext,+simd128",
    2,
    1,
    masks_lines=True,
    has_prefetch=False,
    relocation="static",
    is_short=True,
    most_threads=1,
)
WASM32 = replace(_WASM, has_fma=False)
WASM32_RELAXED = replace(
    _WASM,
    name="wasm32-relaxed",
    features=f"{_WASM.features},+relaxed-simd",
    fma_of_16_bytes="llvm.wasm.relaxed.madd",
)
TARGETS = {
    target.name: target
    for target in (
        X86_64, *X86_64.variants, AARCH64, RISCV64, ARMV7, X86_64_WINDOWS, X86_64_MACOS, AARCH64_MACOS,
        WASM32, WASM32_RELAXED,
    )
}  # fmt: skip


@cache
def host() -> Target:
    """This machine."""
    from llvmlite import binding as llvm

    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        shape = X86_64_V4
    elif features.get("fma"):
        shape = X86_64_V3
    else:
        shape = AARCH64 if platform.machine().lower() in ("aarch64", "arm64") else X86_64_V2
    wide = f",{_WIDE_VECTORS}" if shape is X86_64_V4 else ""
    return Target(
        "host",
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        features.flatten() + wide,
        shape.tile_rows,
        shape.tile_vectors,
        shape.has_fma,
        shape.spin_hint,
        shape.halves_masks,
    )


@cache
def host_tile() -> tuple[int, int]:
    """Rows and vectors of this machine's register tile, without asking LLVM where the system says enough."""
    flags = {flag for line in processor_lines() if line.startswith("flags") for flag in line.split()}
    if not flags:
        target = host()
    else:
        target = X86_64_V4 if "avx512f" in flags else X86_64_V3 if "fma" in flags else X86_64_V2
    return target.tile_rows, target.tile_vectors


Variants = Mapping[Target, Sequence[str]]
NO_VARIANTS: Variants = MappingProxyType({})


def build(modules: Sequence[str], exports: Sequence[str], target: Target, variants: Variants = NO_VARIANTS) -> bytes:
    """The object file of LLVM IR texts linked together, of which only the functions named in `exports` are visible.

    variants  texts for other processors, whose functions get the variant's suffix behind a dot

    Raises BuildError when a text is not valid, an export is missing or a symbol stays undefined.
    """
    machine = _machine(target)
    module = _optimise(modules, exports, target, machine, variants)
    data: bytes = machine.emit_object(module)
    undefined = _undefined_symbols(data, module)
    if undefined:
        raise BuildError(f"the object for {target.name} needs undefined symbols: {', '.join(undefined)}", undefined)
    return data


def build_unit(text: str, target: Target) -> bytes:
    """The object file of one LLVM IR text as it is, which may call functions of other objects."""
    machine = _machine(target)
    module = _parsed(_for_target(text, target), target, machine)
    run_passes(module, machine)
    data: bytes = machine.emit_object(module)
    return data


def optimised_llvm(modules: Sequence[str], exports: Sequence[str], target: Target) -> str:
    """The LLVM IR `build` would emit, to look at."""
    return str(_optimise(modules, exports, target, _machine(target)))


def assembly(modules: Sequence[str], exports: Sequence[str], target: Target) -> str:
    """The assembly text `build` would emit, to look at."""
    machine = _machine(target)
    return str(machine.emit_assembly(_optimise(modules, exports, target, machine)))


def check_target(target: Target) -> None:
    """Raises BuildError where this LLVM makes no code for it."""
    _machine(target)


@cache
def _machine(target: Target) -> Any:
    """LLVM's target machine."""
    from llvmlite import binding as llvm

    _initialise_llvm()
    try:
        known = llvm.Target.from_triple(target.triple)
    except RuntimeError as error:
        raise BuildError(f"this LLVM makes no code for {target.name}: {error}") from error
    return known.create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc=target.relocation, codemodel="default"
    )


@cache
def _initialise_llvm() -> None:
    from llvmlite import binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def _optimise(
    modules: Sequence[str], exports: Sequence[str], target: Target, machine: Any, variants: Variants = NO_VARIANTS
) -> Any:
    module = _link(modules, target, machine, variants)
    _hide_all_but(module, exports, target)
    run_passes(module, machine)
    if target.is_short:
        _shorten(module, machine)
    _join_equal(module, machine)
    return module


def _link(modules: Sequence[str], target: Target, machine: Any, variants: Variants) -> Any:
    own = _for_target(joined([*modules, spin_hint(target)]), target)
    others = (_as_variant(joined(texts), variant) for variant, texts in variants.items())
    return _parsed(joined([own, *others]), target, machine)


def _parsed(text: str, target: Target, machine: Any) -> Any:
    from llvmlite import binding as llvm

    header = f'target datalayout = "{machine.target_data}"\ntarget triple = "{target.triple}"\n'
    try:
        module = llvm.parse_assembly(header + text)
        module.verify()
    except RuntimeError as error:
        raise BuildError(f"LLVM refuses the modules for {target.name}: {error}") from error
    return module


_DECLARATION = re.compile(r"^declare [^@]*@([\w.]+)\(.*\n", re.MULTILINE)
_DEFINITION = re.compile(r"^define [^@]*@([\w.]+)\(", re.MULTILINE)


def joined(modules: Sequence[str]) -> str:
    """One text of all: LLVM reads it in half the time it takes to read and link many."""
    text = "\n".join(modules)
    kept = set(_DEFINITION.findall(text))

    def once(found: re.Match[str]) -> str:
        if found[1] in kept:
            return ""
        kept.add(found[1])
        return found[0]

    return _DECLARATION.sub(once, text)


def spin_hint(target: Target) -> str:
    """The function kernels call in a loop that waits."""
    body = f"  call void @{target.spin_hint}\n" if target.spin_hint else ""
    name, _, arguments = target.spin_hint.partition("(")
    kinds = "i32" if arguments.startswith("i32") else ""
    declared = f"declare void @{name}({kinds})\n" if name else ""
    return f"{declared}define void @spin_hint() alwaysinline nounwind {{\n{body}  ret void\n}}\n"


_FMA = re.compile(r"@llvm\.fma\b")
_PREFETCH = re.compile(r"^ *call void @llvm\.prefetch\b.*\n", re.MULTILINE)
_HEAD = re.compile(r"^(define [^\n]*) \{$", re.MULTILINE)


def _for_target(text: str, target: Target) -> str:
    """Without what the target lacks, and what LLVM would get wrong for it or make too much of."""
    if not target.has_fma:  # it would call libm's fma; its fmuladd becomes a multiply and an add
        text = _FMA.sub("@llvm.fmuladd", text)
    if not target.has_prefetch:
        text = _PREFETCH.sub("", text)
    if target.fma_of_16_bytes:
        from graphc.backends import fused

        text = fused.in_pieces(text, target.fma_of_16_bytes)
    if target.masks_lines:
        from graphc.backends import masks

        text = masks.of_lines(text)
    if target.halves_masks:
        text = _with_halved_masks(text)
    if target.lacks:
        text = joined([spell_out(text, target.lacks)])
    return _HEAD.sub(rf"\1 {target.attributes} {{", text) if target.attributes else text


# What reads eight elements under a mask of their signs, by the type of sixteen.
_READS = {"v16f32": ("float", "llvm.x86.avx.maskload.ps.256"), "v16i32": ("i32", "llvm.x86.avx2.maskload.d.256")}


def _with_halved_masks(text: str) -> str:
    """Reads under a mask as two reads that LLVM has nothing to say about.

    Of llvm.masked.load, LLVM 22 makes a read of everything for AVX2 where one half of a mask comes out as off late, as
    it does where one condition in all lanes is cut by constants: dead lanes get numbers, and memory is read that may
    not be there. tests/test_masks.py holds it to this.
    """
    for kind, (element, read) in _READS.items():
        whole = f"llvm.masked.load.{kind}.p0"
        if whole in text:
            declared = re.compile(rf"^declare [^@\n]*@{re.escape(whole)}\(.*\n", re.MULTILINE)
            text = declared.sub("", text).replace(f"@{whole}", f"@halved_{kind}")
            text += _halved_read(f"halved_{kind}", element, read)
    return text


def _halved_read(name: str, element: str, read: str) -> str:
    half, words, lines = f"<8 x {element}>", "<8 x i32>", []
    signs = f"{words} <{', '.join(['i32 31'] * 8)}>"
    for number in range(2):
        chosen = ", ".join(f"i32 {8 * number + lane}" for lane in range(8))
        lines += [
            f"  %mask.{number} = shufflevector <16 x i1> %mask, <16 x i1> poison, {words} <{chosen}>",
            f"  %wide.{number} = zext <8 x i1> %mask.{number} to {words}",
            f"  %signs.{number} = shl {words} %wide.{number}, {signs.removeprefix(f'{words} ')}",
            f"  %place.{number} = getelementptr i8, ptr %place, i64 {32 * number}",
            f"  %half.{number} = call {half} @{read}(ptr %place.{number}, {words} %signs.{number})",
        ]
    both = ", ".join(f"i32 {lane}" for lane in range(16))
    head = f"define internal <16 x {element}> @{name}(ptr %place, <16 x i1> %mask, <16 x {element}> %rest)"
    lines += [
        f"  %all = shufflevector {half} %half.0, {half} %half.1, <16 x i32> <{both}>",
        f"  ret <16 x {element}> %all",
    ]
    return "\n".join([f"{head} alwaysinline nounwind {{", *lines, "}", f"declare {half} @{read}(ptr, {words})", ""])


_NAME = re.compile(r"@([\w.]+)")


def _as_variant(text: str, variant: Target) -> str:
    """The text with functions of its own, for a processor of its own."""
    text = _for_target(text, variant)
    own = set(_DEFINITION.findall(text))
    named = _NAME.sub(lambda found: f"{found[0]}.{variant.suffix}" if found[1] in own else found[0], text)
    features = f' "target-features"="{variant.features}"' if variant.features else ""
    return _HEAD.sub(rf'\1 "target-cpu"="{variant.cpu}"{features} {{', named)


def _hide_all_but(module: Any, exports: Sequence[str], target: Target) -> None:
    from llvmlite.binding import Linkage

    definitions = [value for value in (*module.functions, *module.global_variables) if not value.is_declaration]
    missing = sorted(set(exports) - {value.name for value in definitions})
    if missing:
        raise BuildError(f"the modules for {target.name} do not define the exports {', '.join(missing)}")
    for value in definitions:
        value.linkage = Linkage.external if value.name in exports else Linkage.internal


def run_passes(module: Any, machine: Any) -> None:
    """What leaves the code generator the loops the kernel texts spell out: vectors and unrolling are theirs already.

    LLVM's O2 takes three to five times as long as these (W3 159 ms and 34, W9 884 and 174) for steps that are as quick:
    W1 to W9 of the bench take 0.99 to 1.03 of their time under O2, 0.90 to 1.03 for W9. Without turning loops around
    (`loop_rotate`) W3 takes 1.25. Numbering values brings nothing that code generation does not find again.
    """
    from llvmlite import binding as llvm

    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_loop_rotate_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))


def _shorten(module: Any, machine: Any) -> None:
    """A twentieth less code: functions take what they are always given, and nothing is computed twice."""
    from llvmlite import binding as llvm

    passes = llvm.create_new_module_pass_manager()
    passes.add_ipsccp_pass()
    passes.add_argument_promotion_pass()
    passes.add_dead_arg_elimination_pass()
    passes.add_instruction_combine_pass()
    passes.add_new_gvn_pass()
    passes.add_instruction_combine_pass()
    passes.add_loop_deletion_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))


def _join_equal(module: Any, machine: Any) -> None:
    """Functions that became equal, such as equal parts of several steps, are one from here on."""
    from llvmlite import binding as llvm

    passes = llvm.create_new_module_pass_manager()
    passes.add_merge_functions_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))


def _undefined_symbols(data: bytes, module: Any) -> list[str]:
    """What the object asks of a linker. Calls that only code generation adds are seen in the object alone."""
    return sorted(read_symbols(data).undefined if is_known(data) else _declared(module))


def _declared(module: Any) -> Iterable[str]:
    names = (function.name for function in module.functions if function.is_declaration)
    return (name for name in names if not name.startswith("llvm."))
