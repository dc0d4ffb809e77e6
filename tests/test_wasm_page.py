"""WebAssembly in Chromium: the page that export writes, and the bits of a module there."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from browser import Browser, needs_chromium
from exported_models import TRAIN, built, fuses, trained_in_process

import graphc as gx
from graphc import nn, optim
from graphc.datasets import SAMPLE, SAMPLES

pytestmark = needs_chromium
OVER = "['done', 'refused'].includes(document.body.dataset.state)"


def numbers_of(page):
    return dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page))


@fuses
def test_a_browser_trains_to_the_bits_of_this_process(tmp_path):
    step = built("mlp")
    made = gx.export({"step": step}, tmp_path / "mlp", ["wasm32-relaxed"])
    script = TRAIN.replace("process.argv[2]", '"./mlp.mjs"').replace("process.argv[3]", "1")
    page = script.replace("console.log(", "document.body.textContent = (")
    (made.folder / "wasm32-relaxed" / "bits.html").write_text(f'<body><script type="module">{page}</script>')
    with Browser(made.folder / "wasm32-relaxed") as browser:
        browser.open("bits.html", until="document.body.textContent.startsWith('[')")
        assert not browser.complaints
        found = browser.evaluate("document.body.textContent")
    trained_in_process(step)
    assert found.endswith(f'"{made.state_hash():x}"]')


def test_a_page_trains_on_the_sample(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    sgd = optim.SGD(net.parameters(), lr=0.1)
    batch = gx.dim("batch", max=64)
    x, y = gx.f32[batch, 28, 28], gx.i64[batch]
    step = gx.train_step(net, nn.CrossEntropyLoss(), sgd, x=x, y=y, metrics=["accuracy"])
    made = gx.export({"step": step}, tmp_path / "clothes", ["wasm32"])
    folder = made.folder / "wasm32"
    shutil.copy(SAMPLES / f"{SAMPLE.name}.npz", folder / "sample.npz")
    with Browser(folder) as browser:
        browser.open("clothes.html?run=400&seed=1&data=sample.npz", until=OVER)
        page = browser.html()
        assert not browser.complaints
        assert browser.picture().startswith(b"\x89PNG")
    assert 'data-state="done"' in page and "6,000 rows of sample.npz" in page
    told = numbers_of(page)
    assert told["step"] == "400"
    assert float(told["loss"]) < 1 and float(told["accuracy"]) > 0.7


@pytest.mark.parametrize(("name", "most"), [("regression", 0.05), ("lenet", 1.8), ("gru", 0.5)])
def test_a_page_trains_on_made_up_data(name, most, tmp_path):
    made = gx.export({"step": built(name)}, tmp_path / name, ["wasm32"])
    with Browser(made.folder / "wasm32") as browser:
        browser.open(f"{name}.html?run=300", until=OVER)
        page = browser.html()
        assert not browser.complaints
    assert 'data-state="done"' in page
    assert float(numbers_of(page)["loss"]) < most


def test_a_page_says_what_is_wrong(tmp_path):
    made = gx.export({"step": built("regression")}, tmp_path / "regression", ["wasm32"])
    folder = made.folder / "wasm32"
    np.savez(folder / "other.npz", x=np.zeros((3, 2), "f"))
    with Browser(folder) as browser:
        browser.open("regression.html?data=other.npz", until=OVER)
        assert "the file has no array y; there are x" in browser.html()
        (folder / "regression.wasm").unlink()
        browser.open("regression.html", until=OVER)
        assert "regression.wasm cannot be read: 404" in browser.html()
