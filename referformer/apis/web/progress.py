# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""How far a run is, and how long it will take."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Literal

Step = Literal['encode', 'predict', 'write']

#: How long steps take in comparison, before any was measured.
_GUESS: dict[Step, float] = {'encode': 1.0, 'predict': 1.0, 'write': 0.1}


class Progress:
    """Steps of a run, each a frame that is encoded, predicted or written.

    Args:
        todo (dict[Step, int]): Frames to do for each kind of step.
        rates (dict[Step, float]): Seconds a frame that earlier runs took;
            those of this run are entered.
        clock (Callable): Returns seconds.
    """

    def __init__(
        self,
        todo: dict[Step, int],
        rates: dict[Step, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.todo = Counter(todo)
        self._rates = rates
        self._clock = clock
        self._start = self._last = clock()
        self._done: Counter[Step] = Counter()
        self._seconds: Counter[Step] = Counter()
        self._shown = 0.0

    def tick(self, step: Step, frames: int = 1) -> None:
        """Note that frames are done."""
        now = self._clock()
        self._seconds[step] += now - self._last
        self._last = now
        self._done[step] += frames
        self.todo[step] = max(0, self.todo[step] - frames)
        self._rates[step] = self._seconds[step] / self._done[step]

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds left; None while nothing is known."""
        missing = [s for s in +self.todo if s not in self._rates]
        if not missing:
            left = self._cost(self.todo, self._rates)
        elif self._done:
            done = self._cost(self._done, _GUESS)
            left = self._cost(self.todo, _GUESS) / done
            left *= self._last - self._start
        else:
            return None
        return max(0.0, left - (self._clock() - self._last))

    @property
    def fraction(self) -> float:
        """Share of the work that is done, in [0, 1]; it never falls."""
        known = all(s in self._rates for s in +self.todo)
        rates = {**_GUESS, **self._rates} if known else _GUESS
        done = self._cost(self._done, rates)
        left = self._cost(self.todo, rates)
        if known:  # steps may be long: move on while one is at work
            since = min(self._clock() - self._last, left)
            done, left = done + since, left - since
        share = done / (done + left) if done + left else 0.0
        if self.todo.total():
            share = min(share, 0.99)
        self._shown = max(self._shown, share)
        return self._shown

    @staticmethod
    def _cost(frames: Counter, rates: dict[Step, float]) -> float:
        return sum(number * rates[step] for step, number in (+frames).items())
