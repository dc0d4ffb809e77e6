"""WebAssembly: what is in a module, and what it does in node."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported_models import MODELS, TRAIN, MadeUp, built, fuses, trained_in_process

import graphc as gx
from graphc import nn, optim
from graphc.backends import wasm
from graphc.backends.export.build import exports
from graphc.backends.link import LinkError
from graphc.backends.lower import lower
from graphc.backends.primitives import Kernel
from graphc.backends.symbols import Symbols, read_symbols
from graphc.backends.target import WASM32, WASM32_RELAXED, BuildError, build, build_unit, host
from graphc.ir.random import permutation

NODE = shutil.which("node")
MODULES = ["wasm32", "wasm32-relaxed"]
TARGETS = pytest.mark.parametrize("target", [WASM32, WASM32_RELAXED], ids=MODULES)
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed: nothing runs WebAssembly here")
runs_v2 = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="the other library runs on x86-64 alone"
)


@functools.cache
def node_options():
    """Relaxed SIMD has to be asked for before node 21."""
    known = subprocess.run([NODE, "--v8-options"], capture_output=True, text=True, check=True).stdout
    option = "--experimental-wasm-relaxed-simd"
    return [option] if option in known else []


def node(script, *arguments):
    """What a module of JavaScript prints, as JSON."""
    command = [NODE, *node_options(), "--input-type=module", "-", *map(str, arguments)]
    found = subprocess.run(command, input=script, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def module(texts, names, target):
    return wasm.link_module(build(texts, names, target), names)


def run(data, tmp_path, script):
    """What `script` makes of the exports of a module; it returns something for JSON."""
    path = tmp_path / "module.wasm"
    path.write_bytes(data)
    around = f"""
        import {{ readFileSync }} from "node:fs";
        const {{ instance }} = await WebAssembly.instantiate(readFileSync(process.argv[2]), {{}});
        const {{ memory, __heap_base: heap, ...own }} = instance.exports;
        memory.grow(1);
        console.log(JSON.stringify((() => {{ {script} }})()));
    """
    return node(around, path)


# -- the module


def sections(data):
    found, reader = {}, wasm.Reader(data, len(wasm.MAGIC))
    while reader:
        kind = reader.byte()
        assert kind not in found
        found[kind] = reader.part()
    assert list(found) == sorted(found)
    return found


def exports_of(reader):
    found = []
    for _ in range(reader.number()):
        found.append((reader.text(), reader.byte(), reader.number()))
    return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """What is written of a model, by name, and its step."""

    @functools.cache
    def export(name):
        step = built(name)
        return gx.export({"step": step}, tmp_path_factory.mktemp("made") / name, [*MODULES, "x86-64-v2"]), step

    return export


@pytest.mark.parametrize("target", MODULES)
def test_a_module_imports_nothing_and_exports_its_functions(exported, target):
    made, _ = exported("mlp")
    found = sections((made.folder / target / "mlp.wasm").read_bytes())
    assert not found.keys() & {wasm.IMPORT, wasm.START, wasm.CUSTOM}
    functions = [(name, kind) for name, kind, _ in exports_of(found[wasm.EXPORT])]
    assert functions[:-2] == [(name, wasm.AS_FUNCTION) for name in exports(made.library)]
    assert functions[-2:] == [("memory", wasm.AS_MEMORY), ("__heap_base", wasm.AS_GLOBAL)]


def test_the_step_of_an_mlp_is_at_most_25_kilobytes(tmp_path):
    net = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    sgd = optim.SGD(net.parameters(), lr=0.1)
    step = gx.train_step(net, nn.CrossEntropyLoss(), sgd, x=gx.f32["batch", 784], y=gx.i64["batch"])
    gx.export(step, tmp_path / "mlp", MODULES)
    sizes = [(tmp_path / "mlp" / target / "mlp.wasm").stat().st_size for target in MODULES]
    assert max(sizes) <= 25_000, sizes


def test_what_is_offered_needed_and_kept_is_read():
    text = "declare i32 @other(i32)\ndefine i32 @f(i32 %x) {\n  %y = call i32 @other(i32 %x)\n  ret i32 %y\n}\n"
    changing = "@kept = internal global [5 x i64] zeroinitializer\ndefine ptr @g() {\n  ret ptr @kept\n}\n"
    assert read_symbols(build_unit(text, WASM32)) == Symbols(("f",), ("other",), 0)
    assert read_symbols(build_unit(changing, WASM32)) == Symbols(("g",), (), 40)
    assert read_symbols(module([TWO_CALLS], ["text", "deep"], WASM32)) == Symbols(("deep", "text"), (), 0)


def test_two_builds_are_the_same_bytes(exported, tmp_path):
    made, step = exported("regression")
    again = gx.export({"step": step}, tmp_path / "regression", MODULES)
    for target in MODULES:
        for kind in ("wasm", "mjs", "html"):
            first, second = (each.folder / target / f"regression.{kind}" for each in (made, again))
            assert first.read_bytes() == second.read_bytes()


def test_the_manifest_lists_the_files(exported):
    made, _ = exported("regression")
    manifest = json.loads((made.folder / "regression.json").read_text())
    listed = {each["name"]: [file["path"] for file in each["files"]] for each in manifest["targets"]}
    assert set(listed["wasm32"]) == {f"wasm32/{each}" for each in (
        "regression.wasm", "regression.mjs", "regression.html", "libregression.a",
    )}  # fmt: skip
    assert {each["name"]: each["fused"] for each in manifest["targets"]} == {
        "wasm32": False, "wasm32-relaxed": True, "x86-64-v2": False,
    }  # fmt: skip


TWO_CALLS = """
@texts = internal constant [2 x ptr] [ptr @one, ptr @two]
@one = internal constant [4 x i8] c"one\\00"
@two = internal constant [4 x i8] c"two\\00"
@calls = internal constant [2 x ptr] [ptr @first, ptr @second]

define internal i32 @first(i32 %x) noinline {
  %y = add i32 %x, 1
  ret i32 %y
}
define internal i32 @second(i32 %x) noinline {
  %y = mul i32 %x, 1000
  ret i32 %y
}
define ptr @text(i32 %k) {
  %slot = getelementptr ptr, ptr @texts, i32 %k
  %text = load ptr, ptr %slot
  ret ptr %text
}
define i32 @call(i32 %k, i32 %x) {
  %slot = getelementptr ptr, ptr @calls, i32 %k
  %function = load ptr, ptr %slot
  %y = call i32 %function(i32 %x)
  ret i32 %y
}
define i32 @deep(i32 %n) noinline {
  %own = alloca i32
  %last = icmp eq i32 %n, 0
  br i1 %last, label %end, label %on
on:
  store volatile i32 %n, ptr %own
  %less = sub i32 %n, 1
  %below = call i32 @deep(i32 %less)
  %here = load volatile i32, ptr %own
  %sum = add i32 %below, %here
  ret i32 %sum
end:
  ret i32 0
}
"""


@needs_node
@TARGETS
def test_addresses_of_constants_and_functions_and_the_stack(tmp_path, target):
    data = module([TWO_CALLS], ["text", "call", "deep"], target)
    assert wasm.TABLE in sections(data) and wasm.ELEMENT in sections(data)
    script = """
        const text = (place) => String.fromCharCode(...new Uint8Array(memory.buffer, place, 3));
        const refused = (run) => { try { return run(); } catch (error) { return error instanceof Error; } };
        return [text(own.text(0)), text(own.text(1)), own.call(0, 41), own.call(1, 41), own.deep(10),
                heap.value % 64, heap.value >= own.text(1) + 4, refused(() => own.deep(5000))];
    """
    assert run(data, tmp_path, script) == ["one", "two", 42, 41000, 55, 0, True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("declare i32 @missing(i32)\ndefine i32 @f(i32 %x) {\n  %y = call i32 @missing(i32 %x)\n  ret i32 %y\n}\n",
         "it needs undefined symbols: missing"),
        ("@absent = external global i32\ndefine ptr @f() {\n  ret ptr @absent\n}\n", "undefined symbols: absent"),
        ("define float @f(float %x, float %y) {\n  %z = frem float %x, %y\n  ret float %z\n}\n",
         "undefined symbols: fmodf"),
        ("@changes = internal global i32 5\ndefine i32 @f() {\n  %x = load i32, ptr @changes\n  "
         "store i32 7, ptr @changes\n  ret i32 %x\n}\n", r"\.data\.changes is written to"),
        ("define void @g() {\n  ret void\n}\n", "it does not define the exports f"),
    ],
)  # fmt: skip
def test_what_cannot_stand_alone_is_refused(text, message):
    with pytest.raises(LinkError, match=message):
        wasm.link_module(build_unit(text, WASM32), ["f"])


def test_calls_that_code_generation_adds_are_found_at_the_build():
    text = "define float @f(float %x, float %y) {\n  %z = frem float %x, %y\n  ret float %z\n}\n"
    with pytest.raises(BuildError, match="needs undefined symbols: fmodf"):
        build([text], ["f"], WASM32)


@pytest.mark.parametrize("data", [b"", b"\x7fELF", wasm.MAGIC, wasm.MAGIC + b"\x01\x50\x00"])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(LinkError, match="the WebAssembly object cannot be linked"):
        wasm.link_module(data, [])


@pytest.mark.parametrize("number", [0, 1, 63, 64, 127, 128, 2**28, 2**31 - 1, 2**31, 2**32 - 1])
def test_numbers_are_read_back(number):
    assert wasm.Reader(wasm.unsigned(number)).number() == number
    assert wasm.Reader(wasm.signed(number)).signed() % 2**32 == number


# -- what the target makes of single instructions


@needs_node
@pytest.mark.parametrize(("dtype", "kind", "lanes"), [("f", "f32", 4), ("d", "f64", 2)])
def test_fused_and_unfused(tmp_path, dtype, kind, lanes):
    """x * x - 1, where the square does not fit into its type: fused keeps its low bits, two roundings lose them."""
    names = {"f": "float", "d": "double"}
    text = f"""
declare {names[dtype]} @llvm.fma.{kind}({names[dtype]}, {names[dtype]}, {names[dtype]})
declare <16 x {names[dtype]}> @llvm.fma.v16{kind}(<16 x {names[dtype]}>, <16 x {names[dtype]}>, <16 x {names[dtype]}>)
define {names[dtype]} @one({names[dtype]} %x, {names[dtype]} %y, {names[dtype]} %z) {{
  %r = call {names[dtype]} @llvm.fma.{kind}({names[dtype]} %x, {names[dtype]} %y, {names[dtype]} %z)
  ret {names[dtype]} %r
}}
define void @many(ptr %x, ptr %y, ptr %z) {{
  %a = load <16 x {names[dtype]}>, ptr %x
  %b = load <16 x {names[dtype]}>, ptr %y
  %c = load <16 x {names[dtype]}>, ptr %z
  %r = call <16 x {names[dtype]}> @llvm.fma.v16{kind}(<16 x {names[dtype]}> %a, <16 x {names[dtype]}> %b, <16 x {names[dtype]}> %c)
  store <16 x {names[dtype]}> %r, ptr %z
  ret void
}}
"""  # noqa: E501
    numbers = (1 + np.arange(1, 17) * np.finfo(dtype).eps * 1000).astype(dtype)
    rounded = numbers * numbers - numbers.dtype.type(1)
    exact = np.array([float(int(each * 2**60) ** 2 - 2**120) / 2**120 for each in numbers.tolist()]).astype(dtype)
    assert (rounded != exact).any()
    script = f"""
        const Kind = {"Float32Array" if dtype == "f" else "Float64Array"}, size = 16 * Kind.BYTES_PER_ELEMENT;
        const given = {numbers.tolist()}, places = [0, 1, 2].map((k) => heap.value + k * size);
        new Kind(memory.buffer, places[0], 16).set(given);
        new Kind(memory.buffer, places[1], 16).set(given);
        new Kind(memory.buffer, places[2], 16).fill(-1);
        own.many(...places);
        return [given.map((x) => own.one(x, x, -1)), [...new Kind(memory.buffer, places[2], 16)]];
    """
    assert run(module([text], ["one", "many"], WASM32), tmp_path, script) == [rounded.tolist()] * 2
    relaxed = module([text], ["one", "many"], WASM32_RELAXED)
    assert relaxed.count(b"\xfd\x85\x02" if dtype == "f" else b"\xfd\x87\x02") == 1 + 16 // lanes
    found = run(relaxed, tmp_path, script)
    assert found in ([exact.tolist()] * 2, [rounded.tolist()] * 2)
    if host().has_fma:
        assert found == [exact.tolist()] * 2


MASKED = Kernel(
    "masked",
    "def masked(a, b, count, skipped):\n"
    "    mask = (indices(0) < spread(count)) & (indices(0) >= spread(skipped))\n"
    "    store_live(b, 0, load_live(a, 0, mask) + load_live(a, 0, mask), mask)\n",
    (("a", "f32*"), ("b", "f32*"), ("count", "i64"), ("skipped", "i64")),
)


@needs_node
@TARGETS
def test_lanes_that_are_off_are_not_touched_not_even_at_the_end_of_memory(tmp_path, target):
    script = """
        const found = [], wide = memory.buffer.byteLength / 4, numbers = new Float32Array(memory.buffer);
        for (const count of [0, 1, 5, 16]) for (const skipped of [0, 3]) {
            // inside, up to the end, from behind the end, from before the start
            for (const from of [wide - 300, wide - count, wide + 9 - count, -skipped]) {
                numbers.fill(7);
                numbers.forEach((_, k) => { if (k < 16 || k >= wide - 300) numbers[k] = k % 1000; });
                const alive = (k) => k >= skipped && k < count && from + k >= 0 && from + k < wide;
                if ([...Array(count).keys()].some((k) => k >= skipped && !alive(k))) continue;
                const into = wide - 200, before = [...numbers.slice(into - 4, into + 20)];
                own.masked(4 * from, 4 * into, BigInt(count), BigInt(skipped));
                const right = before.map((number, k) => (alive(k - 4) ? 2 * numbers[from + k - 4] : number));
                const one = right.every((number, k) => numbers[into - 4 + k] === number);
                const last = [...numbers];
                own.masked(4 * (wide - 300), 4 * from, BigInt(count), BigInt(skipped));
                const two = last.every((number, k) => (k >= 16 && k < 16384) || // the spare line and the stack
                    numbers[k] === (alive(k - from) ? 2 * last[wide - 300 + k - from] : number));
                found.push(one && two);
            }
        }
        return [found.length, found.every((each) => each)];
    """
    data = module([lower(MASKED)], ["masked"], target)
    count, right = run(data, tmp_path, script)
    assert right and count >= 20


# -- training in node


def trained_in_node(folder, target):
    loss, state = node(TRAIN, folder / target / f"{folder.name}.mjs", 1)
    return loss, int(state, 16)


@needs_node
@fuses
@pytest.mark.parametrize("name", MODELS)
def test_relaxed_simd_trains_to_the_bits_of_this_process(name, tmp_path):
    step = built(name)
    made = gx.export({"step": step}, tmp_path / name, ["wasm32-relaxed"])
    loss, state = trained_in_node(made.folder, "wasm32-relaxed")
    first = made.state_hash()
    results = trained_in_process(step)
    assert made.state_hash() != first
    assert (np.float32(loss), state) == (np.float32(getattr(results, "loss", results)), made.state_hash())


@needs_node
@runs_v2
@pytest.mark.parametrize("name", MODELS)
def test_plain_simd_trains_to_the_bits_of_machines_that_do_not_fuse(name, tmp_path):
    step = built(name)
    made = gx.export({"step": step}, tmp_path / name, ["wasm32", "x86-64-v2"])
    spec = importlib.util.spec_from_file_location(f"of_{name}", made.folder / f"{name}.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    model, made_up = loader.Model(seed=1), MadeUp()
    for _ in range(50):
        model.step(*made_up.batch(step, 16))
    assert trained_in_node(made.folder, "wasm32")[1] == model.state_hash()


LOADER = """
    import { readFileSync } from "node:fs";
    const { load, LibraryError } = await import(process.argv[2]);
    const url = process.argv[2].replace(".mjs", ".wasm");
    const model = await load(readFileSync(url), { seed: 3 });
    const refused = (run) => {
        const before = model.stateHash();
        try { run(); } catch (error) {
            if (!(error instanceof LibraryError)) throw error;
            return model.stateHash() === before ? error.message : "changed";
        }
        return "not refused";
    };
    const rows = 37, x = Float32Array.from({ length: rows * 30 }, (_, k) => Math.sin(k));
    const y = BigInt64Array.from({ length: rows }, (_, k) => BigInt(k % 10));
    const part = [x.subarray(0, 480), y.subarray(0, 16)];
    const start = model.stateHash(), saved = model.save(), found = {};
    found.refused = [
        () => model.step(x, y), () => model.step(part[0], y), () => model.step(part[0]), () => model.step(3, 4),
        () => model.step(part[0], y.subarray(0, 16).map((each) => each + 1n)), () => model.step.set({ speed: 1 }),
        () => model.load(saved.subarray(1)), () => model.load(saved.map((byte) => byte ^ 1)),
        () => model.predict.epoch(part[0], { batch: 4 }), () => model.step.epoch(x, y, {}),
        () => model.step.epoch(x, y, { batch: 17 }), () => model.step.epoch(x, y, { batch: 4, order: [0] }),
        () => model.step.epoch(x, y, { batch: 4, order: Array(rows).fill(rows) }), () => model.setParameters([1]),
    ].map(refused);
    found.result = model.step(part[0], [...part[1]].map(Number));
    found.moved = model.stateHash() !== start;
    model.load(saved);
    found.back = model.stateHash() === start;
    model.step.set({ lr: 0 }).epoch(x, y, { batch: 16 });
    const still = model.parameters();
    model.setParameters(still.map(() => 0.5));
    found.still = Object.values(model.stateDict()).flatMap((each) => [...each]).filter((each) => each === 0.5).length;
    model.setParameters(still);
    model.step.set({ lr: 0.1 });
    model.init(3);
    found.anew = model.stateHash() === start;
    found.order = [...model.shuffle(rows, 5, 2)].map(Number);
    found.means = model.step.epoch(x, y, { batch: 16, order: found.order });
    found.scores = [...Object.values(model.predict(x.subarray(0, 90)))[0]];
    found.taken = typeof model.save() === "object" && model.functions.save(x.subarray(0, 30)).result.length;
    found.hash = model.stateHash().toString(16);
    found.threads = model.native.net_work_bytes(2) === 0n && model.native.net_work_bytes(1) > 0n;
    console.log(JSON.stringify(found));
"""


@needs_node
@fuses
def test_the_loader_in_node(tmp_path):
    gx.manual_seed(3)
    net = nn.Sequential(nn.Linear(30, 24), nn.Tanh(), nn.Linear(24, 10))
    batch = gx.dim("batch", max=16)
    x, y = gx.f32[batch, 30], gx.i64[batch]
    step = gx.train_step(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1), x=x, y=y)
    predict = gx.predict_step(net, x=x)
    functions = {"step": step, "predict": predict, "save": predict}
    made = gx.export(functions, tmp_path / "net", ["wasm32-relaxed"])
    found = node(LOADER, made.folder / "wasm32-relaxed" / "net.mjs")
    size = made.library.state_bytes
    assert found["refused"] == [
        "a count is outside of its range: a batch has 1 to the maximum it was compiled for",
        "step: y has 37 numbers, expected [batch]",
        "step takes 2 arrays: x, y",
        "step takes 2 arrays: x, y",
        "cross_entropy: labels must lie in 0..9",
        "step has no setting speed",
        f"a state of net has {size} bytes, given are {size - 1}",
        "this is no state of this library: it was not initialised, or belongs to another model",
        "predict has no epoch",
        "step.epoch: the last argument is {batch: rows}",
        "a count is outside of its range: a batch has 1 to the maximum it was compiled for",
        "step: the order has 1 rows, the arrays 37",
        "a row number in the order is negative or not below the count of samples",
        f"there are {30 * 24 + 24 + 240 + 10} parameters, given are 1",
    ]
    assert found["moved"] and found["back"] and found["anew"] and found["threads"]
    assert found["taken"] == 10
    assert found["still"] == 30 * 24 + 24 + 240 + 10
    assert found["order"] == permutation(37, 5, 2).tolist()
    samples, labels = np.sin(np.arange(37 * 30)).astype("f").reshape(37, 30), np.arange(37) % 10
    for first in range(0, 37, 16):
        rows = found["order"][first : first + 16]
        step(samples[rows], labels[rows])
    assert int(found["hash"], 16) == made.state_hash()
    assert np.array_equal(np.float32(found["scores"]).reshape(3, 10), predict(samples[:3]))


@needs_node
def test_the_documentation_trains(tmp_path):
    """The programs of the page for the browser, one after the other."""
    page = (Path(gx.__file__).parent / "docs" / "train_in_the_browser.md").read_text(encoding="utf-8")
    python, script = re.search(r"```python\n(.*?)```", page, re.S)[1], re.search(r"```js\n(.*?)```", page, re.S)[1]
    (tmp_path / "model.py").write_text(python)
    environment = {**os.environ, "PYTHONPATH": str(Path(gx.__file__).parents[1])}
    subprocess.run([sys.executable, "model.py"], cwd=tmp_path, env=environment, check=True)
    folder = tmp_path / "build" / "mnist" / "wasm32"
    (folder / "train.mjs").write_text(script)
    said = subprocess.run([NODE, "train.mjs"], cwd=folder, capture_output=True, text=True, check=True).stdout.split()
    last, mean, count, state = float(said[0]), float(said[1]), int(said[2]), said[3]
    assert mean < last < 0.1 and count == 30 and int(state, 16) > 0
