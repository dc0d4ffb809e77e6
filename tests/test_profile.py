"""`step.profile`: the time of each kernel within the step, which changes nothing, and all that it is shown as."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import graphc as gx
from graphc import nn, optim
from graphc.backends import artifact, target
from graphc.backends.cache import default_cache
from graphc.backends.entry.timed import EVENTS
from graphc.backends.timing import Stopwatch, timed_artifact
from graphc.picture.views import seconds
from graphc.profile import measure
from graphc.profile.record import Seconds

BATCH = gx.dim("batch", max=64)


def classifier(width=32):
    gx.manual_seed(3)
    net = nn.Sequential(nn.Linear(40, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 10))
    adam = optim.Adam(net.parameters(), lr=0.01)
    types = {"x": gx.f32[BATCH, 40], "y": gx.i64[BATCH]}
    return net, gx.train_step(net, nn.CrossEntropyLoss(), adam, metrics=["accuracy"], **types)


def samples(rng, rows=64):
    return rng.normal(size=(rows, 40)).astype(np.float32), rng.integers(0, 10, rows)


@pytest.fixture(scope="module")
def taken():
    """A training step and a profile of it."""
    _, step = classifier()
    return step, step.profile(*samples(np.random.default_rng(1)), repeat=3, threads=1)


def looped(length=20, width=64):
    """A function with a loop: two kernels a step would be more than it needs."""
    x = gx.input("x", gx.f32["batch", width])
    w = gx.parameter("w", np.eye(width, dtype=np.float32))
    last, _ = gx.scan(lambda h, _: (gx.tanh(h @ w), None), x, None, length=length)
    return gx.function([x], (last * last).sum(), name="looped")


# -- what is measured


def test_every_kernel_has_a_row_with_its_part_and_lines(taken):
    step, profile = taken
    program = step.artifact.program
    assert [row.path for row in profile.rows] == [(number,) for number in range(len(program.nests))]
    assert [row.name for row in profile.rows] == [nest.name for nest in program.nests]
    assert {row.part for row in profile.rows} == {"forward", "backward", "update"}
    assert all(row.calls == 1 and row.bytes > 0 for row in profile.rows)
    assert all("test_profile.py" in row.lines[0] for row in profile.rows)
    assert all(row.seconds.low <= row.seconds.median <= row.seconds.high for row in profile.rows)
    assert {"0", "3"} <= {module for row in profile.rows for module in row.modules}
    assert sum(row.share for row in profile.rows) == pytest.approx(1)
    assert sum(profile.by_number.values()) == pytest.approx(profile.kernels)
    assert profile.sizes == {"batch": 64} and profile.threads == 1 and profile.repeat == 3
    assert 0 <= profile.reading < 1e-4
    costs = step.certificate.at(batch=64).kernels
    assert [(row.bytes, row.operations) for row in profile.rows] == [(cost.moved, cost.operations) for cost in costs]
    assert all(row.predicted > 0 for row in profile.rows)
    # A kernel that is timed takes no longer than the call that it is timed in; the median of sums is near that.
    assert profile.kernels < 2 * profile.marked.high


def test_a_slow_kernel_is_the_largest_row(rng):
    x = gx.input("x", gx.f32["batch", 256])
    slow, quick = x, (x[:, :4] + 1).sum()
    for _ in range(12):
        slow = gx.sin(slow) + gx.exp(-slow * slow)
    step = gx.function([x], {"slow": slow, "quick": quick})
    profile = step.profile(rng.normal(size=(1000, 256)).astype(np.float32), repeat=3)
    assert len(profile.rows) > 1
    assert "sin" in profile.by_time[0].name and profile.by_time[0].share > 0.9


def test_kernels_in_a_loop_are_counted_and_timed_one_by_one(rng):
    step = looped()
    step.threads = 1
    profile = step.profile(rng.normal(size=(32, 64)).astype(np.float32), repeat=2, threads=1)
    inside = [row for row in profile.rows if len(row.path) == 2]
    assert inside and all(row.calls == 20 for row in inside)
    (loop,) = {row.path[0] for row in inside}
    assert step.artifact.program.nests[loop].repetition is not None
    assert profile.by_number[loop] == pytest.approx(sum(r.seconds.median for r in profile.rows if r.path[0] == loop))
    # All steps of the loop cost what the certificate says of the loop, and are predicted as it does.
    whole, all_of_loop = step.certificate, [row for row in profile.rows if row.path[0] == loop]
    cost = whole.at(batch=32).kernels[loop]
    assert sum(row.operations for row in all_of_loop) == cost.operations
    assert sum(row.predicted for row in inside) == pytest.approx(whole.predicted_seconds(loop, batch=32))
    times = Counter(span.row.path for span in profile.spans if span.row is not None and span.thread == 0)
    assert all(times[row.path] == 20 for row in inside)


def test_a_loop_too_long_for_the_log_is_timed_all_the_same():
    length = EVENTS + 100
    profile = looped(length, 4).profile(np.ones((1, 4), np.float32), repeat=1, threads=1)
    (row,) = [row for row in profile.rows if len(row.path) == 2 and row.calls == length][:1]
    assert row.seconds.median > 0
    assert profile.left_out > 0 and len(profile.spans) <= EVENTS
    assert "no room" in str(profile)


def test_a_recurrent_layer_runs_forward_then_backward(rng):
    layer = nn.GRU(8, 8, batch_first=True)
    types = {"x": gx.f32["batch", 5, 8], "y": gx.f32["batch", 5, 8]}
    net = Recurrent(layer)
    step = gx.train_step(net, nn.MSELoss(), optim.SGD(net.parameters(), lr=0.1), **types)
    x, y = rng.normal(size=(2, 3, 5, 8)).astype(np.float32)
    inside = [row for row in step.profile(x, y, repeat=1).rows if len(row.path) == 2]
    parts = {row.path[0]: row.part for row in inside}
    assert list(parts.values()) == ["forward", "backward"]


class Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


def test_slices_of_a_batch_are_a_loop(rng):
    def made(**options):
        gx.manual_seed(1)
        net, batch = nn.Sequential(nn.Linear(40, 256), nn.Tanh(), nn.Linear(256, 1)), gx.dim("batch", max=1000)
        types = {"x": gx.f32[batch, 40], "y": gx.f32[batch, 1]}
        return gx.train_step(net, nn.MSELoss(), optim.SGD(net.parameters(), lr=0.1), **types, **options)

    step = made(max_bytes=made().artifact.description.work_bytes // 4)
    some = step.artifact.description.rows
    assert 0 < some < 1000
    for rows in (1000, some):
        x, y = rng.normal(size=(rows, 40)).astype(np.float32), rng.normal(size=(rows, 1)).astype(np.float32)
        found = step.profile(x, y, repeat=1).rows
        assert {row.part for row in found} >= {"forward", "backward"}
        inside = [row for row in found if len(row.path) == 2]
        assert inside and all(row.calls == -(-rows // some) for row in inside)
        whole = step.certificate.at(batch=rows).cost
        assert (sum(row.operations for row in found), sum(row.bytes for row in found)) == (
            whole.operations,
            whole.moved,
        )


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_are_those_asked_for(threads, rng):
    profile = looped().profile(rng.normal(size=(32, 64)).astype(np.float32), repeat=2, threads=threads)
    assert profile.threads == threads
    assert {span.thread for span in profile.spans} == set(range(threads))
    waits = [span for span in profile.spans if span.name == "waiting for other threads"]
    assert bool(waits) or threads == 1
    assert ("waits for others" in str(profile)) == (threads > 1)


def test_threads_are_those_of_the_step_where_it_was_told(rng):
    step = looped()
    step.threads = 2
    assert step.profile(rng.normal(size=(32, 64)).astype(np.float32), repeat=1).threads == 2


def test_predict_and_plain_functions_have_profiles(rng):
    net = nn.Linear(40, 3)
    predict = gx.predict_step(net, x=gx.f32[BATCH, 40])
    assert predict.profile(samples(rng, 5)[0], repeat=1).sizes == {"batch": 5}
    constant = gx.function([], net.weight.sum())
    assert constant.profile(repeat=1).rows[0].lines


# -- what is not changed


def test_nothing_is_changed_by_a_profile(rng):
    x, y = samples(rng)
    states, records = [], []
    for profiled in (False, True):
        net, step = classifier()
        step(x, y)
        before = {name: array.copy() for name, array in step.state_dict().items()}
        if profiled:
            step.profile(x, y, repeat=2)
        after = step.state_dict()
        assert all(before[name].tobytes() == after[name].tobytes() for name in before)
        records.append(step(x, y))
        states.append({name: array.copy() for name, array in step.state_dict().items()})
    assert records[0] == records[1]
    assert all(states[0][name].tobytes() == states[1][name].tobytes() for name in states[0])


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_timed_computes_what_the_step_does(threads, rng):
    _, step = classifier(1024)
    step.write_scalars()
    arrays, sizes = step.fit(samples(rng))
    scalars = [scalar.number for scalar in step.scalars.values()]
    watch = Stopwatch(step.artifact, step.runner.storages, scalars, default_cache())
    left = []
    for runner in (watch.plain, watch.marked):
        assert watch.begin(runner, arrays, sizes, threads) == 0
        left.append([storage.here.tobytes() for storage in runner.storages])
    assert len(list(watch.logs())) == threads
    assert left[0] == left[1] != [storage.here.tobytes() for storage in step.runner.storages]
    wanted = step.runner.step(arrays, sizes)[1]
    assert watch.results == {watch.plain: wanted, watch.marked: wanted}
    assert left[0] == [storage.here.tobytes() for storage in step.runner.storages]


def test_only_what_calls_the_kernels_is_compiled(store, monkeypatch):
    _, step = classifier()
    made, compiled, build_unit = step.artifact.blueprint, [], target.build_unit
    monkeypatch.setattr(target, "build_unit", lambda text, host: compiled.append(text) or build_unit(text, host))
    artifact.coded(made, store, [0.0])
    assert len(compiled) > 5
    compiled.clear()
    timed_artifact(made, store)
    names = [re.search(r"^define [^@]*@(\w+)", text)[1] for text in compiled]
    assert sorted(names) == ["reading", "step"]


def test_a_check_that_fails_is_told_as_in_a_call(rng):
    _, step = classifier()
    x, y = samples(rng)
    y[3] = 10
    with pytest.raises(gx.LabelError, match="got 10 at index 3"):
        step.profile(x, y)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"repeat": 0}, "repeat is 0; it must be a whole number of at least 1"),
        ({"repeat": 2.5}, "repeat is 2.5"),
        ({"threads": "all"}, "threads is 'all'; it must be a whole number of at least 1"),
    ],
)
def test_wrong_settings_are_refused_on_the_line_of_the_user(settings, text, taken, rng):
    with pytest.raises(gx.ArgumentError, match=text) as caught:
        taken[0].profile(*samples(rng), **settings)
    assert caught.value.origin.file == __file__ and len(str(caught.value).splitlines()) <= 8


def test_wrong_arrays_are_refused_as_in_a_call(taken, rng):
    x, y = samples(rng)
    with pytest.raises(gx.TraceError, match="takes 2 arrays"):
        taken[0].profile(x)
    with pytest.raises(gx.ShapeError) as caught:
        taken[0].profile(x[:, 1:], y)
    assert caught.value.origin.file == __file__


# -- how it is shown


def test_the_table_is_sorted_by_time_and_fits_a_hundred_columns(taken):
    _, profile = taken
    lines = str(profile).splitlines()
    assert max(map(len, lines)) <= 100
    first = next(number for number, line in enumerate(lines) if line.lstrip().startswith("#"))
    shown = [line.split()[0] for line in lines[first + 1 : first + 1 + len(profile.rows)]]
    assert shown == [row.place for row in profile.by_time]
    assert "test_profile.py:" in lines[first + 1]
    assert "1 thread, median of 3, batch 64;" in lines[1]
    assert lines[1].endswith("; ∂ backward; ⟳ update")
    below = "\n".join(lines[first + 1 + len(profile.rows) :])
    assert all(text in below for text in ("of the plain step", "with the clock read", "predicted for the kernels"))
    assert "predicted" in lines[first].split()


def test_a_step_that_something_was_in_the_way_of_says_so(taken):
    _, profile = taken
    quiet, busy = (
        replace(profile, step=Seconds(1e-3, 1e-3, high), marked=Seconds(1e-3, 1e-3, 1e-3)) for high in (1.5e-3, 3e-3)
    )
    assert "other work was in the way" in str(busy) and "in the way" not in str(quiet)


def test_a_notebook_shows_a_table_with_bars(taken):
    _, profile = taken
    table = ElementTree.fromstring(profile._repr_html_().replace("<br>", "<br/>")).find("table")
    assert len(table.findall("tr")) == 1 + len(profile.rows)
    assert "linear-gradient" in profile._repr_html_()


def test_a_profile_is_fit_for_json(taken):
    _, profile = taken
    found = json.loads(json.dumps(profile.to_dict()))
    assert [row["kernel"] for row in found["rows"]] == [row.place for row in profile.rows]
    assert found["step"]["median"] == profile.step.median and found["sizes"] == {"batch": 64}


def test_a_profile_cannot_be_changed(taken):
    with pytest.raises(AttributeError):
        taken[1].repeat = 4


@pytest.mark.parametrize("threads", [1, 2])
def test_the_trace_follows_the_format(threads, tmp_path, rng):
    """Complete events have these keys; on one track they are inside of each other or apart; tracks have names."""
    profile = looped().profile(rng.normal(size=(32, 64)).astype(np.float32), repeat=1, threads=threads)
    text = profile.to_chrome_trace(tmp_path / "trace.json")
    assert (tmp_path / "trace.json").read_text() == text
    whole = json.loads(text)
    assert whole["displayTimeUnit"] in ("ms", "ns")
    events = whole["traceEvents"]
    assert {event["ph"] for event in events} == {"X", "M"}
    assert all(isinstance(event["pid"], int) and isinstance(event["tid"], int) for event in events)
    named = [event for event in events if event["ph"] == "M"]
    assert Counter(event["name"] for event in named) == {"process_name": 1, "thread_name": threads}
    assert all(isinstance(event["args"]["name"], str) for event in named)
    for thread in range(threads):
        track = [event for event in events if event["ph"] == "X" and event["tid"] == thread]
        assert track[0]["name"] == "looped"
        assert [event["ts"] for event in track] == sorted(event["ts"] for event in track)
        open_until: list[float] = []
        for event in track:
            begin, end = event["ts"], event["ts"] + event["dur"]
            assert 0 <= begin <= end
            while open_until and open_until[-1] <= begin + 1e-6:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + 1e-3
            open_until.append(end)
    kernels = [event for event in events if event.get("cat") in ("forward", "backward", "update")]
    assert all("test_profile.py:" in event["args"]["line"] for event in kernels)
    assert all(event["args"]["bytes"] >= 0 and event["args"]["operations"] >= 0 for event in kernels)


def test_pictures_are_coloured_by_time_after_a_profile(rng, tmp_path):
    _, step = classifier()
    with pytest.raises(gx.ArgumentError, match=r"step\.profile") as caught:
        step.to_svg(color="time")
    assert caught.value.origin.file == __file__
    profile = step.profile(*samples(rng), repeat=1)
    for level in ("layers", "graph", "kernels"):
        picture = step.to_svg(level=level, color="time")
        assert "time:" in picture and picture == profile.to_svg(tmp_path / "step.svg", level)
        assert (tmp_path / "step.svg").read_text() == picture
    assert profile.to_html() == step.to_html(color="time")


def test_time_of_kernels_is_shared_out_among_layers_and_ops(taken):
    step, profile = taken
    for level in ("layers", "graph", "kernels"):
        found = seconds(step.artifact.program, step.layers, level, profile.by_number)
        assert sum(found.values()) == pytest.approx(profile.kernels, rel=0.02), level


def test_bars_are_a_picture_of_all_rows(taken):
    _, profile = taken
    root = ElementTree.fromstring(profile.to_svg(level="bars"))
    space = "{http://www.w3.org/2000/svg}"
    drawn = [group for group in root.iter(f"{space}g") if group.get("class") == "bar"]
    assert len(drawn) == len(profile.rows)
    widths = [float(group.find(f"{space}rect").get("width")) for group in drawn]
    assert widths == sorted(widths, reverse=True)
    with pytest.raises(gx.ArgumentError, match="level is 'bar'"):
        profile.to_svg(level="bar")


def test_progress_is_shown_when_it_takes_long(taken, rng, monkeypatch, capsys):
    step, _ = taken
    step.profile(*samples(rng), repeat=1)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("GRAPHC_SHOW", "1")
    step.profile(*samples(rng), repeat=1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(measure, "PATIENCE", 0.0)
    step.profile(*samples(rng), repeat=2)
    assert capsys.readouterr().err.splitlines() == [f"profile of train_step: {done}/2" for done in (1, 2)]


# -- on a GPU, which is emulated: a launch takes a millisecond there, and an event a quarter of one


def on_gpu():
    gx.manual_seed(3)
    net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 10))
    sgd = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    return gx.train_step(net, nn.CrossEntropyLoss(), sgd, x=gx.f32[BATCH, 20], y=gx.i64[BATCH], device="cuda")


def test_launches_of_a_gpu_are_timed_by_events_in_a_replay(gpu, rng):
    step = on_gpu()
    x, y = rng.normal(size=(64, 20)).astype(np.float32), rng.integers(0, 10, 64)
    before = {name: array.copy() for name, array in step.state_dict().items()}
    profile = step.profile(x, y, repeat=2)
    assert all(before[name].tobytes() == array.tobytes() for name, array in step.state_dict().items())
    launches = [row for row in profile.rows if row.path]
    assert len(launches) == step.artifact.description.kernels
    assert all(row.seconds.median == pytest.approx(1e-3) and row.calls == 1 for row in launches)
    assert all("test_profile.py" in row.lines[0] and "blocks of" in row.over for row in launches)
    others = {row.name: row.seconds.median for row in profile.rows if not row.path}
    assert {"inputs sent", "results fetched"} <= set(others) and max(others.values()) == pytest.approx(0, abs=1e-9)
    assert sum(profile.by_number.values()) == pytest.approx(1e-3 * len(launches))
    assert profile.reading == pytest.approx(0.25e-3) and profile.device == "cuda"
    captured = gpu.calls[gpu.calls.index("cuEventRecordWithFlags") :]
    assert captured.count("cuEventRecordWithFlags") == 1 + len(profile.spans)  # that of the whole is none between two
    assert "a GPU" in str(profile) and max(map(len, str(profile).splitlines())) <= 100
    assert json.loads(profile.to_chrome_trace())["traceEvents"][1]["args"]["name"] == "stream"
    assert "time:" in step.to_svg(level="kernels", color="time") and profile.to_svg(level="bars")


def test_a_gpu_shares_out_its_threads_by_itself(gpu, rng):
    step = on_gpu()
    x, y = rng.normal(size=(64, 20)).astype(np.float32), rng.integers(0, 10, 64)
    with pytest.raises(gx.ArgumentError, match="None on a GPU"):
        step.profile(x, y, threads=2)
    gpu.room = gpu.used
    with pytest.raises(gx.DeviceError, match="to spare") as caught:
        step.profile(x, y)
    assert caught.value.origin.file == __file__


def test_loops_on_a_gpu_are_timed_launch_by_launch(gpu, rng):
    x = gx.input("x", gx.f32["batch", 8])
    w = gx.parameter("w", np.eye(8, dtype=np.float32))
    last, _ = gx.scan(lambda h, _: (gx.tanh(h @ w), None), x, None, length=5)
    step = gx.function([x], last.sum(), device="cuda")
    profile = step.profile(rng.normal(size=(4, 8)).astype(np.float32), repeat=1)
    assert {row.calls for row in profile.rows if row.path} == {1, 5}
