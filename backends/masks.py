"""Masked loads and stores in WebAssembly, which has none: of whole lines, in which the lanes that are off do not count.

LLVM would write out every lane every time: half of the code of a LeNet, in a minute. But memory is one array without
bounds inside, and one thread works in it, so lanes that are off may be read, and written as they were read. Of a line
that leaves memory, a copy is read in which what is outside is 0.
"""

from __future__ import annotations

import re

from graphc.backends.wasm import SPARE_LINE

_NAME = re.compile(r"@llvm\.masked\.(load|store)\.v(\d+)([fi])(\d+)\.p0\b")
_DECLARATION = re.compile(r"^declare [^@\n]*@llvm\.masked\.(?:load|store)\..*\n", re.MULTILINE)
_FLOATS = {32: "float", 64: "double"}


def of_lines(text: str) -> str:
    """The LLVM IR with functions for every `llvm.masked.load` of which the lanes that are off become 0, and for every
    `llvm.masked.store`."""
    found = sorted({(what, int(lanes), family, int(bits)) for what, lanes, family, bits in _NAME.findall(text)})
    if not found:
        return text
    own = _NAME.sub(r"@masked.\1.v\2\3\4", _DECLARATION.sub("", text))
    sizes = sorted({lanes * bits // 8 for what, lanes, _, bits in found if what == "load"})
    return "\n".join(
        [
            own,
            _COUNT,
            *(_COPY.format(size=size, spare=SPARE_LINE) for size in sizes),
            *(_definition(*each) for each in found),
        ]
    )


def _definition(what: str, lanes: int, family: str, bits: int) -> str:
    element, size = _FLOATS[bits] if family == "f" else f"i{bits}", lanes * bits // 8
    names = {
        "kind": f"v{lanes}{family}{bits}", "vector": f"<{lanes} x {element}>", "lanes": lanes, "element": element,
        "alignment": bits // 8, "size": size, "spare": SPARE_LINE,
    }  # fmt: skip
    return (_LOAD if what == "load" else _STORE).format(**names, is_inside=_IS_INSIDE.format(size=size))


_COUNT = "declare i32 @llvm.wasm.memory.size.i32(i32)\ndeclare i32 @llvm.cttz.i32(i32, i1)\n"

_IS_INSIDE = """\
  %pages = call i32 @llvm.wasm.memory.size.i32(i32 0)
  %end = shl i32 %pages, 16
  %last = sub i32 %end, {size}
  %place = ptrtoint ptr %p to i32
  %is.inside = icmp ule i32 %place, %last
"""

_COPY = """
define internal void @copy.line.{size}(ptr %p) noinline nounwind "no-builtins" {{
entry:
  %pages = call i32 @llvm.wasm.memory.size.i32(i32 0)
  %first = ptrtoint ptr %p to i32
  br label %loop
loop:
  %k = phi i32 [ 0, %entry ], [ %next, %written ]
  %place = add i32 %first, %k
  %page = lshr i32 %place, 16
  %is.inside = icmp ult i32 %page, %pages
  br i1 %is.inside, label %read, label %written
read:
  %from = inttoptr i32 %place to ptr
  %found = load i8, ptr %from
  br label %written
written:
  %byte = phi i8 [ 0, %loop ], [ %found, %read ]
  %to = getelementptr i8, ptr inttoptr (i32 {spare} to ptr), i32 %k
  store i8 %byte, ptr %to
  %next = add i32 %k, 1
  %more = icmp ult i32 %next, {size}
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""

_LOAD = """
define internal {vector} @masked.load.{kind}(ptr %p, <{lanes} x i1> %mask, {vector} %zeros) alwaysinline nounwind {{
entry:
{is_inside}  br i1 %is.inside, label %read, label %outside
outside:
  call void @copy.line.{size}(ptr %p)
  br label %read
read:
  %from = phi ptr [ %p, %entry ], [ inttoptr (i32 {spare} to ptr), %outside ]
  %line = load {vector}, ptr %from, align {alignment}
  %live = select <{lanes} x i1> %mask, {vector} %line, {vector} zeroinitializer
  ret {vector} %live
}}
"""

_STORE = """
define internal void @masked.store.{kind}({vector} %value, ptr %p, <{lanes} x i1> %mask) alwaysinline nounwind {{
{is_inside}  br i1 %is.inside, label %line, label %outside
line:
  %before = load {vector}, ptr %p, align {alignment}
  %after = select <{lanes} x i1> %mask, {vector} %value, {vector} %before
  store {vector} %after, ptr %p, align {alignment}
  ret void
outside:
  %bits = bitcast <{lanes} x i1> %mask to i{lanes}
  call void @store.lanes.{kind}({vector} %value, ptr %p, i{lanes} %bits)
  ret void
}}

define internal void @store.lanes.{kind}({vector} %value, ptr %p, i{lanes} %bits) noinline nounwind "no-builtins" {{
entry:
  %own = alloca {vector}, align 16
  store {vector} %value, ptr %own, align 16
  %wide = zext i{lanes} %bits to i32
  br label %loop
loop:
  %left = phi i32 [ %wide, %entry ], [ %fewer, %move ]
  %more = icmp ne i32 %left, 0
  br i1 %more, label %move, label %done
move:
  %lane = call i32 @llvm.cttz.i32(i32 %left, i1 true)
  %from = getelementptr {element}, ptr %own, i32 %lane
  %to = getelementptr {element}, ptr %p, i32 %lane
  %number = load {element}, ptr %from, align {alignment}
  store {element} %number, ptr %to, align {alignment}
  %below = sub i32 %left, 1
  %fewer = and i32 %left, %below
  br label %loop
done:
  ret void
}}
"""
