# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import math
import warnings

import numpy as np
import pytest

from referformer.errors import DataError
from referformer.evaluation.functional import (
    MaskOutline,
    TargetScores,
    boundary_accuracy,
    region_similarity,
    score_targets,
    sequence_scores,
    sequence_statistics,
    tracks,
)

from .helpers import random_masks


def test_outline_is_reusable():
    rng = np.random.default_rng(1)
    gts, first, second = (random_masks(rng, 6) for _ in range(3))
    voids = random_masks(rng, 6)
    truth = [
        MaskOutline(gt, void) for gt, void in zip(gts, voids, strict=True)
    ]
    for preds in (first, second):
        masked = [
            pred & ~void for pred, void in zip(preds, voids, strict=True)
        ]
        reused = sequence_scores(masked, truth)
        fresh = sequence_scores(preds, gts, voids)
        assert np.array_equal(reused.j, fresh.j)
        assert np.array_equal(reused.f, fresh.f)
        assert fresh.j[2] == region_similarity(preds[2], gts[2], voids[2])
        assert fresh.f[2] == boundary_accuracy(preds[2], gts[2], voids[2])


def test_unequal_lengths_are_refused():
    mask = np.zeros((4, 5), bool)
    with pytest.raises(ValueError, match='zip'):
        sequence_scores([mask, mask], [mask])
    empty = sequence_scores([], [])
    assert empty.j.shape == empty.f.shape == (0,)


def test_expressions_that_mean_the_same_share_an_outline(monkeypatch):
    rng = np.random.default_rng(4)
    preds, (first, second) = random_masks(rng, 5), random_masks(rng, 2)
    truths = {'one': first, 'two': second}
    targets = ['one', 'two', 'one', 'one', 'two']
    drawn, asked = [], []

    class Counted(MaskOutline):
        def __init__(self, mask, *args, **kwargs):
            drawn.append(mask)
            super().__init__(mask, *args, **kwargs)

    def true_mask(target, shape):
        asked.append((target, shape))
        return truths[target]

    monkeypatch.setattr(tracks, 'MaskOutline', Counted)
    scores = score_targets(iter(preds), targets, true_mask)
    assert asked == [('one', first.shape), ('two', first.shape)]
    assert len(drawn) == 5 + 2
    for pred, target, row in zip(preds, targets, scores.T, strict=True):
        truth, found = truths[target], TargetScores(*row)
        assert found.j == region_similarity(pred, truth)
        assert found.f == boundary_accuracy(pred, truth)
        assert found.true_area == truth.sum()
        assert found.pred_area == pred.sum()
        assert found.false_area == (pred & ~truth).sum()
        assert found.foreground == (first | second).sum()
    # No prediction at all is worse than an empty one.
    lost = score_targets([None, preds[1]], ['one', 'two'], true_mask)
    lost = TargetScores(*lost[:, 0])
    assert (lost.j, lost.f, lost.true_area) == (0, 0, 0)
    assert math.isnan(lost.pred_area)
    lost = score_targets([None], ['one'], true_mask, shape=first.shape)
    assert TargetScores(*lost[:, 0]).true_area == first.sum()
    with pytest.raises(DataError, match='bring both to one size'):
        score_targets([preds[0].T], ['one'], true_mask)


class TestStatistics:
    def test_mean_recall_decay(self):
        values = [1.0, 0.8, 0.5, 0.2, 0.0]
        statistics = sequence_statistics(values)
        assert statistics.mean == pytest.approx(0.5)
        # 0.5 itself is not above the threshold.
        assert statistics.recall == pytest.approx(0.4)
        # Quarters overlap in their border: frames 0-1 and 3-4.
        assert statistics.decay == pytest.approx(0.9 - 0.1)

    @pytest.mark.parametrize('length', [1, 2, 3, 4])
    def test_short(self, length):
        statistics = sequence_statistics(np.linspace(1, 0, length))
        assert math.isfinite(statistics.decay)
        assert statistics.decay >= 0

    @pytest.mark.parametrize('length', [255, 256, 257, 300, 1000])
    def test_long_sequences_do_not_wrap_around(self, length):
        # Falls from 1 to 0 in a straight line: the first and the last
        # quarter differ by about three quarters of the way.
        decay = sequence_statistics(np.linspace(1, 0, length)).decay
        assert decay == pytest.approx(0.75, abs=0.01)

    def test_nan_is_not_scored(self):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            statistics = sequence_statistics([0.9, np.nan, 0.9, 0.9])
            nothing = sequence_statistics([np.nan] * 4)
        assert statistics.mean == pytest.approx(0.9)
        assert statistics.recall == pytest.approx(0.75)
        assert statistics.decay == pytest.approx(0)
        assert math.isnan(nothing.mean)
        assert nothing.recall == 0

    def test_empty_is_refused(self):
        with pytest.raises(DataError, match='at least one frame'):
            sequence_statistics([])
