"""The pages of the documentation: what is in them runs, and prints what they say."""

from __future__ import annotations

import re
from pathlib import Path

import page_program
import pytest

import graphc

ROOT = Path(graphc.__file__).parents[1]
DOCS = ROOT / "graphc" / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
# Programs of several languages that work together, each page with a test of its own.
ELSEWHERE = {"train_from_c.md": "test_train_from_c.py", "train_in_the_browser.md": "test_wasm.py"}
HAS_PROGRAM = [
    page
    for page in PAGES
    if page.name not in ELSEWHERE and page_program.blocks(page.read_text(encoding="utf-8"))
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


def updated(page: str, outputs: list[str]) -> str:
    """The page with what its blocks print now, where that is not what it says."""
    changes = list(zip(page_program.blocks(page), outputs, strict=True))
    for block, printed in reversed(changes):
        if block.printed is None:
            continue
        start, end = block.printed
        if not same(page[start:end], printed):
            kept = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
            page = f"{page[:start]}{kept}\n{page[end:]}"
    return page


@pytest.mark.parametrize("page", HAS_PROGRAM, ids=shown)
def test_blocks_run_and_print_what_the_page_says(page, tmp_path, request):
    outputs, text = page_program.outputs(page, tmp_path), page.read_text(encoding="utf-8")
    if request.config.getoption("--update-golden"):
        page.write_text(updated(text, outputs), encoding="utf-8")
        return
    for block, printed in zip(page_program.blocks(text), outputs, strict=True):
        if block.printed is not None:
            expected = text[slice(*block.printed)]
            assert same(expected, printed), f"{block.text}\nthe page says:\n{expected}\nit prints:\n{printed}"


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
