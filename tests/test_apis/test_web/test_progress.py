# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The time left is that of the steps left."""

import pytest

from referformer.apis.web.progress import Progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_nothing_is_known_at_first(clock):
    progress = Progress(dict(encode=4, predict=8), {}, clock)
    assert progress.seconds_left is None
    assert progress.fraction == 0


def test_the_first_run_is_guessed(clock):
    progress = Progress(dict(encode=4, predict=8), {}, clock)
    clock.now += 6
    progress.tick('encode', 4)
    assert progress.seconds_left == pytest.approx(12)
    assert progress.fraction == pytest.approx(4 / 12)


def test_later_runs_know_the_rates(clock):
    rates = {}
    first = Progress(dict(encode=2, predict=2), rates, clock)
    clock.now += 2
    first.tick('encode', 2)
    for _ in range(2):
        clock.now += 5
        first.tick('predict')
    assert rates == {'encode': 1, 'predict': 5}
    progress = Progress(dict(encode=4, predict=4), rates, clock)
    assert progress.seconds_left == pytest.approx(4 + 20)
    clock.now += 6  # while a step is at work
    assert progress.seconds_left == pytest.approx(18)
    assert progress.fraction == pytest.approx(6 / 24)


def test_it_ends_at_the_end(clock):
    progress = Progress(dict(write=3), {'write': 1}, clock)
    last = 0
    for _ in range(3):
        clock.now += 40  # slower than expected
        assert progress.fraction >= last
        assert progress.seconds_left >= 0
        last = progress.fraction
        progress.tick('write')
    assert progress.fraction == 1
    assert progress.seconds_left == 0


def test_no_work_is_no_error(clock):
    assert Progress({}, {}, clock).fraction == 0
