"""How many threads are used follows what calls take."""

from __future__ import annotations

from graphc.backends.pace import SHARE, TRIALS, Pace


def used(pace: Pace, seconds: dict[int, float], calls: int) -> list[int]:
    found = []
    for _ in range(calls):
        found.append(threads := pace.choose())
        pace.note(threads, seconds[threads])
    return found


def test_the_quicker_way_is_used_and_the_other_looked_at() -> None:
    for quick, slow in ((4, 1), (1, 4)):
        found = used(Pace(4), {quick: 1.0, slow: 2.0}, 1000)
        assert set(found[:6]) == {1, 4}
        assert 9 <= found[6:].count(slow) <= TRIALS + SHARE / 2 * 1050  # a look costs two calls each


def test_a_neighbour_that_comes_and_goes_is_noticed() -> None:
    pace = Pace(2)
    used(pace, {2: 1.0, 1: 1.8}, 50)
    assert used(pace, {2: 4.0, 1: 1.8}, 20)[-10:].count(1) >= 8
    assert used(pace, {2: 1.0, 1: 1.8}, 400)[-10:].count(2) >= 8


def test_a_slow_first_call_says_nothing() -> None:
    pace = Pace(2)
    first = pace.choose()
    pace.note(first, 100.0)
    assert used(pace, {2: 1.0, 1: 2.0}, 20)[-1] == 2


def test_short_calls_by_one_thread_are_not_timed_one_by_one() -> None:
    pace = Pace(2)
    used(pace, {2: 2e-5, 1: 1e-5}, 50)
    assert pace.spent > 10 * 100 * 1e-5  # of 50 calls of that time
    used(pace, {2: 1e-2, 1: 2e-2}, 200)
    assert pace.quiet == 0


def test_looks_at_the_slower_way_go_on() -> None:
    """Quiet calls count as time that was spent, so the other way has its turns."""
    pace = Pace(2)
    found = used(pace, {2: 2e-5, 1: 1e-5}, 300)
    assert found[100:].count(2) >= TRIALS


def test_a_call_that_was_interrupted_changes_nothing() -> None:
    pace = Pace(2)
    used(pace, {2: 1.0, 1: 1.8}, 50)
    used(pace, {2: 100.0, 1: 100.0}, 1)
    assert used(pace, {2: 1.0, 1: 1.8}, 10).count(2) >= 10 - TRIALS
