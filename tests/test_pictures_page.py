"""Pictures in a real browser: nothing on anything else, nothing cut off; moving about, searching and clicking work."""

from __future__ import annotations

import json

import pytest
from browser import Browser, needs_chromium
from pictured import FAULTS, LEVELS, STEPS, chain, looping, transformer

pytestmark = needs_chromium
PAGES = {**STEPS, "looping": looping, "folded": lambda: transformer(4)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    with Browser(folder) as opened:
        yield opened


def open_page(browser, name):
    page = browser.folder / f"{name}.html"
    if not page.exists():
        PAGES[name]().to_html(page)
    browser.open(page.name, until="document.body.dataset.state == 'ready'")


def view_box(browser):
    return [float(each) for each in browser.evaluate("level.svg.getAttribute('viewBox')").split()]


def mouse(browser, kind, x, y, **more):
    browser.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


def place_of(browser, key):
    """The middle of a card on the screen."""
    found = f"""level.svg.querySelector('[data-key="{key}"] > rect.card').getBoundingClientRect()"""
    return browser.evaluate(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({found})")


def click(browser, x, y):
    for kind in ("mousePressed", "mouseReleased"):
        mouse(browser, kind, x, y, button="left", buttons=1, clickCount=1)


def shown(browser, part):
    return browser.evaluate(f"document.querySelector('#{part}').innerText")


@pytest.mark.parametrize("name", PAGES)
def test_nothing_lies_on_anything_else_or_is_cut_off(browser, name):
    open_page(browser, name)
    for level in LEVELS:
        browser.evaluate(f"show('{level}'); natural()")  # where it is small, a browser rounds texts up
        assert browser.evaluate("level.svg.querySelectorAll('text').length") > 10
        assert browser.evaluate(FAULTS) == [], level
    assert browser.complaints == []


def test_faults_are_found(browser):
    open_page(browser, "adam")
    browser.evaluate("natural()")
    swap = "b.setAttribute('y', a.getAttribute('y')); b.setAttribute('x', a.getAttribute('x'))"
    moves = {
        "text on text": f"const [a, b] = level.svg.querySelectorAll('.layer text'); {swap};"
        " b.removeAttribute('text-anchor')",
        "out of its card": "level.svg.querySelector('.layer text').setAttribute('x', 0)",
        "cut off": "level.svg.querySelector('.layer text').setAttribute('y', -50)",
        "card on card": f"const [a, b] = level.svg.querySelectorAll('[data-key] > rect.card'); {swap}",
        "label on card": "const c = level.svg.querySelector('[data-key] > rect.card');"
        " const t = level.svg.querySelector('svg > text'); t.setAttribute('x', c.getAttribute('x'));"
        " t.setAttribute('y', Number(c.getAttribute('y')) + 12)",
    }
    for fault, move in moves.items():
        open_page(browser, "adam")
        browser.evaluate(f"natural(); {{ {move} }}")
        assert any(found.startswith(fault) for found in browser.evaluate(FAULTS)), fault


def test_a_click_shows_line_text_kernel_and_source(browser):
    open_page(browser, "lenet")
    click(browser, *place_of(browser, "layer 0"))
    assert "lenet.py:" in shown(browser, "yours") and "train_step(net, loss" in shown(browser, "yours")
    assert "= dot(" in shown(browser, "text") and "f32[batch,1,6,784]" in shown(browser, "text")
    assert "nest " in shown(browser, "kernel") and "452 KiB moved, 0 operations" in shown(browser, "kernel")
    assert "def " in shown(browser, "source")
    assert browser.evaluate("document.querySelector('.chosen').dataset.key") == "layer 0"
    browser.evaluate("document.querySelector('#kernel button').click()")
    assert browser.evaluate("level.name") == "kernels"
    assert browser.evaluate("document.querySelector('.chosen').dataset.key").startswith("kernel ")
    corner = "document.querySelector('#close').getBoundingClientRect()"
    click(browser, *browser.evaluate(f"(box => [box.x + 5, box.y + 5])({corner})"))
    assert browser.evaluate("getComputedStyle(document.querySelector('#details')).display") == "none"


def test_kernels_that_others_are_drawn_for_cannot_be_gone_to(browser):
    open_page(browser, "folded")
    card = "[...level.svg.querySelectorAll('.value')].find(each => each.textContent.includes('dot'))"
    browser.evaluate(f"show('graph'); choose({card})")
    assert browser.evaluate("document.querySelector('#kernel button').disabled") is False
    drawn = """document.querySelector(`[data-level="kernels"] [data-key="kernel ${number}"]`)"""
    hidden = f"data.kernels[data.kernels.findIndex((each, number) => !{drawn})].values[0]"
    browser.evaluate(f"(card => {{ card.dataset.key = `value ${{{hidden}}}`; choose(card); }})({card})")
    assert browser.evaluate("document.querySelector('#kernel button').disabled") is True


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_searched_for_is_marked_and_brought_into_view(browser, level):
    open_page(browser, "transformer")
    browser.evaluate(f"show('{level}'); document.querySelector('#search').focus()")
    browser.ask("Input.insertText", text="LINEAR1.Weight")
    hits = browser.evaluate("[...level.svg.querySelectorAll('.hit')].map(each => each.textContent.toLowerCase())")
    assert hits and all("linear1.weight" in hit for hit in hits)
    assert browser.evaluate("document.querySelector('#found').textContent") == f"{len(hits)} found"
    browser.ask("Input.dispatchKeyEvent", type="keyDown", key="Enter")
    assert browser.evaluate("document.querySelector('#found').textContent") == f"1 of {len(hits)}"
    place = "level.svg.querySelector('.chosen').getBoundingClientRect()"
    middle = browser.evaluate(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({place})")
    height = browser.evaluate("view.getBoundingClientRect().bottom")
    assert 0 < middle[0] < 1100 and 0 < middle[1] < height
    assert "linear1" in shown(browser, "text") or "dot" in shown(browser, "text") or "sub" in shown(browser, "text")


def test_a_click_into_a_loop_shows_the_line_of_its_body_and_the_kernel_of_the_loop(browser):
    open_page(browser, "looping")
    browser.evaluate("show('graph')")
    find = "[...level.svg.querySelectorAll('.value')].find(each => each.textContent.includes('tanh'))"
    browser.evaluate(f"choose({find})")
    assert "= tanh(" in shown(browser, "text") and "pictured.py" in shown(browser, "yours")
    assert "loop" in shown(browser, "kernel") and "def " in shown(browser, "source")
    browser.evaluate(
        "choose([...level.svg.querySelectorAll('.module')].find(each => each.dataset.key.startsWith('value')))"
    )
    assert "= loop(" in shown(browser, "text")


def test_wheel_and_drag_move_the_picture(browser):
    open_page(browser, "mlp")
    left, top, width, _ = view_box(browser)
    mouse(browser, "mouseWheel", 400, 400, deltaX=0, deltaY=-300)
    closer = view_box(browser)
    assert closer[2] < width * 0.8
    assert left + width * 400 / 1100 == pytest.approx(closer[0] + closer[2] * 400 / 1100, abs=1)  # what is below stays
    mouse(browser, "mousePressed", 400, 300, button="left", buttons=1, clickCount=1)
    mouse(browser, "mouseMoved", 500, 340, button="left", buttons=1)
    mouse(browser, "mouseReleased", 500, 340, button="left", buttons=0, clickCount=1)
    moved = view_box(browser)
    assert moved[0] == pytest.approx(closer[0] - 100 * closer[2] / 1100, abs=1) and moved[1] < closer[1]
    assert browser.evaluate("document.querySelectorAll('.chosen').length") == 0, "a drag is no click"
    browser.evaluate("fit()")
    assert view_box(browser)[2] == pytest.approx(width, abs=1)


def test_keys_zoom_and_close(browser):
    open_page(browser, "mlp")
    before = view_box(browser)[2]
    browser.ask("Input.dispatchKeyEvent", type="keyDown", key="+")
    assert view_box(browser)[2] == pytest.approx(before * 0.8, abs=1)
    browser.evaluate("choose(level.svg.querySelector('[data-key]'))")
    browser.ask("Input.dispatchKeyEvent", type="keyDown", key="Escape")
    assert browser.evaluate("document.querySelectorAll('.chosen').length") == 0


def test_the_page_needs_no_network(browser):
    open_page(browser, "gru")
    text = (browser.folder / "gru.html").read_text()
    assert text.replace("http://www.w3.org/2000/svg", "").count("http") == 0
    loaded = browser.evaluate("JSON.stringify(performance.getEntriesByType('resource').map(each => each.name))")
    assert json.loads(loaded) == []


def test_a_graph_of_three_thousand_ops_opens(browser):
    chain().to_html(browser.folder / "chain.html", fold=False)
    browser.open("chain.html", until="document.body.dataset.state == 'ready'")
    browser.evaluate("show('graph')")
    assert browser.evaluate("level.svg.querySelectorAll('.value').length") > 3000
    card = "level.svg.querySelector('.value text')"
    assert browser.evaluate(f"getComputedStyle({card}).display") == "none", "too small to read, too many to draw"
    browser.evaluate("natural()")
    assert browser.evaluate(f"getComputedStyle({card}).display") != "none"
    assert browser.evaluate(FAULTS) == []
    browser.evaluate("choose([...level.svg.querySelectorAll('.value')].find(each => each.textContent.includes('dot')))")
    assert "def " in shown(browser, "source")
