"""Layers as a ladder, ops in boxes, colours by a quantity, the page's data, PNG."""

from __future__ import annotations

import html
import json
import re
import shutil
import sys
from functools import cache, partial
from xml.etree import ElementTree

import pytest
from pictured import KEPT, LEVELS, STEPS, chain, looping, transformer
from test_dot import Picture

import graphc as gx
from graphc import nn, optim
from graphc.ir.dot.cards import flow
from graphc.ir.dot.style import value_names
from graphc.ir.ops import Roles
from graphc.picture.heat import operations
from graphc.picture.layers import layers_of
from graphc.picture.nesting import everything, is_inlined, nest

SVG = "{http://www.w3.org/2000/svg}"
every_step = pytest.mark.parametrize("name", STEPS)


@cache
def built(name):
    return STEPS[name]()


@cache
def four_blocks():
    return transformer(4)


def graph_of(name):
    return built(name).artifact.program.graph


@cache
def drawn(name, level, **options):
    return drawn_as(built(name), level, **options)


def drawn_as(step, level, **options):
    return ElementTree.fromstring(step.to_svg(level=level, **options))


def cards(root, kind):
    """Texts of each card whose key starts with the kind, by the key."""
    groups = (group for group in root.iter(f"{SVG}g") if group.get("data-key", "").startswith(f"{kind} "))
    return {group.get("data-key"): [text.text for text in group.iter(f"{SVG}text")] for group in groups}


def box_of(root, key):
    group = next(group for group in root.iter(f"{SVG}g") if group.get("data-key") == key)
    rect = next(rect for rect in group.iter(f"{SVG}rect") if rect.get("class") == "card")
    return {side: float(rect.get(side)) for side in ("x", "y", "width", "height")}


def key_with(root, title):
    return next(key for key, texts in cards(root, "layer").items() if texts[0] == title)


# -- layers


@every_step
def test_every_op_that_is_not_a_constant_belongs_to_one_layer(name):
    graph = graph_of(name)
    layers = layers_of(graph, {}).cards
    owned = [value for layer in layers for value in layer.values]
    assert len(owned) == len(set(owned))
    fed = set(graph.inputs)
    for value in graph.values():
        if value.op.kind != "source" and not fed.isdisjoint(value.operands):
            fed.add(value)
            assert value in owned
    assert [output for layer in layers for output in (*layer.updates, *layer.outputs)]
    assert {output.name for layer in layers for output in layer.updates} == {
        output.name for output in graph.of_kind("update")
    }


@every_step
def test_layers_can_run_in_their_order(name):
    picture = layers_of(graph_of(name), {})
    for wire in picture.wires:
        assert not isinstance(wire.source, int) or wire.source < wire.target


def test_ladder_of_lenet():
    """A card a module in each pass, the gradient of each beside it, run down and up, with parameters and updates."""
    root = drawn("lenet", "layers")
    titles = ["Conv2d 0", "Tanh 1", "MaxPool2d 2", "Conv2d 3", "Tanh 4", "MaxPool2d 5", "Flatten 6"]
    titles += ["Linear 7", "Tanh 8", "Linear 9", "Tanh 10", "Linear 11", "loss · accuracy"]
    forward = [box_of(root, key_with(root, title)) for title in titles]
    backward = [box_of(root, key_with(root, f"∂ {title}")) for title in titles]
    assert [box["y"] for box in forward] == sorted(box["y"] for box in forward)
    assert len({box["x"] for box in forward}) == len({box["x"] for box in backward}) == 1
    assert [box["y"] for box in forward] == [box["y"] for box in backward]
    assert backward[0]["x"] > forward[0]["x"] + forward[0]["width"]
    shown = cards(root, "layer")
    assert "▪ 7.weight" in shown[key_with(root, "Linear 7")] and "120×400" in shown[key_with(root, "Linear 7")]
    assert "⟳ 7.weight + exp_avg, exp_avg_sq" in shown[key_with(root, "∂ Linear 7")]
    assert "makes batch×120 f32" in shown[key_with(root, "Linear 7")] and "30 KiB" in shown[key_with(root, "Linear 7")]
    assert "◆ loss" in shown[key_with(root, "loss · accuracy")]
    assert "⟳ steps" in shown[key_with(root, "⟳ shared by all updates")]


def test_repeated_blocks_are_drawn_once():
    step = four_blocks()
    folded = ElementTree.fromstring(step.to_svg())
    whole = ElementTree.fromstring(step.to_svg(fold=False))
    texts = [text.text for text in folded.iter(f"{SVG}text")]
    assert "×4" in texts and "blocks.0 … blocks.3" in texts
    titles = [shown[0] for shown in cards(folded, "layer").values()]
    assert titles.count("blocks.0.norm1") == titles.count("∂ blocks.0.norm1") == 1
    assert titles.count("blocks.0.self_attn") == titles.count("∂ blocks.0.self_attn") == 1
    assert not any("blocks.1" in title for title in titles)
    unfolded = [shown[0] for shown in cards(whole, "layer").values()]
    assert all(f"{mark}blocks.{block}.norm1" in unfolded for mark in ("", "∂ ") for block in range(4))
    assert "×4" not in [text.text for text in whole.iter(f"{SVG}text")]


def test_short_models_are_shown_whole_and_can_be_folded():
    net = nn.Sequential(*[layer for _ in range(5) for layer in (nn.Linear(8, 8), nn.Tanh())])
    step = gx.predict_step(net, x=gx.f32["batch", 8])
    assert len(cards(ElementTree.fromstring(step.to_svg()), "layer")) == 10
    folded = ElementTree.fromstring(step.to_svg(fold=True))
    assert len(cards(folded, "layer")) == 2 and "×5" in [text.text for text in folded.iter(f"{SVG}text")]


def test_styles_have_forms_of_their_own():
    root = drawn("mlp", "layers")
    forms = {}
    for group in root.iter(f"{SVG}g"):
        if group.get("data-key") is not None:
            card = next(rect for rect in group.iter(f"{SVG}rect") if rect.get("class") == "card")
            cut = any(path.get("d", "").endswith("Z") for path in group.iter(f"{SVG}path"))
            title = next(group.iter(f"{SVG}text")).text
            forms[title] = (cut, card.get("rx"), card.get("stroke-width"))
    assert forms["∂ Linear 1"][0] and not forms["Linear 1"][0]
    assert len({forms[title] for title in ("x", "Linear 1", "∂ Linear 1", "⟳ shared by all updates")}) == 4


def test_layers_as_dot():
    picture = Picture(built("lenet").to_dot(level="layers"))
    labels = {items["label"].split("\n")[0] for items in picture.nodes.values() if "label" in items}
    assert any(label.startswith("Conv2d 0") for label in labels) and any("∂ Linear 7" in label for label in labels)
    assert {end for source, target, _ in picture.edges for end in (source, target)} <= picture.nodes.keys()
    upward = [(source, target) for source, target, items in picture.edges if items.get("dir") == "back"]
    assert upward and all(items.get("arrowtail") == "empty" for *_, items in picture.edges if "dir" in items)
    assert built("lenet").to_dot(level="layers") == built("lenet").to_dot(level="layers")


# -- kernels


def test_repeated_kernels_are_drawn_once():
    step = four_blocks()
    whole = drawn_as(step, "kernels", fold=False)
    assert len(cards(whole, "kernel")) == step.artifact.description.kernels
    folded = drawn_as(step, "kernels")
    texts = [text.text for text in folded.iter(f"{SVG}text")]
    assert "×3" in texts and "blocks.0 … blocks.2" in texts, "the last one is joined to what follows"
    titles = [shown[0] for shown in cards(folded, "kernel").values()]
    assert titles.count("blocks.0.self_attn.out_proj") == titles.count("blocks.3.self_attn.out_proj") == 1
    assert sum("∂ blocks.0.linear1" in title for title in titles) >= 1
    assert not any(f"blocks.{block}.linear1" in title for block in (1, 2) for title in titles)
    assert len(titles) < 0.7 * step.artifact.description.kernels


def test_a_number_that_all_kernels_read_has_no_lines():
    root = drawn("lenet", "kernels")
    (count,) = [texts for texts in cards(root, "kernel").values() if "⟳ steps" in texts]
    readers = next(int(found[1]) for text in count if (found := re.fullmatch(r"read by (\d+) kernels", text)))
    program = built("lenet").artifact.program
    steps = next(
        nest for nest in program.apart if any(each.value.attrs.get("name") == "steps" for each in nest.written())
    )
    own = {buffer for buffer in steps.written() if buffer.kind == "value"}
    assert readers == sum(not own.isdisjoint(nest.read()) for nest in program.apart) > 6
    tips = [title.text for title in root.iter(f"{SVG}title")]
    assert not any(tip.startswith(f"{name} add: i64[]") for tip in tips for name in value_names(program.graph).values())


def test_kernels_stand_in_the_part_of_what_they_leave():
    """What computes forward values again for gradients is of the way back; a loop that keeps values for it is not."""
    parts = {card.nest.name: card.part for card in flow(built("mlp").artifact.program).cards}
    assert parts["max_sub_to_less_less_equal"] == parts["dot_add_relu_less"] == "forward"
    assert parts["where_neg_to_add_sub"] == "backward"
    loops = [card for card in flow(built("gru").artifact.program).cards if card.nest.repetition is not None]
    assert [loop.part for loop in loops] == ["forward", "backward"]


def test_kernels_of_a_loop_are_named():
    shown = cards(drawn("gru", "kernels"), "kernel").values()
    loops = [texts for texts in shown if any(text.startswith("×64") for text in texts)]
    assert len(loops) == 2 and all("· dot_add" in texts for texts in loops)
    assert any("×64, last first, 2 kernels a step" in texts for texts in loops)


# -- every op


@every_step
def test_every_op_is_drawn_once_unless_blocks_are_folded(name):
    graph, root = graph_of(name), drawn(name, "graph", fold=False)
    names = value_names(graph)
    expected = [f"value {names[value]}" for value in graph.values() if not is_inlined(value)]
    drawn_ops = [item for box in nest(graph, fold=False) for item in everything(box)]
    assert len([item for item in drawn_ops if item in names]) == len(
        [
            value
            for value in graph.values()
            if not is_inlined(value) and value.attrs.get("role") not in ("state", "scalar")
        ]
    )
    assert set(expected) <= set(cards(root, "value"))


def test_ops_stand_in_the_boxes_of_their_modules():
    root = drawn("mlp", "graph")
    box = next(group for group in root.iter(f"{SVG}g") if group.get("data-key") == "module forward 1")
    inside = [text.text for text in box.iter(f"{SVG}text")]
    assert "1 Linear" in inside and "dot" in inside and "▪ 1.weight" in inside and "batch×256 f32" in inside
    titles = [title.text for title in box.iter(f"{SVG}title")]
    assert any(
        re.search(r"%\d+ = dot\(%\d+, %\d+\): f32\[batch,256\], 256 KiB\n\w+\.py:\d+ ", title) for title in titles
    )


def test_updates_alike_are_drawn_once():
    titles = [text.text for text in drawn("lenet", "graph").iter(f"{SVG}text")]
    assert any(title.startswith("⟳ ") and "×10" in title for title in titles)


def test_a_graph_of_three_thousand_ops_is_drawn():
    step = chain()
    values = [value for value in step.artifact.program.graph.values() if value.op.kind != "source"]
    assert len(values) > 3000
    root = ElementTree.fromstring(step.to_svg(level="graph", fold=False))
    assert len(cards(root, "value")) > 3000


# -- loops


@pytest.mark.parametrize("make", [looping, STEPS["gru"]], ids=["scan and cond", "gru"])
def test_loops_are_opened(make):
    """Every op of every body once, what goes in and out at its edges, states on both sides."""
    step = make()
    graph, root = step.artifact.program.graph, ElementTree.fromstring(step.to_svg(level="graph", fold=False))
    names = value_names(graph)
    shown = cards(root, "value")
    for loop in (value for value in graph.values() if value.op.kind == "loop"):
        body, roles = loop.attrs["body"].graph, Roles(loop)
        inside = {value: f"value {names[loop]}/{name}" for value, name in value_names(body).items()}
        expected = [key for value, key in inside.items() if not is_inlined(value) and value not in body.inputs]
        assert expected and set(expected) <= set(shown)
        box = next(group for group in root.iter(f"{SVG}g") if group.get("data-key") == f"value {names[loop]}")
        texts = [text.text for text in box.iter(f"{SVG}text")]
        assert re.match(rf"(∂ )?{names[loop]} loop (×\d+|at most once)", texts[0])
        read = set(body.values())
        for state, _ in roles.carried:
            name = state.attrs["name"]
            assert f"⟳ {name}, carried on" in texts
            assert any(text.startswith(f"▪ {name}, first ") for text in texts) == (state in read)
        for value, outside in roles.slices:
            assert f"in  {value.attrs['name']} = {names[outside]}[step]" in texts
        assert len([text for text in texts if text.startswith("out  ")]) >= len(body.of_kind("result"))


def test_a_step_in_slices_has_its_parts_and_modules_inside_of_the_loop():
    net = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4))
    batch = gx.dim("batch", max=2048)
    types = {"x": gx.f32[batch, 16], "y": gx.f32[batch, 4]}
    make = partial(gx.train_step, net, nn.MSELoss(), optim.SGD(net.parameters(), lr=0.1), **types)
    step = make(max_bytes=make().artifact.description.work_bytes // 3)
    root = ElementTree.fromstring(step.to_svg(level="graph"))
    titles = [text.text for text in root.iter(f"{SVG}text")]
    assert any(
        re.search(rf"loop over batch, {step.artifact.description.rows} rows at a time", title) for title in titles
    )
    assert "in  x = x[rows]" in titles
    assert titles.count("∂ backward") == 3 and titles.count("0 Linear") >= 1, "the legend's, the step's and the loop's"


# -- colours


def test_colours_by_a_quantity():
    root = drawn("mlp", "kernels", color="operations")
    fills = {}
    for group in root.iter(f"{SVG}g"):
        key = group.get("data-key") or ""
        if key.startswith("kernel"):
            shape = [each for each in group if each.get("stroke-width") in ("1.4", "3")][-1]
            fills[key] = int(shape.get("fill")[5:], 16)  # blue: the less the hotter
    hottest = min(fills, key=fills.get)
    assert "dot" in next(title for title in built("mlp").artifact.program.apart[int(hottest[7:])].name.split("_"))
    tips = [title.text for title in root.iter(f"{SVG}title")]
    assert any(re.search(r"[\d.]+M operations, [\d.]+% of all", tip) for tip in tips)
    assert any(text.text == "operations:  0" for text in root.iter(f"{SVG}text"))


@pytest.mark.parametrize("level", ["layers", "graph", "kernels"])
def test_colours_by_seconds_that_were_measured(level):
    root = ElementTree.fromstring(built("mlp").to_svg(level=level, color={0: 3e-3, 1: 1e-3}))
    tips = "\n".join(title.text for title in root.iter(f"{SVG}title"))
    shares = [float(share) for share in re.findall(r"([\d.]+)% of all", tips)]
    assert "ms, " in tips and sum(shares) > 99
    if level == "kernels":
        assert "3 ms, 75.0% of all" in tips and "1 ms, 25.0% of all" in tips


def test_operations_of_a_product():
    products = [value for value in graph_of("adam").values() if value.op.name == "dot"]
    assert {operations(value) for value in products} == {2 * 1024 * 64 * 32}


# -- page and PNG


@every_step
def test_the_page_knows_every_card(name):
    text = built(name).to_html()
    details = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])
    keys = set(re.findall(r'data-key="([^"]*)"', text.partition("<script")[0]))
    assert {key for key in keys if key.startswith("kernel")} == {f"kernel {n}" for n in range(len(details["kernels"]))}
    for key in keys:
        kind, _, rest = key.partition(" ")
        assert kind in ("kernel", "layer", "module", "value", "data")
        assert kind != "layer" or key in details["layers"]
        assert kind not in ("value", "data") or rest in details["values"]
    for kernel in details["kernels"]:
        assert kernel["sources"] and all(each in details["sources"] for each in kernel["sources"])
    assert all(names and set(names) <= details["values"].keys() for names in details["layers"].values())
    computed = [value for value in details["values"].values() if value["kernels"]]
    bodies = [value for name, value in details["values"].items() if "/" in name]
    assert bool(bodies) == (name == "gru") and all(value["kernels"] for value in bodies)
    assert computed and all(value["lines"] for value in computed if "dot(" in value["text"])


def test_names_cannot_break_out_of_the_page():
    hostile = "</script><b>&amp;"
    w = gx.parameter(hostile, [1.0, 2.0])
    x = gx.input("x", gx.f32[2])
    text = gx.function([x], (x * w).sum()).to_html()
    assert text.count("</script>") == 2 and "<b>" not in text


def test_png():
    pytest.importorskip("resvg_py")
    step = built("mlp")
    small, large = step.to_png(scale=1), step.to_png(scale=2)
    assert small.startswith(b"\x89PNG\r\n\x1a\n")
    width, twice = (int.from_bytes(picture[16:20], "big") for picture in (small, large))
    assert abs(twice - 2 * width) <= 1 and width == round(float(ElementTree.fromstring(step.to_svg()).get("width")))


def test_what_cannot_be_written_is_said(tmp_path, monkeypatch):
    step, path = built("mlp"), tmp_path / "mlp.svg"
    for write in (step.to_dot, step.to_svg, step.to_html, step.diff("trace", "graph").to_html):
        with pytest.raises(gx.ArgumentError, match=r"cannot write .*none.mlp: No such file or directory"):
            write(tmp_path / "none" / "mlp")
    before = step.to_svg(path)

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(gx.ArgumentError, match=r"cannot write .*mlp.svg: No space left on device"):
        step.to_svg(path, level="kernels")
    assert path.read_text() == before and [*tmp_path.iterdir()] == [path]


def test_png_is_written(tmp_path):
    pytest.importorskip("resvg_py")
    picture = built("mlp").to_png(tmp_path / "step.png", level="graph", scale=0.2)
    assert (tmp_path / "step.png").read_bytes() == picture


def test_png_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(gx.ArgumentError, match=r"needs the package resvg-py(.|\n)*graphc\[viz\]"):
        built("mlp").to_png()


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
@pytest.mark.parametrize("level", ["layers", "graph", "kernels"])
def test_graphviz_draws_what_dot_says(level, tmp_path):
    text = built("lenet").to_svg(tmp_path / "step.svg", level=level, engine="graphviz")
    assert (tmp_path / "step.svg").read_text() == text
    shown = "".join(ElementTree.fromstring(text).itertext())
    assert ("Conv2d 3" if level == "layers" else "dot") in shown and "7.weight" in shown


def test_graphviz_where_there_is_none(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(gx.ArgumentError, match="needs the program dot, which is not installed"):
        built("mlp").to_svg(engine="graphviz")


# -- the documentation


@pytest.mark.parametrize("name", ["mlp", "lenet", "gru", "adam"])
def test_kept_pictures_show_the_layers_there_are(name):
    kept = ElementTree.parse(KEPT / f"{name}_layers.svg").getroot()
    titles = [[texts[0] for texts in cards(root, "layer").values()] for root in (kept, drawn(name, "layers"))]
    assert titles[0] == titles[1], "python tests/pictured.py draws them again"


def test_pages_show_all_pictures_that_are_kept():
    pages = {path.name: path.read_text(encoding="utf-8") for path in KEPT.parent.glob("*.md")}
    named = {name: set(re.findall(r"pictures/(\w+\.svg)", text)) for name, text in pages.items()}
    assert set().union(*named.values()) == {path.name for path in KEPT.iterdir()}
    assert {f"{name}_{level}.svg" for name in STEPS for level in LEVELS} <= named["pictures.md"]


def test_a_notebook_shows_pictures():
    step = built("mlp")
    drawing, page = step.to_svg(level="graph"), step.to_html()
    assert drawing._repr_svg_() == drawing and type(drawing._repr_svg_()) is str
    found = re.fullmatch(r'<iframe srcdoc="([^"]*)" style="[^"]*"></iframe>', page._repr_html_())
    assert html.unescape(found[1]) == page
