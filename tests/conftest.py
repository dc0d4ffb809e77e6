"""Fixtures of all tests: seeded random numbers, a cache of their own, golden files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import cuda, functional, generator, nn
from graphc.backends import target
from graphc.backends.cache import Cache

GOLDEN = Path(__file__).parent / "golden"

sys.path.insert(0, str(Path(__file__).parent))  # `import graphs`: the sample graphs that several test files share

for package in (functional, nn, graphc):  # tests evaluate calls in `vars(nn)`: names that load when asked for, loaded
    for name in dir(package):
        getattr(package, name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files; then read the diff")
    names = ", ".join(target.TARGETS)
    parser.addoption(
        "--emulate-cuda", action="store_true", help="do every call by the kernels for GPUs too, and compare"
    )
    parser.addoption("--target", help=f"compile as on a lesser machine, which this one must be able to do: {names}")


def pytest_configure(config: pytest.Config) -> None:
    """With --target, this process compiles for that target wherever it would for this machine; with --emulate-cuda,
    calls are compared with those of the kernels for GPUs."""
    if config.getoption("--emulate-cuda"):
        from emulated_calls import compare_all_calls

        compare_all_calls()
    if config.getoption("--target"):
        from lesser_machine import compile_for

        compile_for(config.getoption("--target"))


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers for every test, whatever ran before it."""
    return np.random.default_rng(1234)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache that is empty at first and shared by the tests of a file."""
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden(name, text) asserts that tests/golden/<name> holds the text; with --update-golden it writes it there."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden file {name}; make it with pytest --update-golden"
        assert text == path.read_text(encoding="utf-8"), f"{name} differs; if that is meant, run pytest --update-golden"

    return compare


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A GPU in the memory of this process: its driver is a fake, and what it launches are the kernels, on the CPU."""
    from fake_driver import FakeLibrary, emulated

    from graphc.backends.cuda import artifact, choosing, cublas, driver

    def forget() -> None:
        driver.open_driver.cache_clear()
        driver.first_device.cache_clear()
        cuda.library_for.cache_clear()
        generator.state.storage.come_home()  # the one state that outlives a test, and with it the GPU it is on
        generator.state.storage.mirror = None

    def obtain(*given: Any, **more: Any) -> artifact.DeviceArtifact:
        made = real(*given, **more)
        library.kernels |= emulated(made.drawing)
        return made

    def candidate(*given: Any) -> choosing.Candidate:
        tried = real_candidate(*given)
        for drawing in tried.ways.values():
            library.kernels |= emulated(drawing) if drawing.entries else {}
        return tried

    library, real, real_candidate = FakeLibrary(), artifact.obtain, choosing.candidate
    monkeypatch.setattr(choosing, "candidate", candidate)
    forget()
    monkeypatch.setattr(driver, "load_library", lambda: library)
    monkeypatch.setattr(artifact, "obtain", obtain)
    monkeypatch.setattr(cublas, "load_library", lambda: None)
    yield library
    forget()
