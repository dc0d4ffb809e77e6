"""How many threads are quicker just now: as many as there may be, or one.

Whether threads pay depends on the step, on its batch and on what else the machine does; and it changes. All ways give
the same bits, so they are tried: each a few times at first, then the slower one once in a while. Several calls in a row
make one look, of which the quickest counts: the first ones also wake threads and fill their caches.
"""

from __future__ import annotations

TRIALS = 3  # calls in a row of one look
SHARE = 0.03  # of all time that may go into looking at the other way
HOPE = 1.5  # times as slow the other way may have been; if it was slower, it gets less of that time
NEWS = 0.3  # what the last call counts in the seconds of a way that is in use
MOST_NEWS = 2.0  # times those seconds is what a call counts for at most: one may have been interrupted
QUIET = 0.001  # seconds of short calls by one thread between two looks at the clock, which takes a tenth of such a call


class Pace:
    """Seconds a step takes with `most` threads and with one.

    spent, looked  all seconds so far, and those of looks at the slower way
    left           calls that the look at `other` still takes, `seen` being the quickest so far
    quiet          calls by one thread that come next and need not be told of
    """

    def __init__(self, most: int) -> None:
        self.ways = (most, 1)
        self.seconds = [0.0, 0.0]
        self.spent = self.looked = self.seen = 0.0
        self.calls = self.left = self.other = self.quiet = 0

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
            return self.ways[(self.calls - 1) // TRIALS]
        share = SHARE * min(1.0, HOPE * self.expected / max(self.seconds))
        if not self.left and self.looked <= share * self.spent:
            self.left, self.other, self.seen = TRIALS, 1 - self.quicker, 0.0
        return self.ways[self.other if self.left else self.quicker]

    def note(self, threads: int, seconds: float, steps: int = 1) -> None:
        """What the call that was chosen took, of so many steps."""
        way, each = self.ways.index(threads), seconds / max(steps, 1)
        if self.calls <= 2 * TRIALS:
            self.seconds[way] = min(self.seconds[way] or each, each)
            return
        self.spent += seconds
        if not self.left:
            self.seconds[way] += NEWS * (min(each, MOST_NEWS * self.seconds[way]) - self.seconds[way])
            self.quiet = int(QUIET / self.seconds[1]) if way == self.quicker == 1 else 0
            self.spent += self.quiet * self.seconds[1]
            return
        self.quiet = 0
        self.left, self.looked = self.left - 1, self.looked + seconds
        self.seen = min(self.seen or each, each)
        if not self.left:
            self.seconds[way] = self.seen
