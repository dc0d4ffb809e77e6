"""How many threads are quicker just now: as many as there may be, or one.

Whether threads pay depends on the step, on its batch and on what else the machine does; and it changes. All ways give
the same bits, so they are tried: each a few times at first, then the slower one once in a while.
"""

from __future__ import annotations

TRIALS = 3  # of each way before the quicker one is kept
PAUSE = 100  # calls between two looks at the slower way
NEWS = 0.3  # what the last call counts in the seconds of a way that is in use


class Pace:
    """Seconds a step takes with `most` threads and with one."""

    def __init__(self, most: int) -> None:
        self.ways = (most, 1)
        self.seconds = [0.0, 0.0]
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
        looks = self.calls % PAUSE == 0
        return self.ways[1 - self.quicker if looks else self.quicker]

    def note(self, threads: int, seconds: float) -> None:
        """What a call took. The first call of all also wakes threads and touches memory: it is forgotten."""
        way = self.ways.index(threads)
        known = self.seconds[way]
        steady = known and way == self.quicker and self.calls > 2 * TRIALS
        if steady:
            self.seconds[way] += NEWS * (seconds - known)
        elif self.calls > 2 * TRIALS or not known:
            self.seconds[way] = seconds
        else:
            self.seconds[way] = min(known, seconds)
