"""How many threads are quicker just now: as many as there may be, or one.

Whether threads pay depends on the step, on its batch and on what else the machine does; and it changes. All ways give
the same bits, so they are tried: each a few times at first, then the slower one once in a while.
"""

from __future__ import annotations

TRIALS = 3  # of each way before the quicker one is kept
SHARE = 0.03  # of all time that may go into looking at the slower way
NEWS = 0.3  # what the last call counts in the seconds of a way that is in use


class Pace:
    """Seconds a step takes with `most` threads and with one.

    spent, looked  all seconds so far, and those of looks at the slower way
    """

    def __init__(self, most: int) -> None:
        self.ways = (most, 1)
        self.seconds = [0.0, 0.0]
        self.spent = self.looked = 0.0
        self.calls = 0

    @property
    def quicker(self) -> int:
        """The position of the quicker way."""
        return int(self.seconds[1] < self.seconds[0])

    @property
    def expected(self) -> float:
        """Seconds of the quicker way; 0 as long as one was not tried."""
        return min(self.seconds)

    def choose(self) -> int:
        """How many threads the next call takes."""
        self.calls += 1
        if self.calls <= 2 * TRIALS:
            return self.ways[self.calls % 2]
        looks = self.looked <= SHARE * self.spent
        return self.ways[1 - self.quicker if looks else self.quicker]

    def note(self, threads: int, seconds: float, steps: int = 1) -> None:
        """What a call of some steps took. Of the first calls the quickest counts: they also wake threads."""
        way, each = self.ways.index(threads), seconds / max(steps, 1)
        known, in_use = self.seconds[way], way == self.quicker
        if self.calls <= 2 * TRIALS:
            self.seconds[way] = min(known or each, each)
            return
        self.spent += seconds
        self.looked += 0 if in_use else seconds
        self.seconds[way] += (NEWS if in_use else 1) * (each - known)
