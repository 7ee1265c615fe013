# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Which frames are key frames."""

import numpy as np
import pytest

from referformer.errors import ConfigError
from referformer.prediction.propagation import (
    BestFrame,
    BestKFrames,
    BestNeighbourhood,
)

SCORES = np.array([0.2, 0.95, 0.1, 0.6, 0.7, 0.8, 0.3])
ALL = np.ones(7, bool)


def but(*frames):
    possible = ALL.copy()
    possible[list(frames)] = False
    return possible


def test_the_best_frame():
    assert BestFrame()(SCORES, ALL) == [1]
    assert BestFrame()(SCORES, but(1)) == [5]
    # one that scores zero is better than one that must not be taken
    assert BestFrame()(np.array([0.0, 0.9]), np.array([True, False])) == [0]


@pytest.mark.parametrize(
    ('k', 'distance', 'expected'),
    [
        (1, 1, [1]),
        (2, 1, [1, 5]),
        (3, 1, [1, 4, 5]),
        (3, 2, [1, 3, 5]),
        (9, 4, [1, 5]),
        (9, 99, [1]),
    ],
)
def test_several_frames_apart(k, distance, expected):
    assert BestKFrames(k, distance)(SCORES, ALL) == expected


def test_several_frames_of_those_possible():
    assert BestKFrames(3, 2)(SCORES, but(1, 3, 5)) == [0, 4, 6]


def test_the_best_neighbourhood():
    # frame 1 stands alone among low scores
    assert BestNeighbourhood(1)(SCORES, ALL) == [4]
    assert BestNeighbourhood(0)(SCORES, ALL) == [1]
    # neighbours that must not be taken do not count
    assert BestNeighbourhood(1)(SCORES, but(4)) == [2]
    assert BestNeighbourhood(5)(np.array([0.5]), np.array([True])) == [0]


@pytest.mark.parametrize(
    ('rule', 'arguments'),
    [
        (BestKFrames, dict(k=0)),
        (BestKFrames, dict(distance=0)),
        (BestNeighbourhood, dict(radius=-1)),
    ],
)
def test_impossible_settings(rule, arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        rule(**arguments)
