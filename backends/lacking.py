"""What a processor has no instruction for, in instructions that it has, as LLVM IR.

LLVM would call a function of some library: floorf, __aeabi_uldivmod. `spell_out` puts functions of our own there, which
give the same bits on every processor.

ROUNDING   floor, ceil, rint and trunc of floats
EXTREMES   maximum and minimum of f64
LONG       division of i64, and conversions between i64 and floats
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

from graphc.backends.primitives import LANES

ROUNDING, EXTREMES, LONG = "rounding", "extremes", "long"

_INTRINSICS = {
    ROUNDING: re.compile(r"@llvm\.(floor|ceil|rint|trunc)\.((?:v16)?f(?:32|64))\b"),
    EXTREMES: re.compile(r"@llvm\.(maximum|minimum)\.((?:v16)?f64)\b"),
}
_LONG = r"i64|<16 x i64>"
_FLOAT = r"float|double|<16 x float>|<16 x double>"
_DIVISION = re.compile(rf"= (udiv|urem) ({_LONG}) (.+)$", re.MULTILINE)
_TO_FLOAT = re.compile(rf"= (sitofp|uitofp) ({_LONG}) (.+) to ({_FLOAT})$", re.MULTILINE)
_FROM_FLOAT = re.compile(rf"= (fptosi|fptoui) ({_FLOAT}) (.+) to ({_LONG})$", re.MULTILINE)
_CALLED = re.compile(r"@(plain\.[\w.]+)\(")
_DECLARED = re.compile(r"^declare [^@\n]*@plain\.[^\n]*\n", re.MULTILINE)


def spell_out(text: str, lacks: Collection[str]) -> str:
    """The text with functions in place of what is lacking, and these functions."""
    for lacking in lacks:
        if lacking in _INTRINSICS:
            text = _INTRINSICS[lacking].sub(r"@plain.\1.\2", text)
    if LONG in lacks:
        text = _DIVISION.sub(_divided, text)
        text = _TO_FLOAT.sub(lambda found: _converted(*found.groups()), text)
        text = _FROM_FLOAT.sub(lambda found: _converted(*found.groups()), text)
    text = _DECLARED.sub("", text)
    defined: dict[str, str] = {}
    waiting = _CALLED.findall(text)
    while waiting:
        name = waiting.pop()
        if name not in defined:
            defined[name] = _define(name)
            waiting += _CALLED.findall(defined[name])
    declared = sorted({line for part in defined.values() for line in _declarations(part)})
    return "\n".join([text, *declared, *(defined[name] for name in sorted(defined)), ""]) if defined else text


def _divided(found: re.Match[str]) -> str:
    operation, kind, operands = found.groups()
    first, second = _at_comma(operands)
    return f"= call {kind} @plain.{operation}.{_suffix(kind)}({kind} {first}, {kind} {second})"


def _at_comma(operands: str) -> tuple[str, str]:
    """Two operands, either of which may be a vector of numbers."""
    depth = 0
    for place, letter in enumerate(operands):
        depth += (letter in "<(") - (letter in ">)")
        if letter == "," and not depth:
            return operands[:place], operands[place + 2 :]
    raise ValueError(f"{operands} are no two operands")


def _converted(operation: str, source: str, operand: str, target: str) -> str:
    return f"= call {target} @plain.{operation}.{_suffix(source)}.{_suffix(target)}({source} {operand})"


# -- the functions, of numbers and of sixteen lanes alike

_SUFFIXES = {"i1": "i1", "i32": "i32", "i64": "i64", "float": "f32", "double": "f64"}
_KINDS = {suffix: kind for kind, suffix in _SUFFIXES.items()}


def _suffix(kind: str) -> str:
    return f"v{LANES}{_SUFFIXES[kind.split()[-1].rstrip('>')]}" if kind.startswith("<") else _SUFFIXES[kind]


def _kind(suffix: str) -> str:
    return f"<{LANES} x {_KINDS[suffix.removeprefix('v16')]}>" if suffix.startswith("v16") else _KINDS[suffix]


def _like(suffix: str, element: str) -> str:
    """The type of the same form with other elements."""
    return f"<{LANES} x {element}>" if suffix.startswith("v16") else element


def _number(kind: str, number: str) -> str:
    return f"splat ({kind.split()[-1].rstrip('>')} {number})" if kind.startswith("<") else number


def _declarations(text: str) -> Iterator[str]:
    for name, suffix in re.findall(r"@llvm\.(fabs|copysign)\.(\w+)\(", text):
        kind = _kind(suffix)
        yield f"declare {kind} @llvm.{name}.{suffix}({', '.join([kind] * (2 if name == 'copysign' else 1))})"


def _define(name: str) -> str:
    _, operation, *suffixes = name.split(".")
    return _WRITERS[operation](operation, *suffixes)


def _function(name: str, returns: str, parameters: str, lines: list[str], inline: bool = True) -> str:
    how = "alwaysinline" if inline else "noinline"
    body = "\n".join(f"  {line}" if not line.endswith(":") else line for line in lines)
    return f'define internal {returns} @plain.{name}({parameters}) {how} nounwind "no-builtins" {{\n{body}\n}}\n'


def _rint(operation: str, suffix: str) -> str:
    """Numbers below the first that all are whole lose their fractions when that is added."""
    kind, truth = _kind(suffix), _like(suffix, "i1")
    whole = _number(kind, "8388608.0" if suffix.endswith("32") else "4503599627370496.0")
    lines = [
        f"%size = call {kind} @llvm.fabs.{suffix}({kind} %x)",
        f"%is.small = fcmp olt {kind} %size, {whole}",
        f"%shift = call {kind} @llvm.copysign.{suffix}({kind} {whole}, {kind} %x)",
        f"%up = fadd {kind} %x, %shift",
        f"%down = fsub {kind} %up, %shift",
        f"%near = call {kind} @llvm.copysign.{suffix}({kind} %down, {kind} %x)",
        f"%found = select {truth} %is.small, {kind} %near, {kind} %x",
        f"ret {kind} %found",
    ]
    return _function(f"rint.{suffix}", kind, f"{kind} %x", lines)


def _rounded(operation: str, suffix: str) -> str:
    """A step back where rint went too far; trunc is floor of the size."""
    kind, truth = _kind(suffix), _like(suffix, "i1")
    x = "%size" if operation == "trunc" else "%x"
    compare, step = ("olt", "fadd") if operation == "ceil" else ("ogt", "fsub")
    lines = [
        *([f"%size = call {kind} @llvm.fabs.{suffix}({kind} %x)"] if operation == "trunc" else []),
        f"%near = call {kind} @plain.rint.{suffix}({kind} {x})",
        f"%is.beyond = fcmp {compare} {kind} %near, {x}",
        f"%back = {step} {kind} %near, {_number(kind, '1.0')}",
        f"%there = select {truth} %is.beyond, {kind} %back, {kind} %near",
        f"%found = call {kind} @llvm.copysign.{suffix}({kind} %there, {kind} %x)",
        f"ret {kind} %found",
    ]
    return _function(f"{operation}.{suffix}", kind, f"{kind} %x", lines)


def _extreme(operation: str, suffix: str) -> str:
    """Not a number if one is; of equal ones, which may be zeros, the sign that is more or less."""
    kind, truth, bits = _kind(suffix), _like(suffix, "i1"), _like(suffix, "i64")
    compare, join = ("ogt", "and") if operation == "maximum" else ("olt", "or")
    lines = [
        f"%is.none = fcmp uno {kind} %a, %b",
        f"%none = fadd {kind} %a, %b",
        f"%is.first = fcmp {compare} {kind} %a, %b",
        f"%one = select {truth} %is.first, {kind} %a, {kind} %b",
        f"%is.equal = fcmp oeq {kind} %a, %b",
        f"%a.bits = bitcast {kind} %a to {bits}",
        f"%b.bits = bitcast {kind} %b to {bits}",
        f"%bits = {join} {bits} %a.bits, %b.bits",
        f"%equal = bitcast {bits} %bits to {kind}",
        f"%ordered = select {truth} %is.equal, {kind} %equal, {kind} %one",
        f"%found = select {truth} %is.none, {kind} %none, {kind} %ordered",
        f"ret {kind} %found",
    ]
    return _function(f"{operation}.{suffix}", kind, f"{kind} %a, {kind} %b", lines)


def _divide(operation: str, suffix: str) -> str:
    if suffix.startswith("v16"):
        return _lane_by_lane(operation, suffix)
    if operation == "urem":
        lines = ["%times = call i64 @plain.udiv.i64(i64 %a, i64 %b)", "%whole = mul i64 %times, %b"]
        return _function("urem.i64", "i64", "i64 %a, i64 %b", [*lines, "%rest = sub i64 %a, %whole", "ret i64 %rest"])
    lines = [
        "%any = or i64 %a, %b",
        "%high = lshr i64 %any, 32",
        "%is.short = icmp eq i64 %high, 0",
        "br i1 %is.short, label %short, label %long",
        "short:",
        "%a.short = trunc i64 %a to i32",
        "%b.short = trunc i64 %b to i32",
        "%times.short = udiv i32 %a.short, %b.short",
        "%times = zext i32 %times.short to i64",
        "ret i64 %times",
        "long:",
        "%found = call i64 @plain.ulong.i64(i64 %a, i64 %b)",
        "ret i64 %found",
    ]
    return _function("udiv.i64", "i64", "i64 %a, i64 %b", lines)


def _divide_long(operation: str, suffix: str) -> str:
    """Bit by bit, of numbers that are not negative."""
    lines = [
        "entry:",
        "br label %loop",
        "loop:",
        "%bit = phi i32 [ 0, %entry ], [ %next, %loop ]",
        "%left = phi i64 [ %a, %entry ], [ %left.next, %loop ]",
        "%rest = phi i64 [ 0, %entry ], [ %rest.next, %loop ]",
        "%times = phi i64 [ 0, %entry ], [ %times.next, %loop ]",
        "%top = lshr i64 %left, 63",
        "%left.next = shl i64 %left, 1",
        "%doubled = shl i64 %rest, 1",
        "%more = or i64 %doubled, %top",
        "%fits = icmp uge i64 %more, %b",
        "%less = sub i64 %more, %b",
        "%rest.next = select i1 %fits, i64 %less, i64 %more",
        "%one = zext i1 %fits to i64",
        "%times.doubled = shl i64 %times, 1",
        "%times.next = or i64 %times.doubled, %one",
        "%next = add i32 %bit, 1",
        "%is.done = icmp eq i32 %next, 64",
        "br i1 %is.done, label %done, label %loop",
        "done:",
        "ret i64 %times.next",
    ]
    return _function("ulong.i64", "i64", "i64 %a, i64 %b", lines, inline=False)


def _lane_by_lane(operation: str, suffix: str) -> str:
    kind, known, lines = _kind(suffix), "undef", []
    for lane in range(LANES):
        lines += [f"%{each}.{lane} = extractelement {kind} %{each}, i32 {lane}" for each in "ab"]
        lines += [f"%c.{lane} = call i64 @plain.{operation}.i64(i64 %a.{lane}, i64 %b.{lane})"]
        lines += [f"%all.{lane} = insertelement {kind} {known}, i64 %c.{lane}, i32 {lane}"]
        known = f"%all.{lane}"
    return _function(
        f"{operation}.{suffix}", kind, f"{kind} %a, {kind} %b", [*lines, f"ret {kind} {known}"], inline=False
    )


def _to_float(operation: str, source: str, target: str) -> str:
    """Both halves as f64, in which each is exact.

    For f32 the bits that f64 has no room for are gathered in the last one it has, so that one rounding decides.
    """
    long, short, truth, double = (_like(source, each) for each in ("i64", "i32", "i1", "double"))
    result = _kind(target)
    lines = [f"%y = add {long} %x, {_number(long, '0')}"]
    if target.endswith("f32"):
        shift = str(2**53 if operation == "sitofp" else 0)
        lines = [
            f"%moved = add {long} %x, {_number(long, shift)}",
            f"%is.large = icmp ugt {long} %moved, {_number(long, str(2 * int(shift) or 2**53))}",
            f"%rest = and {long} %x, {_number(long, '2047')}",
            f"%is.more = icmp ne {long} %rest, {_number(long, '0')}",
            f"%gathers = and {truth} %is.large, %is.more",
            f"%cut = and {long} %x, {_number(long, '-2048')}",
            f"%odd = or {long} %cut, {_number(long, '2048')}",
            f"%y = select {truth} %gathers, {long} %odd, {long} %x",
        ]
    lines += [
        f"%y.high = ashr {long} %y, {_number(long, '32')}",
        f"%high = trunc {long} %y.high to {short}",
        f"%low = trunc {long} %y to {short}",
        f"%a = {operation} {short} %high to {double}",
        f"%b = uitofp {short} %low to {double}",
        f"%scaled = fmul {double} %a, {_number(double, '4294967296.0')}",
        f"%sum = fadd {double} %scaled, %b",
    ]
    if target.endswith("f32"):
        lines += [f"%found = fptrunc {double} %sum to {result}", f"ret {result} %found"]
    else:
        lines += [f"ret {result} %sum"]
    return _function(f"{operation}.{source}.{target}", result, f"{long} %x", lines)


def _from_float(operation: str, source: str, target: str) -> str:
    """The size in two halves, each of which f64 gives exactly."""
    long, short, truth, double = (_like(source, each) for each in ("i64", "i32", "i1", "double"))
    given, suffix = _kind(source), source.replace("f32", "f64")
    wide = [f"%y = fpext {given} %x to {double}"] if source.endswith("f32") else []
    y = "%y" if wide else "%x"
    lines = [
        *wide,
        f"%size = call {double} @llvm.fabs.{suffix}({double} {y})",
        f"%scaled = fmul {double} %size, {_number(double, '0x3DF0000000000000')}",
        f"%high = fptoui {double} %scaled to {short}",
        f"%high.back = uitofp {short} %high to {double}",
        f"%part = fmul {double} %high.back, {_number(double, '4294967296.0')}",
        f"%rest = fsub {double} %size, %part",
        f"%low = fptoui {double} %rest to {short}",
        f"%high.long = zext {short} %high to {long}",
        f"%low.long = zext {short} %low to {long}",
        f"%high.there = shl {long} %high.long, {_number(long, '32')}",
        f"%whole = or {long} %high.there, %low.long",
        f"%is.less = fcmp olt {double} {y}, {_number(double, '0.0')}",
        f"%negative = sub {long} {_number(long, '0')}, %whole",
        f"%found = select {truth} %is.less, {long} %negative, {long} %whole",
        f"ret {long} %found",
    ]
    return _function(f"{operation}.{source}.{target}", long, f"{given} %x", lines)


_WRITERS: dict[str, Callable[..., str]] = {
    "rint": _rint, "floor": _rounded, "ceil": _rounded, "trunc": _rounded, "maximum": _extreme, "minimum": _extreme,
    "udiv": _divide, "urem": _divide, "ulong": _divide_long, "sitofp": _to_float, "uitofp": _to_float,
    "fptosi": _from_float, "fptoui": _from_float,
}  # fmt: skip
