"""Exported libraries: C programs train to the bits of this process, and what is wrong is refused before any change."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import platform
import shutil
import subprocess

import numpy as np
import pytest
from exported_models import MODELS, built, trained_in_process
from linked import tool
from refusals import check_refusal

import graphc as gx
from graphc import nn
from graphc.backends.export.build import exports
from graphc.errors import ArgumentError, CheckpointError, TraceError

HERE = platform.system() == "Linux" and platform.machine() in ("x86_64", "aarch64")
needs_c = pytest.mark.skipif(not HERE or shutil.which("cc") is None, reason="needs a C compiler, on x86-64 or aarch64")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"]


def compiled(folder, source="main.c", *options):
    """The path of a C program linked with the library in the folder."""
    (archive,) = folder.glob("*/*.a")
    program = folder / "program"
    command = ["cc", *STRICT, *options, str(folder / source), str(archive), "-I", str(folder), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program


def output(program, *arguments):
    found = subprocess.run([str(program), *arguments], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr + found.stdout
    return found.stdout


@needs_c
@pytest.mark.parametrize("name", MODELS)
def test_the_sample_program_trains_to_the_bits_of_this_process(name, tmp_path):
    step = built(name)
    made = gx.export({"step": step}, tmp_path / name)
    said = output(compiled(made.folder), "50").split()
    first = made.state_hash()
    trained_in_process(step)
    assert made.state_hash() != first
    assert said[-2:] == ["state_hash", f"{made.state_hash():016x}"]


# -- one library for the rest


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A library of three functions over one net, and the functions."""
    gx.manual_seed(1)
    net = nn.Sequential(nn.Linear(30, 24), nn.ReLU(), nn.Dropout(0.25), nn.Linear(24, 10))
    batch = gx.dim("batch", max=16)
    x, y = gx.f32[batch, 30], gx.i64[batch]
    optimizer = gx.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    functions = {
        "step": gx.train_step(net, nn.CrossEntropyLoss(), optimizer, x=x, y=y, metrics=["accuracy"]),
        "test": gx.eval_step(net, nn.CrossEntropyLoss(), x=x, y=y),
        "predict": gx.predict_step(net, x=x),
    }
    return gx.export(functions, tmp_path_factory.mktemp("made") / "mnist"), functions


@pytest.fixture(scope="module")
def loaded(made):
    """The loader that was written, as a module."""
    spec = importlib.util.spec_from_file_location("mnist", made[0].folder / "mnist.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return random.standard_normal((40, 30), np.float32), random.integers(0, 10, 40)


def restored(made):
    """The functions, with the numbers they have after gx.manual_seed(1)."""
    export, functions = made
    model = export.library
    gx.manual_seed(1)
    for state, holder in zip(model.states, export.holders, strict=True):
        if state.initial is not None:
            holder.draw_(state.initial, 1)
    return functions


@needs_c
def test_the_loader_does_what_the_functions_do(made, loaded, arrays, tmp_path):
    functions, model, (x, y) = restored(made), loaded.Model(seed=1), arrays
    assert model.state_hash() == made[0].state_hash()
    for size in (16, 7, 1):
        assert model.step(x[:size], y[:size]) == functions["step"](x[:size], y[:size])
    functions["step"].set(lr=0.5)
    assert model.step.set(lr=0.5)(x[:16], y[:16]) == functions["step"](x[:16], y[:16])
    functions["step"].set(lr=0.1)
    np.testing.assert_array_equal(model.predict(x[:5]), functions["predict"](x[:5]))
    assert model.test(x[:9], y[:9]) == functions["test"](x[:9], y[:9])
    assert model.state_hash() == made[0].state_hash()
    model.save(tmp_path / "state.bin")
    assert (tmp_path / "state.bin").read_bytes() == made[0].block()
    again = loaded.Model(path=tmp_path / "state.bin")
    assert again.state_hash() == model.state_hash()


@needs_c
def test_epochs_are_those_of_a_loader(made, loaded, arrays):
    functions, model, (x, y) = restored(made), loaded.Model(seed=1), arrays
    loader = gx.data.DataLoader(gx.data.TensorDataset(x, y), 16, shuffle=True, seed=5)
    for epoch in range(2):
        order = np.empty(40, np.int64)
        loaded.check(loaded.library("shuffle")(loaded.POINTER(order.ctypes.data), *map(ctypes.c_int64, (40, 5, epoch))))
        found = model.step.set(lr=0.1).epoch(x, y, batch=16, order=order)
        assert found == functions["step"].epoch(loader)
    plain = gx.data.DataLoader(gx.data.TensorDataset(x, y), 16)
    assert model.test.epoch(x, y, batch=16) == functions["test"].epoch(plain)
    assert model.state_hash() == made[0].state_hash()


@needs_c
def test_states_go_over_to_checkpoints_and_back(made, loaded, arrays, tmp_path):
    functions, model, (x, y) = restored(made), loaded.Model(seed=1), arrays
    model.step(x[:16], y[:16])
    block = model.state.tobytes()
    gx.save(made[0].state_dict_of(block), tmp_path / "net.safetensors")
    assert made[0].block_of(gx.load(tmp_path / "net.safetensors")) == block
    made[0].load_block(block)
    assert made[0].state_hash() == model.state_hash()
    assert functions["step"](x[:16], y[:16]) == model.step(x[:16], y[:16])
    with pytest.raises(CheckpointError, match="this is no state of mnist"):
        made[0].load_block(block[:-1])
    with pytest.raises(CheckpointError, match=r"0\.weight is f32\[24,30\] in mnist and float32\[24, 29\] here"):
        made[0].block_of({**made[0].state_dict_of(block), "0.weight": np.zeros((24, 29), np.float32)})


@needs_c
def test_flat_parameters(made, loaded):
    model = loaded.Model(seed=3)
    count = loaded.MANIFEST["parameters"]
    flat = np.empty(count, np.float32)
    pointers = loaded.POINTER(model.state.ctypes.data), loaded.POINTER(flat.ctypes.data)
    loaded.check(loaded.library("get_parameters")(*pointers))
    trained = [each["name"] for each in loaded.MANIFEST["states"] if each["trains"]]
    state = model.state_dict()
    np.testing.assert_array_equal(flat, np.concatenate([state[name].ravel() for name in trained]))
    flat += 1
    loaded.check(loaded.library("set_parameters")(*pointers))
    for name in trained:
        np.testing.assert_array_equal(model.state_dict()[name], state[name] + 1)


# -- what is refused


@needs_c
def test_ten_thousand_calls_with_wrong_arguments_change_nothing(made, loaded, arrays):
    """Every call with something wrong says so and leaves every byte of the state; those with nothing wrong succeed."""
    random, model, (x, y) = np.random.default_rng(1), loaded.Model(seed=1), arrays
    x, y = x[:16].copy(), y[:16].copy()
    bad_labels, results, settings = y.copy(), np.zeros(8), np.full(8, 0.125)
    bad_labels[3] = 10
    other = loaded.Model(seed=1).state.copy()
    other[9] ^= 1
    blocks = {"state": model.state, "work": model.work, "x": x, "y": y, "labels": bad_labels, "results": results}
    blocks["settings"] = settings
    place = {name: block.ctypes.data for name, block in blocks.items()} | {"other": 0}
    foreign = loaded.aligned(len(other))
    foreign[...] = other
    place["other"] = foreign.ctypes.data
    wrong = {
        "state": (0, place["state"] + 8, place["other"]), "work": (0, place["work"] + 1), "x": (0, place["x"] + 2),
        "y": (0, place["y"] + 4, place["labels"]), "batch": (0, -1, 17, 2**40), "results": (0, place["results"] + 1),
        "thread": (-1, 1, 5), "threads": (0, -1, 257), "settings": (place["settings"] + 4,),
    }  # fmt: skip
    fine = {**place, "batch": 16, "thread": 0, "threads": 1}
    names = ("state", "work", "x", "y", "batch", "settings", "results", "thread", "threads")
    kinds = (*[ctypes.c_void_p] * 4, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32)
    before, statuses, succeeded = model.state.copy(), set(), 0
    for _ in range(10_000):
        chosen = dict(fine, settings=random.choice([0, place["settings"]]))
        mistakes = random.choice([*wrong], random.integers(0, 3), replace=False)
        for name in mistakes:
            chosen[name] = wrong[name][random.integers(len(wrong[name]))]
        status = loaded.library("step")(*(kind(int(chosen[name])) for name, kind in zip(names, kinds, strict=True)))
        assert (status == 0) == (len(mistakes) == 0)
        statuses.add(status)
        if status == 0:
            succeeded += 1
            model.state[...] = before
        assert np.array_equal(model.state, before)
        assert np.array_equal(foreign, other)
    assert statuses == {0, 1, 2, 3, 4, 5, 16} and succeeded > 1000
    assert len({loaded.library("strerror")(status) for status in (*statuses, 99)}) == 8


@needs_c
def test_an_epoch_looks_at_all_labels_and_rows_first(made, loaded, arrays):
    model, (x, y) = loaded.Model(seed=1), arrays
    before = model.state_hash()
    with pytest.raises(ValueError, match=r"cross_entropy: labels must lie in 0\.\.9"):
        model.step.epoch(x, np.where(np.arange(40) == 39, -3, y), batch=8)
    with pytest.raises(ValueError, match="a row number in the order is negative"):
        model.step.epoch(x, y, batch=8, order=np.arange(1, 41))
    with pytest.raises(ValueError, match="a batch has 1 to the maximum"):
        model.step.epoch(x, y, batch=17)
    assert model.state_hash() == before
    model.step.epoch(x, np.where(y == 3, -100, y), batch=8)  # the label that cross entropy leaves out


def test_the_loader_refuses_what_does_not_fit(loaded, arrays):
    model, (x, y) = loaded.Model(), arrays
    for call, text in [
        (lambda: model.step(x[:4]), "step takes 2 arrays, got 1"),
        (lambda: model.step(x[:4, 1:], y[:4]), r"step: x is \[4, 29\], expected \['batch', 30\]"),
        (lambda: model.step(x[:4], y[:5]), r"step: y is \[5\], expected \['batch'\]"),
        (lambda: model.step(x, y), "a batch has 1 to the maximum"),
        (lambda: model.step.set(rate=1), "step has no setting 'rate'"),
        (lambda: model.predict.epoch(x, batch=3), "predict has no epoch"),
        (lambda: model.load_state_dict({"0.weight": x}), "the state is not one of mnist"),
    ]:
        with pytest.raises(loaded.LibraryError, match=text):
            call()


def test_wrong_uses(made, tmp_path):
    step = made[1]["step"]
    cases = [
        (lambda: gx.export([], tmp_path / "a"), ArgumentError, "functions"),
        (lambda: gx.export(step, tmp_path / "1a"), ArgumentError, "cannot name a library in C"),
        (lambda: gx.export({"a-b": step}, tmp_path / "a"), TraceError, "cannot name a C function"),
        (lambda: gx.export([step, step], tmp_path / "a"), TraceError, "two functions are called train_step"),
        (lambda: gx.export({"init": step}, tmp_path / "a"), TraceError, "a library has something else called init"),
        (lambda: gx.export({"a": step, "a_epoch": step}, tmp_path / "a"), TraceError, "something else called a_epoch"),
        (lambda: gx.export(step, tmp_path / "a", targets=["vax"]), ArgumentError, "'vax' is not a target"),
    ]
    for call, kind, text in cases:
        check_refusal(call, text, kind=kind)
    assert not [*tmp_path.iterdir()]


# -- names and dtypes that C has its own idea of

NAMES = [
    ("state", "batch", "int", "class"), ("results", "work", "x", "x y"), ("default", "steps", "samples", "x_y"),
    ("count", "free", "while", "steps"), ("a b", "a_b", "a b", "a_b"), ("order", "means", "thread", "2d"),
]  # fmt: skip


@needs_c
@pytest.mark.parametrize("names", NAMES)
def test_any_name_becomes_one_that_c_and_cpp_take(names, tmp_path):
    rate, x, y = gx.scalar(names[3], 0.1), *(gx.input(name, gx.f32[gx.dim("batch", max=16), 3]) for name in names[:2])
    gx.manual_seed(1)
    w = gx.parameter("w", np.ones(3))
    loss = ((x * w - y) ** 2).mean()
    results = {names[2]: loss, names[3]: loss * 2.0}
    updates = {w: w - rate * gx.grad(loss, w)}
    step = gx.function([x, y], results, updates=updates, name="step")
    rows = gx.function([x, y], {names[0]: x * w, names[2]: y, names[3]: loss}, name="rows")
    made = gx.export({"step": step, "rows": rows}, tmp_path / "odd")
    said = output(compiled(made.folder), "5")
    (made.folder / "odd.cpp").write_text('#include "odd.h"\n')
    subprocess.run(["c++", "-Wall", "-Werror", "-c", "odd.cpp"], check=True, cwd=made.folder)
    trained_in_process(step, 5)
    assert said.split()[-1] == f"{made.state_hash():016x}"
    assert output(compiled(gx.export({"rows": rows}, tmp_path / "alone").folder), "1")


@needs_c
@pytest.mark.parametrize(("x", "y"), [("u8", "u8"), ("u8", "i64"), ("i32", "i32"), ("f64", "i32"), ("bool_", "u8")])
def test_inputs_of_every_dtype_train_as_they_do_in_process(x, y, tmp_path):
    gx.manual_seed(1)
    net, batch = nn.Sequential(nn.Linear(30, 24), nn.ReLU(), nn.Linear(24, 10)), gx.dim("batch", max=16)
    kinds = {"x": getattr(gx, x)[batch, 30], "y": getattr(gx, y)[batch]}
    optimizer = gx.optim.SGD(net.parameters(), lr=0.001)
    loss_of = nn.CrossEntropyLoss()
    step = gx.train_step(net, loss_of, optimizer, **kinds)
    made = gx.export({"step": step}, tmp_path / "net")
    compiled(made.folder)
    spec = importlib.util.spec_from_file_location("net", made.folder / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model, random = module.Model(seed=1), np.random.default_rng(0)
    rows = random.integers(0, 2 if x == "bool_" else 200, (40, 30)).astype(module.DTYPES[x.rstrip("_")])
    labels = random.integers(0, 10, 40).astype(module.DTYPES[y])
    for begin in (0, 16, 32):
        assert model.step(rows[begin : begin + 16], labels[begin : begin + 16]) == step(
            rows[begin : begin + 16], labels[begin : begin + 16]
        )
    assert model.state_hash() == made.state_hash()
    loader = gx.data.DataLoader(gx.data.TensorDataset(rows, labels), 16)
    assert model.step.epoch(rows, labels, batch=16) == step.epoch(loader)
    assert model.state_hash() == made.state_hash()


# -- the files


@needs_c
def test_two_exports_are_the_same_bytes(tmp_path):
    folders = [gx.export({"step": built("mlp")}, tmp_path / part / "mlp").folder for part in "ab"]
    for path in (path for path in folders[0].rglob("*") if path.is_file()):
        assert path.read_bytes() == (folders[1] / path.relative_to(folders[0])).read_bytes(), path


def test_the_manifest_lists_the_files_with_their_sums(made):
    folder = made[0].folder
    manifest = json.loads((folder / "mnist.json").read_text())
    (target,) = manifest["targets"]
    for file in target["files"]:
        data = (folder / file["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["bytes"], file["sha256"])
    assert [each["name"] for each in manifest["functions"]] == ["step", "test", "predict"]
    rate = {"name": "lr", "type": "double", "offset": 8, "value": 0.1}
    assert rate in manifest["functions"][0]["settings"]


@needs_c
def test_a_library_stands_alone(made):
    (shared,) = made[0].folder.glob("*/*.so")
    assert tool("nm", "-u", "-D", str(shared)) == ""
    assert "statically linked" in tool("ldd", str(shared))
    exported = {line.split()[-1] for line in tool("nm", "-D", "--defined-only", str(shared)).splitlines()}
    assert exported == set(exports(made[0].library))


@needs_c
def test_callers_under_watch(tmp_path):
    """The sample, built with sanitizers, and under valgrind where that is installed."""
    folder = gx.export({"step": built("lenet")}, tmp_path / "lenet").folder
    program = compiled(folder, "main.c", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    said = output(program, "2")
    plain = compiled(folder)
    assert output(plain, "2") == said
    assert "ERROR SUMMARY: 0 errors" in watched("valgrind", "--error-exitcode=9", str(plain), "2")


def watched(name, *arguments):
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not on PATH")
    found = subprocess.run([name, *arguments], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stderr


THREADS = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "wide.h"
static void *state, *work;
static float x[64 * 512];
static int64_t y[64];
static int threads;
static void *share(void *given) {
    int32_t status = 0;
    for (int step = 0; step < 5 && status == 0; step++) {
        struct wide_step_results results;
        status = wide_step(state, work, x, y, 64, NULL, &results, (int32_t)(intptr_t)given, threads);
    }
    return (void *)(intptr_t)status;
}
int main(int count, char **arguments) {
    pthread_t ids[8];
    threads = count > 1 ? atoi(arguments[1]) : 1;
    state = aligned_alloc(64, WIDE_STATE_BYTES);
    work = aligned_alloc(64, (size_t)(wide_work_bytes(threads) + 63) / 64 * 64);
    for (int i = 0; i < 64 * 512; i++) x[i] = (float)(i % 97) / 50 - 1;
    for (int i = 0; i < 64; i++) y[i] = i % 10;
    if (wide_init(state, 1) || wide_prepare(work, threads, NULL)) return 1;
    for (intptr_t k = 1; k < threads; k++) pthread_create(&ids[k], NULL, share, (void *)k);
    if (share(NULL)) return 2;
    for (int k = 1; k < threads; k++) pthread_join(ids[k], NULL);
    printf("%llx", (unsigned long long)wide_state_hash(state));
    return 0;
}
"""


@needs_c
def test_threads_of_the_caller_share_a_step_to_the_same_bits(tmp_path):
    gx.manual_seed(1)
    net = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    batch, optimizer = gx.dim("batch", max=64), gx.optim.Adam(net.parameters())
    kinds = {"x": gx.f32[batch, 512], "y": gx.i64[batch]}
    step = gx.train_step(net, nn.CrossEntropyLoss(), optimizer, **kinds)
    folder = gx.export({"step": step}, tmp_path / "wide").folder
    (folder / "threads.c").write_text(THREADS)
    program = compiled(folder, "threads.c", "-std=c11", "-pthread")
    assert len({output(program, str(threads)) for threads in (1, 2, 3)}) == 1


TWO_STATES = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "gru.h"
struct one { uint64_t seed, hash; int32_t status; };
static void *train(void *given) {
    struct one *one = given;
    void *state = aligned_alloc(64, GRU_STATE_BYTES);
    void *work = aligned_alloc(64, (size_t)(gru_work_bytes(1) + 63) / 64 * 64);
    int64_t x[16 * 6], y[16 * 6];
    for (int i = 0; i < 16 * 6; i++) { x[i] = i % 10; y[i] = (i + 1) % 10; }
    struct gru_step_results results;
    one->status = gru_init(state, one->seed);
    for (int k = 0; k < 200 && one->status == 0; k++)
        one->status = gru_step(state, work, x, y, 16, NULL, &results, 0, 1);
    one->hash = gru_state_hash(state);
    free(state), free(work);
    return NULL;
}
int main(int count, char **arguments) {
    struct one ones[2] = {{1, 0, 0}, {2, 0, 0}};
    pthread_t ids[2];
    (void)arguments;
    for (int k = 0; k < 2; k++) {
        pthread_create(&ids[k], NULL, train, &ones[k]);
        if (count > 1) pthread_join(ids[k], NULL);
    }
    for (int k = 0; k < 2 && count == 1; k++) pthread_join(ids[k], NULL);
    printf("%llx %llx", (unsigned long long)ones[0].hash, (unsigned long long)ones[1].hash);
    return ones[0].status | ones[1].status;
}
"""


@needs_c
def test_two_states_train_at_once_as_one_after_the_other(tmp_path):
    folder = gx.export({"step": built("gru")}, tmp_path / "gru").folder
    (folder / "two.c").write_text(TWO_STATES)
    program = compiled(folder, "two.c", "-std=c11", "-pthread")
    at_once, in_turn = output(program).split(), output(program, "in turn").split()
    assert at_once == in_turn and at_once[0] != at_once[1]


@needs_c
def test_a_loss_that_is_not_finite_changes_nothing(tmp_path):
    w = gx.parameter("w", np.ones(3))
    x = gx.input("x", gx.f32["batch", 3])
    loss = (gx.log(x * w)).mean()
    step = gx.function([x], {"loss": loss}, updates={w: w - 0.1 * gx.grad(loss, w)}, nan="raise", name="step")
    made = gx.export(step, tmp_path / "checked")
    spec = importlib.util.spec_from_file_location("checked", made.folder / "checked.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.Model()
    model.step(np.ones((4, 3), np.float32))
    before = model.state_hash()
    with pytest.raises(module.LibraryError, match="loss is not finite"):
        model.step(np.array([[1, 1, -1]], np.float32))
    assert model.state_hash() == before
