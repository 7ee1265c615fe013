# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Masks follow what is seen."""

import numpy as np
import pytest

from referformer.errors import ConfigError
from referformer.prediction.propagation import FlowPropagator

from .helpers import box, run, textured

SIZE = (72, 112)
REPLACE = dict(type='Replace')


def path(places, **kwargs):
    """True masks of a box at these places, (T, 1, H, W)."""
    masks = [box(x, 20, 26, 30, SIZE, **kwargs) for x in places]
    return np.stack(masks)[:, None]


def iou(one, two):
    return (one & two).sum() / (one | two).sum()


@pytest.mark.parametrize('key', [0, 4, 8])
def test_a_moving_object_is_followed(key):
    truth = path(range(10, 55, 5))
    own = np.ones_like(truth)  # wrong, but in the key frame
    own[key] = truth[key]
    scores = np.full((9, 1), 0.2)
    scores[key] = 0.9
    masks = run(
        FlowPropagator(fusion=REPLACE), textured(truth[:, 0]), own, scores
    )
    for mask, true in zip(masks, truth, strict=True):
        assert iou(mask, true) > 0.8
    # the picture does move: where it was is not where it is
    assert iou(truth[0], truth[8]) < 0.3


def test_objects_go_their_own_ways():
    left, right = path(range(50, 5, -5)), path(range(60, 84, 3))[:8]
    left = left[:8]
    truth = np.concatenate([left, right], 1)
    ground = textured(left[:, 0])
    other = textured(right[:, 0], seed=1)
    frames = np.where(right[:, 0, :, :, None], other, ground)
    truth[:, 0] &= ~truth[:, 1]
    masks = run(
        FlowPropagator(fusion=REPLACE),
        frames,
        truth,
        np.eye(8)[:, [7, 7]] + 0.1,
    )
    assert iou(masks[0, 1], truth[0, 1]) > 0.8
    assert iou(masks[0, 0], truth[0, 0]) > 0.7


def test_an_object_that_leaves_is_not_kept_at_the_border():
    places = [60, 68, 76, 84, 92, 100, 108, 116, 124]
    truth = path(places)
    own = np.ones_like(truth)
    own[0] = truth[0]
    scores = np.full((9, 1), 0.2)
    scores[0] = 0.9
    masks = run(
        FlowPropagator(fusion=REPLACE), textured(truth[:, 0]), own, scores
    )
    assert masks[0].any()
    assert masks[-1].sum() < 30
    # and its score says so: the model's own masks are taken again
    higher = FlowPropagator()
    masks = run(higher, textured(truth[:, 0]), own, scores)
    np.testing.assert_array_equal(masks[-1], own[-1])


@pytest.mark.parametrize('arguments', [dict(short_side=8), dict(tolerance=-1)])
def test_impossible_settings(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        FlowPropagator(**arguments)
