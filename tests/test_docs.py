"""The pages of the documentation: what is in them runs, and prints what they say."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from pydoc import locate

import page_program
import pytest
from page_program import PROCESSORS

import graphc
from graphc import init
from graphc.backends.target import host_tile

ROOT = Path(graphc.__file__).parents[1]
DOCS = ROOT / "graphc" / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
# Programs of several languages that work together, each page with a test of its own.
ELSEWHERE = {"train_from_c.md": "test_train_from_c.py", "train_in_the_browser.md": "test_wasm.py"}
HAS_PROGRAM = [
    page for page in PAGES if page.name not in ELSEWHERE and page_program.blocks(page.read_text(encoding="utf-8"))
]

NUMBER = r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
TIME = r" ?(?:s|ms|µs|ns)\b"
OBTAINED = r"\b(?:compiled|loaded)(?= \d+ kernels)"  # which of them depends on what was compiled before
PART = re.compile(rf"\.\.\.|{OBTAINED}|(?<![\w.]){NUMBER}(?:{TIME})?|\s+")


def shown(page: Path) -> str:
    return str(page.relative_to(ROOT))


def pattern(expected: str) -> tuple[str, list[str]]:
    """A regular expression with a group for every number that is compared, and these numbers."""
    made, numbers, last = "", [], 0
    for part in PART.finditer(expected):
        made += re.escape(expected[last : part.start()])
        last = part.end()
        if part[0] == "...":
            made += ".*?"
        elif part[0].isspace():
            made += r"\s+"
        elif part[0][0].isalpha():
            made += OBTAINED
        elif re.search(TIME, part[0]):
            made += NUMBER + TIME
        else:
            made += f"({NUMBER})"
            numbers.append(part[0])
    return made + re.escape(expected[last:]), numbers


def same(expected: str, printed: str) -> bool:
    """Equal but for `...`, blanks, measured times, and one part in fifty of a number that is not whole."""
    text, numbers = pattern(expected.strip())
    found = re.fullmatch(text, printed.strip(), re.DOTALL)
    return found is not None and all(near(*pair) for pair in zip(numbers, found.groups(), strict=True))


def near(expected: str, found: str) -> bool:
    if "." not in expected and "e" not in expected:
        return expected == found
    one, other = (float(number.replace(",", "")) for number in (expected, found))
    return abs(one - other) <= 0.02 * abs(one) + 1e-6


def is_compared(block: page_program.Block) -> bool:
    """What two runs print alike on this machine."""
    if block.printed is None or block.like == "measured":
        return False
    return PROCESSORS.get(block.like, host_tile()) == host_tile()


def updated(page: str, outputs: list[str]) -> str:
    """The page with what its blocks print now, where that is not what it says."""
    changes = list(zip(page_program.blocks(page), outputs, strict=True))
    for block, printed in reversed(changes):
        if block.printed is None:
            continue
        start, end = block.printed
        if start == end or (is_compared(block) and not same(page[start:end], printed)):
            kept = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
            page = f"{page[:start]}{kept}\n{page[end:]}"
    return page


@pytest.mark.parametrize("page", HAS_PROGRAM, ids=shown)
def test_blocks_run_and_print_what_the_page_says(page, tmp_path, request):
    outputs, text = page_program.outputs(page, tmp_path), page.read_text(encoding="utf-8")
    drawn = {page.parent / "pictures" / path.name: path.read_text() for path in (tmp_path / "pictures").iterdir()}
    if request.config.getoption("--update-golden"):
        page.write_text(updated(text, outputs), encoding="utf-8")
        for path, drawing in drawn.items():
            path.write_text(drawing, encoding="utf-8")
        return
    for block, printed in zip(page_program.blocks(text), outputs, strict=True):
        if is_compared(block):
            expected = text[slice(*block.printed)]
            assert same(expected, printed), f"{block.text}\nthe page says:\n{expected}\nit prints:\n{printed}"
    if host_tile() == PROCESSORS["avx512"]:
        assert all(path.read_text(encoding="utf-8") == drawing for path, drawing in drawn.items())


def test_outputs_are_compared():
    assert same("loss 0.501, 3 kernels in 0.2 s", "loss 0.502, 3  kernels in 7.5 s")
    assert not same("loss 0.501", "loss 0.601") and not same("3 kernels", "4 kernels")
    assert not same("a b", "a c") and same("a ... d", "a b\nc d") and not same("a ... d", "a b c")
    assert same("compiled 3 kernels in 0.2 s", "loaded 3 kernels in 0.0 s")
    assert same("1,024 bytes", "1,024 bytes") and not same("1,024 bytes", "1,028 bytes")


def test_programs_that_are_run_elsewhere_are():
    for page, test in ELSEWHERE.items():
        text = (DOCS / page).read_text(encoding="utf-8")
        files = [block.file for block in page_program.blocks(text)]
        assert files and all(files), page
        assert page in (ROOT / "tests" / test).read_text(encoding="utf-8")


# -- the reference

sys.path.append(str(ROOT / ".ci" / "docs"))
import reference  # noqa: E402

OPTIONS = r"(?::from: ([^\n]*)\n)?(?::members: [^\n]*\n)?"
NAMES = re.compile(rf"^```{{names}} ([\w.]+)\n{OPTIONS}(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def documented() -> dict[str, list[str]]:
    """The names that the pages describe, by package."""
    found: dict[str, list[str]] = {}
    for page in sorted((DOCS / "reference").glob("*.md")):
        for package, modules, names in NAMES.findall(page.read_text(encoding="utf-8")):
            found.setdefault(package, []).extend(reference.chosen(package, modules.split(), names.split()))
    return found


@pytest.mark.parametrize("package", ["graphc", "graphc.nn", "graphc.optim", "graphc.optim.lr_scheduler"])
def test_every_public_name_is_described_once(package):
    assert sorted(documented()[package]) == sorted(reference.public(package))


def test_names_that_modules_list_are_described():
    assert sorted(documented()["graphc.nn.init"]) == sorted(init.__all__)
    assert set(reference.public("graphc.nn.functional")) <= set(documented()["graphc"])


def test_what_is_described_has_words_of_its_own():
    for package, names in documented().items():
        for name in names:
            thing = getattr(locate(package), name)
            assert not callable(thing) or vars(thing).get("__doc__", thing.__doc__), f"{package}.{name}"


def test_docstrings_become_restructured_text():
    words = """A sum, see `gx.sum`.

x, y  [n] of x_
      and more

Raises it:

    code(x)
End."""
    wanted = """A sum, see :py:obj:`gx.sum <graphc.sum>`.

**x, y**
   [n] of x\\_
   and more

Raises it:

::

    code(x)

End."""
    assert reference.restructured(words.splitlines()) == wanted.splitlines()
