"""When flows that are held in proportion go free for a moment, to show what ports carry.

Owns when a trial is wanted, and when one that goes on is over. Must not know what is learnt from it
(`orchestra.controller.capacities`), nor which flows there are. Pure: time is passed in.

Theory of operation. Who is held to a rate shows no more than that rate, so what ports are believed to carry
would stay what was seen first, on a slow day, for ever. Once plans that fill ports were kept for some time,
a trial is *wanted*. It is *on* from the first decision that has let flows go which it would have held,
and ends when a test has judged those, or when they could not be judged for too long. If it was no news, the
next one comes later.
"""

import math

FIRST_WAIT, LONGEST_WAIT = 2, 16
"""Times in a row that plans were found kept, each of some seconds (`capacities.WINDOW_S`), between a trial
that was no news and the next one, and that many at most; twice as many from one to the next (guesses: a trial
takes a second or two, in which TCP shares ports). The first trial comes after one such time, and so does the
next after news. One that could not be judged in time was no news; one whose flows have ended before changes
nothing in that."""

LONGEST_S = 5.0
"""For which a trial is on at most (a guess: most flows can be judged after two seconds)."""


class Trial:
    """The trials of one controller, one at a time."""

    def __init__(self) -> None:
        self._kept_times, self._wait = 0, 1
        self._wanted = False
        self._ends_at_s = math.inf

    @property
    def frees(self) -> bool:
        """Whether a decision is to let flows go that it would hold in proportion."""
        return self._wanted or self._is_on

    @property
    def _is_on(self) -> bool:
        return math.isfinite(self._ends_at_s)

    def kept(self) -> bool:
        """Plans that fill ports were found kept; whether that makes a trial wanted."""
        if self.frees:
            return False
        self._kept_times += 1
        self._wanted = self._kept_times >= self._wait
        return self._wanted

    def not_kept(self) -> None:
        """They were found not kept."""
        self._kept_times, self._wanted = 0, False

    def decided(self, *, freed: bool, now: float) -> None:
        """There is a new plan; in it flows are free, or none is left that would be held."""
        if freed and not self._is_on:
            self._ends_at_s, self._wanted = now + LONGEST_S, False
        elif not freed and self._is_on:
            self._end(self._wait)

    def judged(self, *, news: bool) -> None:
        """A test has told what ports carry where flows were free, and that was ``news`` or not."""
        if not self._is_on:  # nothing has been decided since it ended
            return
        self._end(1 if news else self._longer_wait)

    def expires(self, now: float) -> bool:
        """End it if it is on for too long; whether that was so."""
        if now < self._ends_at_s:
            return False
        self._end(self._longer_wait)
        return True

    @property
    def _longer_wait(self) -> int:
        return FIRST_WAIT if self._wait == 1 else min(2 * self._wait, LONGEST_WAIT)

    def _end(self, wait: int) -> None:
        self._kept_times, self._wait = 0, wait
        self._wanted, self._ends_at_s = False, math.inf
