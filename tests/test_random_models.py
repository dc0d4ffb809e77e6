"""Random programs of users, each compiled and called in many ways that must agree: to the bit, or to rounding.

`python tests/test_random_models.py 100 200` tries the programs of these seeds and prints what differs; with names of
checks behind the numbers, only those.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
import traceback
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from emulated_calls import check_close, emulated, emulator_of
from random_models import CLASSES, VOCABULARY, Program, random_program

import graphc as gx
from graphc import data
from graphc.about import About
from graphc.backends import reference
from graphc.ir.passes import expand_gradients, hold_wanted, with_bodies
from graphc.ir.text import parse_graph, print_graph

LIGHT, HEAVY = (0, 13), (41,)  # seeds: convolutions and clipping, dropout and gathered gradients, attention and an LSTM


def compiled(program: Program, **settings):
    """A step of the program with new, always equal, initial values; its net, optimizer and schedule."""
    parts = program.ours()
    known = {**program.types, **program.settings, **settings}
    parts.step = gx.train_step(parts.net, parts.loss, parts.optimizer, **known)
    return parts


def trained(parts: SimpleNamespace, program: Program, first: int = 0):
    """What calls with batches of all sizes give, with the schedule between them; and the states they leave."""
    found = []
    for number, size in [*enumerate(program.sizes)][first:]:
        found.append(np.ravel(parts.step(*program.batch(*size, number))))
        parts.schedule.step()
    return found, parts.step.state_dict()


def plain(program: Program):
    """The same of a plain step by one thread. It starts random numbers anew, as every compiled program does."""
    parts = compiled(program)
    parts.step.threads = 1
    return trained(parts, program)


def same_bits(found, wanted, what=""):
    for number, (one, other) in enumerate(zip(found[0], wanted[0], strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"{what} result of call {number}")
    assert found[1].keys() == wanted[1].keys()
    for name, array in wanted[1].items():
        np.testing.assert_array_equal(found[1][name], array, err_msg=f"{what} {name}")


def close(found, wanted, what, share=2e-4):
    """Numbers that differ by rounding, which counts for as much as the largest of them. Where a naive formula is not
    finite nothing is asked for, since graphc makes some of them safe."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    finite = np.abs(wanted) < 1e30
    assert np.isfinite(found[finite]).all(), f"{what}: {found} is not {wanted}"
    if finite.any():
        scale = share * (np.abs(wanted[finite]) + np.abs(wanted[finite]).max() + 0.1)
        apart = np.abs(found[finite] - wanted[finite])
        assert (apart <= scale).all(), f"{what} is {apart.max():.3g} away from numbers up to {np.abs(wanted).max():.3g}"


# -- checks


def check_reference(program):
    """Loss and states of each call are those of the graph as it was traced, computed by NumPy in double precision."""
    parts = compiled(program)
    step = parts.step
    graph = with_bodies(with_bodies(step.traced, hold_wanted), expand_gradients)
    for number, size in enumerate(program.sizes):
        x, y = program.batch(*size, number)
        arrays = {"x": x, "y": y, **step.state_dict(), **{name: each.number for name, each in step.scalars.items()}}
        found = step(x, y)
        wanted = reference.run(graph, arrays, double=True)
        close(found.loss, wanted["loss"], f"loss of call {number}")
        for name, array in step.state_dict().items():
            if name in wanted:
                close(array, wanted[name], f"{name} of call {number}")
        parts.schedule.step()


def check_threads(program):
    parts = compiled(program)
    parts.step.threads = 2
    same_bits(trained(parts, program), plain(program))


def check_debug(program):
    """A step is healthy, so nothing is raised; and what comes after is as if nobody had looked."""
    wanted = plain(program)
    if not all(np.isfinite(each).all() for each in (*wanted[0], *wanted[1].values())):
        return
    parts = compiled(program)
    size = program.sizes[0]
    start = parts.step.state_dict()
    with gx.debug(nan="raise", check="reference"):
        parts.step(*program.batch(*size, 0))
        parts.step(*program.batch(*program.sizes[1], 1))
    with gx.debug():
        parts.step(*program.batch(*size, 0))
    parts.step.load_state_dict(start)
    same_bits(trained(parts, program), wanted)


def check_faults(program):
    """What is wrong in a batch is an error of that call, after which all goes on as if there had been none."""
    wanted = plain(program)
    if not all(np.isfinite(each).all() for each in wanted[0]):
        return
    for threads in (1, 2):
        parts = compiled(program, nan="raise")
        parts.step.threads = threads
        for (x, y), look in product(faulty(program), (nullcontext, gx.debug)):
            with pytest.raises((gx.LabelError, gx.NumericsError)), look():
                parts.step(x, y)
        same_bits(trained(parts, program), wanted)


def faulty(program):
    """Batches that no step can take: words or labels that are not there, numbers that are none."""
    x, y = program.batch(*program.sizes[0])
    if program.dtype == "i64":
        yield np.where(x == x[-1, -1], VOCABULARY, x), y
    else:
        yield np.full_like(x, np.nan), y
    if program.of_classes:
        yield x, np.where(y == y[-1], CLASSES, y)


def check_epoch(program):
    """An epoch is its calls one by one."""
    program = replace(program, shape=tuple(4 if extent == "t" else extent for extent in program.shape))
    samples = data.TensorDataset(*program.batch(19, 4, 1))
    loader, again = (data.DataLoader(samples, batch_size=5, shuffle=True, seed=3) for _ in range(2))
    parts = compiled(program)
    means, states = [parts.step.epoch(loader).loss for _ in range(3)], parts.step.state_dict()
    parts, singles = compiled(program), []
    for _ in range(3):
        calls = [(len(x), parts.step(x, y).loss) for x, y in again]
        singles.append(sum(count * loss for count, loss in calls) / 19)
    same_bits(([], states), ([], parts.step.state_dict()))
    np.testing.assert_allclose(means, singles, rtol=1e-6)


def check_resume(program):
    """Written to a file after two calls and read by a program that starts anew."""
    wanted = plain(program)
    parts = compiled(program)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        for number, size in enumerate(program.sizes[:2]):
            parts.step(*program.batch(*size, number))
            parts.schedule.step()
        gx.save(parts.step.state_dict(), path)
        optimizer, schedule = parts.optimizer.state_dict(), parts.schedule.state_dict()
        parts = compiled(program)
        parts.step(*program.batch(*program.sizes[2], 9))
        parts.optimizer.load_state_dict(optimizer)
        parts.step.load_state_dict(gx.load(path))
        parts.schedule.load_state_dict(schedule)
        found = trained(parts, program, first=2)
    same_bits(found, (wanted[0][2:], wanted[1]))


def check_max_bytes(program):
    """With less memory to work in, the same bits; in slices of the batch the same numbers but for rounding."""
    wanted, most = plain(program), compiled(program).step.artifact.description.work_bytes
    for limit in (most * 3 // 4, most // 2):
        try:
            parts = compiled(program, max_bytes=limit)
        except gx.ArgumentError as error:
            assert "max_bytes is" in error.message
            continue
        described = parts.step.artifact.description
        assert described.work_bytes <= limit
        found = trained(parts, program)
        if not described.rows:
            same_bits(found, wanted, f"max_bytes={limit}")
        for name, array in wanted[1].items():
            close(found[1][name], array, f"max_bytes={limit}: {name}", 2e-3)
        with gx.debug(nan=None, check="reference"):
            parts.step(*program.batch(*program.sizes[0]))
        assert "</svg>" in parts.step.to_svg(level="kernels")


def check_step(program):
    """The same written as the body of a loop, with a probe of the output."""
    if "accumulate" in program.settings:
        return
    parts, norm = program.ours(), program.settings.get("max_grad_norm")

    def body(x, y):
        output = gx.probe(parts.net(x), "output")
        loss = parts.loss(output, y)
        parts.optimizer.zero_grad()
        loss.backward()
        if norm is not None:
            gx.nn.utils.clip_grad_norm_(parts.net.parameters(), norm)
        parts.optimizer.step()
        return loss

    body.__annotations__ = program.types
    parts.step = gx.step(body)
    same_bits(trained(parts, program), plain(program))
    assert parts.step.probes["output"].shape == (program.sizes[-1][0], CLASSES)


def check_export(program):
    """A library that knows nothing of Python, called through its loader, gives the same bits."""
    parts = compiled(program)
    predict = gx.predict_step(parts.net, x=program.types["x"])
    with tempfile.TemporaryDirectory() as folder:
        name = f"model_{program.seed}"
        made = gx.export({"train": parts.step, "predict": predict}, Path(folder) / name)
        spec = importlib.util.spec_from_file_location(name, made.folder / f"{made.library.name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.Model(program.seed)
        same_bits(([], model.state_dict()), ([], parts.step.state_dict()), "initial")
        for number, size in enumerate(program.sizes):
            x, y = program.batch(*size, number)
            np.testing.assert_array_equal(predict(x), model.predict(x))
            model.train.set(**{each: scalar.number for each, scalar in parts.step.scalars.items()})
            wanted, found = parts.step(x, y), model.train(x, y)
            np.testing.assert_array_equal(found.loss, wanted.loss)
            parts.schedule.step()
        same_bits(([], model.state_dict()), ([], parts.step.state_dict()))


def check_torch(program):
    """Outputs, gradients and four updates of PyTorch with the same weights, where nothing is drawn at random."""
    torch = pytest.importorskip("torch")
    if program.drops:
        return
    ours = program.ours()
    parts = program.parts(torch, torch.nn, torch.nn.functional, torch.optim)
    net = parts.Net()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in ours.net.state_dict().items()})
    ours.net.load_state_dict(net.state_dict())
    optimizer = parts.optimizer([*net.parameters()])
    schedule = parts.schedule(optimizer)
    predict = gx.predict_step(ours.net, x=program.types["x"])
    slopes = gx.gradient_step(ours.net, ours.loss, **program.types)
    sizes = [size for size in program.sizes if size[0] > 1 or "BatchNorm" not in program.text]
    x, y = program.batch(*sizes[0])
    net.eval()
    close(predict(x), net(torch.from_numpy(x)).detach(), "output")
    net.train()
    known = slopes.state_dict()
    parts.loss(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    zeros = (torch.zeros_like(each) if each.grad is None else each.grad for each in net.parameters())
    close(slopes(x, y).gradients, torch.cat([each.reshape(-1) for each in zeros]), "gradients", 1e-3)
    slopes.load_state_dict(known)
    net.load_state_dict({name: torch.from_numpy(array) for name, array in ours.net.state_dict().items()})
    step = gx.train_step(ours.net, ours.loss, ours.optimizer, **program.types, **program.settings)
    every, norm = program.settings.get("accumulate", 1), program.settings.get("max_grad_norm")
    optimizer.zero_grad()
    for number, size in enumerate(sizes):
        x, y = program.batch(*size, number)
        loss = parts.loss(net(torch.from_numpy(x)), torch.from_numpy(y))
        (loss / every).backward()
        close(step(x, y).loss, loss.detach(), f"loss of call {number}", 1e-3)
        if number % every == every - 1:
            if norm is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), norm)
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()
        ours.schedule.step()
    for name, tensor in net.state_dict().items():
        close(ours.net.state_dict()[name], tensor, name, 2e-3)


def check_emulated(program):
    """The kernels for GPUs, on the CPU."""
    parts = compiled(program)
    step = parts.step
    emulator = emulator_of(step)
    if emulator is None:
        return
    for number, size in enumerate(program.sizes[:2]):
        given, sizes = step.fit(program.batch(*size, number))
        extents = dict(zip(step.runner.dims, sizes, strict=True))
        status, results, states = emulated(step, emulator, [array.copy() for array in given], extents)
        assert status == 0
        found = step(*given)
        check_close("loss", results["loss"], found.loss)
        for name, parameter in step.parameters.items():
            check_close(name, states[name], parameter.storage.array)


def check_looks(program):
    """Every way to look at a step works, names it knows can be explained, graphs parse back, and nothing is changed."""
    wanted, parts = plain(program), compiled(program)
    step, batch = parts.step, program.batch(*program.sizes[0])
    for level in ("trace", "graph", "program", "kernels", "certificate"):
        assert step.text(level), level
    for name, graph in step.stages.items():
        assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph), name
    for first, last in [*pairwise([*step.stages, "fuse"]), ("trace", "fuse")]:
        found = step.diff(first, last)
        assert str(found), (first, last)
    assert "</html>" in found.to_html()
    assert step.summary() and step.source() and step.explain() and repr(step)
    about = About(step)
    names = [*step.parameters, *step.scalars, "x", "y", *(name for name, _ in step.runner.results), *about.by_name]
    for name in [*names, *about.numbers, *(f"grad of {each}" for each in about.gradients)]:
        assert [*about.tell(name)], name
    assert step.profile(*batch, repeat=2, threads=1)
    ways = [{}, {"color": "bytes"}, {"color": "operations"}, {"color": "time"}, {"fold": True}, {"fold": False}]
    for place, level in enumerate(("layers", "graph", "kernels")):
        assert step.to_dot(level=level).startswith("digraph")
        how = ways[(program.seed + place) % len(ways)]
        assert "</svg>" in step.to_svg(level=level, **how), (level, how)
    assert "</html>" in step.to_html()
    gx.to_networkx(step)
    for rows in (1, 8):
        assert str(step.certificate.at(**{dim.name: min(rows, dim.max) for dim in step.runner.dims}))
    same_bits(trained(parts, program), wanted)


CHECKS = {
    "reference": check_reference,
    "threads": check_threads,
    "debug": check_debug,
    "faults": check_faults,
    "epoch": check_epoch,
    "resume": check_resume,
    "max_bytes": check_max_bytes,
    "step": check_step,
    "torch": check_torch,
    "emulated": check_emulated,
    "looks": check_looks,
    "export": check_export,
}
COSTLY = ("emulated", "looks", "export")


@pytest.mark.parametrize("name", CHECKS)
def test_random_models(name):
    for seed in HEAVY if name in COSTLY else LIGHT:
        CHECKS[name](random_program(seed))


def main(first, last, *chosen):
    """Try the programs of some seeds and print what differs, with the seconds that each check took in all."""
    spent = dict.fromkeys(chosen or CHECKS, 0.0)
    for seed in range(int(first), int(last)):
        for name in spent:
            start = time.process_time()
            try:
                CHECKS[name](random_program(seed))
            except Exception as error:
                print(f"{seed} {name}:", *traceback.format_exception(error)[-4:], flush=True)
            spent[name] += time.process_time() - start
    print({name: round(seconds, 1) for name, seconds in spent.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
