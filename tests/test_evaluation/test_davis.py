# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json
import math
import warnings

import numpy as np
import pytest
from PIL import Image

from referformer.evaluation.functional import (
    PROTOCOLS,
    MaskOutline,
    boundary_accuracy,
    region_similarity,
    sequence_scores,
    sequence_statistics,
    summarize,
)
from referformer.evaluation.functional.davis import tolerance_radius

from .helpers import GOLDEN, random_masks

EDGE = np.load(GOLDEN / 'jf_edge.npz')
EDGE_CASES = sorted({name.split('/')[0] for name in EDGE.files})


@pytest.mark.parametrize('case', EDGE_CASES)
def test_edge_cases_equal_the_recorded_numbers(case):
    pred, gt = EDGE[f'{case}/pred'], EDGE[f'{case}/gt']
    assert region_similarity(pred, gt) == pytest.approx(
        float(EDGE[f'{case}/J']), abs=1e-12
    )
    assert boundary_accuracy(pred, gt) == pytest.approx(
        float(EDGE[f'{case}/F']), abs=1e-12
    )


def slow_boundary(mask):
    """Outline pixels of a mask, by the definition, one by one."""
    height, width = mask.shape
    pixels = set()
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if y == height - 1:
                neighbours = [(y, x + 1)]
            if x == width - 1:
                neighbours = [(y + 1, x)]
            if y == height - 1 and x == width - 1:
                neighbours = []
            if any(mask[n] != mask[y, x] for n in neighbours):
                pixels.add((y, x))
    return pixels


def slow_f(pred, gt, radius):
    ours, theirs = slow_boundary(pred), slow_boundary(gt)
    if not ours or not theirs:
        return float(bool(ours) == bool(theirs))

    def matched(some, others):
        return sum(
            any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others)
            for y, x in some
        ) / len(some)

    precision, recall = matched(ours, theirs), matched(theirs, ours)
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize('radius', [1, 2, 5])
def test_f_equals_the_definition_on_random_masks(radius):
    rng = np.random.default_rng(radius)
    shapes = [(1, 1), (1, 9), (7, 1), (2, 2), (9, 14), (16, 11)]
    for shape in shapes * 4:
        pred = random_masks(rng, 1, shape)[0]
        gt = random_masks(rng, 1, shape)[0]
        if rng.random() < 0.3:
            gt = rng.random(shape) < 0.5
        void = rng.random(shape) < 0.2
        assert boundary_accuracy(pred, gt, bound_th=radius) == pytest.approx(
            slow_f(pred, gt, radius), abs=1e-12
        )
        assert boundary_accuracy(
            pred, gt, void, bound_th=radius
        ) == pytest.approx(slow_f(pred & ~void, gt & ~void, radius), abs=1e-12)


def test_cropping_changes_nothing():
    # The same small pair anywhere in a large frame gives one score, except
    # where the frame's border hides a part of the outline.
    pred, gt = random_masks(np.random.default_rng(3), 2, (20, 20))
    seen = set()
    for top in (1, 57, 100):
        for left in (1, 33, 140):
            frames = np.zeros((2, 128, 192), bool)
            frames[:, top : top + 20, left : left + 20] = pred, gt
            seen.add((region_similarity(*frames), boundary_accuracy(*frames)))
    assert len(seen) == 1


def test_void_pixels_do_not_count():
    gt = np.zeros((30, 40), bool)
    gt[5:15, 5:15] = True
    pred = gt.copy()
    pred[20:28, 20:30] = True
    void = np.zeros_like(gt)
    void[18:, 18:] = True
    assert region_similarity(pred, gt) < 1
    assert boundary_accuracy(pred, gt) < 1
    assert region_similarity(pred, gt, void) == 1
    assert boundary_accuracy(pred, gt, void) == 1
    # A label image with 255 as "true" works as a void map as well.
    assert region_similarity(pred, gt, void * np.uint8(255)) == 1


def test_symmetry_and_range():
    rng = np.random.default_rng(0)
    for a, b in zip(random_masks(rng, 20), random_masks(rng, 20), strict=True):
        assert region_similarity(a, b) == region_similarity(b, a)
        assert boundary_accuracy(a, b) == pytest.approx(
            boundary_accuracy(b, a), abs=1e-12
        )
        assert 0 <= region_similarity(a, b) <= 1
        assert region_similarity(a, a) == boundary_accuracy(a, a) == 1


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


def test_inputs_are_left_alone():
    pred, gt, void = random_masks(np.random.default_rng(2), 3)
    before = pred.copy(), gt.copy(), void.copy()
    boundary_accuracy(pred, gt, void)
    for array, copy in zip((pred, gt, void), before, strict=True):
        assert np.array_equal(array, copy)


def test_wrong_shapes_are_refused():
    mask = np.zeros((4, 5), bool)
    with pytest.raises(ValueError, match=r'\(5, 4\).*\(4, 5\)'):
        region_similarity(mask.T, mask)
    with pytest.raises(ValueError, match='void has shape'):
        boundary_accuracy(mask, mask, mask.T)
    with pytest.raises(ValueError, match='expected one mask'):
        region_similarity(mask[None], mask[None])
    with pytest.raises(ValueError, match='zip'):
        sequence_scores([mask, mask], [mask])


def test_tolerance():
    assert tolerance_radius((480, 854)) == 8
    assert tolerance_radius((1080, 1920)) == 18
    assert tolerance_radius((480, 854), 3) == 3
    with pytest.raises(ValueError, match='whole number'):
        tolerance_radius((480, 854), 1.5)
    with pytest.raises(ValueError, match='greater than 0'):
        tolerance_radius((480, 854), 0)


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
        with pytest.raises(ValueError, match='at least one frame'):
            sequence_statistics([])


def score(protocol, preds, gts):
    protocol = PROTOCOLS[protocol]
    return protocol.combine(
        [
            protocol.score_frame(pred, gt)
            for pred, gt in zip(preds, gts, strict=True)
        ]
    )


def load_labels(folder):
    return [np.array(Image.open(path)) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize('video', ['judo', 'gold-fish'])
def test_recorded_frames(video):
    expected = json.loads((GOLDEN / 'jf' / 'expected.json').read_text())
    expected = expected[video]['shift_identity']
    gts = load_labels(GOLDEN / 'jf' / 'gt' / video)[:13]
    scores = score('identity', gts[1:], gts[:-1])
    # The record is rounded to six digits.
    frames = np.array(expected['J_frames'])[:, : len(gts) - 1]
    np.testing.assert_allclose(scores.j, frames, atol=1e-6)
    frames = np.array(expected['F_frames'])[:, : len(gts) - 1]
    np.testing.assert_allclose(scores.f, frames, atol=1e-6)


def label_maps(rng, num_frames, num_objects, shape=(32, 48)):
    maps = np.zeros((num_frames, *shape), np.uint8)
    for label in range(1, num_objects + 1):
        maps[random_masks(rng, num_frames, shape)] = label
    return maps


def test_identity_is_each_object_alone():
    rng = np.random.default_rng(5)
    preds, gts = label_maps(rng, 6, 3), label_maps(rng, 6, 3)
    gts[:, :4] = 255
    scores = score('identity', preds, gts)
    assert scores.gt_ids == scores.pred_ids == [1, 2, 3]
    for label in (1, 2, 3):
        alone = sequence_scores(preds == label, gts == label, gts == 255)
        assert np.array_equal(scores.j[label - 1], alone.j)
        assert np.array_equal(scores.f[label - 1], alone.f)


def test_identity_with_objects_that_come_and_go():
    gts = np.zeros((4, 20, 20), np.uint8)
    gts[:, 2:8, 2:8] = 1
    gts[2:, 10:16, 10:16] = 2
    # Object 2 is missed; object 1 is perfect.
    scores = score('identity', np.where(gts == 1, 1, 0), gts)
    assert scores.j.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert scores.f.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert scores.never_seen == []
    # An id that no frame shows is absent throughout, and said to be.
    scores = score('identity', np.zeros_like(gts), np.where(gts == 2, 3, 0))
    assert scores.j.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert scores.never_seen == [1, 2]


def test_identity_refuses_unknown_ids():
    gts = np.zeros((2, 8, 8), np.uint8)
    gts[:, :3, :3] = 1
    preds = gts.copy()
    preds[1, 5, 5] = 2
    with pytest.raises(ValueError, match=r'has id 2 but .* up to 1'):
        score('identity', preds, gts)
    # 255 is nobody's id, also in a prediction.
    preds[1, 5, 5] = 255
    assert score('identity', preds, gts).j.tolist() == [[1, 1]]


def test_unsupervised_undoes_a_permutation():
    rng = np.random.default_rng(6)
    gts = label_maps(rng, 8, 3)
    # Proposals: 9 = object 1, 4 = object 2, 6 = object 3, and a distractor.
    renamed = np.array([0, 9, 4, 6], np.uint8)[gts]
    renamed[:, 0, 0] = 2
    gts[:, 0, 0] = 0
    scores = score('unsupervised', renamed, gts)
    assert (scores.j == 1).all()
    assert (scores.f == 1).all()
    # Rows come by proposal.
    assert scores.pred_ids == [4, 6, 9]
    assert scores.gt_ids == [2, 3, 1]


def test_unsupervised_pairs_hold_for_the_whole_video():
    rng = np.random.default_rng(7)
    gts = label_maps(rng, 8, 2)
    # Identities swap half-way: per frame all is right, over time it is not.
    preds = gts.copy()
    preds[4:] = np.array([0, 2, 1], np.uint8)[preds[4:]]
    assert score('unsupervised', preds, gts).j.mean() < 0.9


def test_unsupervised_is_the_best_assignment():
    rng = np.random.default_rng(8)
    gts, preds = label_maps(rng, 5, 2), label_maps(rng, 5, 4)
    scores = score('unsupervised', preds, gts)
    table = np.empty((4, 2))
    for a in range(4):
        for b in range(2):
            alone = sequence_scores(preds == a + 1, gts == b + 1)
            table[a, b] = (alone.j.mean() + alone.f.mean()) / 2
    best = max(
        table[a, 0] + table[b, 1] for a in range(4) for b in range(4) if a != b
    )
    found = (scores.j.mean(axis=1) + scores.f.mean(axis=1)).sum() / 2
    assert found == pytest.approx(best, abs=1e-12)


def test_unsupervised_fills_up_missing_proposals():
    gts = np.zeros((2, 16, 16), np.uint8)
    gts[:, 2:6, 2:6] = 1
    gts[:, 9:14, 9:14] = 2
    preds = np.where(gts == 2, 1, 0).astype(np.uint8)
    scores = score('unsupervised', preds, gts)
    assert scores.j.tolist() == [[1, 1], [0, 0]]
    nothing = score('unsupervised', np.zeros_like(gts), gts)
    assert nothing.j.tolist() == [[0, 0], [0, 0]]


def test_unsupervised_allows_twenty_proposals():
    gts = np.zeros((1, 8, 8), np.uint8)
    gts[0, :3, :3] = 1
    preds = gts * np.uint8(20)
    assert score('unsupervised', preds, gts).j.tolist() == [[1]]
    with pytest.raises(ValueError, match=r'id 21 .* 20 proposals'):
        score('unsupervised', gts * np.uint8(21), gts)


def test_summary_is_a_mean_over_objects_not_videos():
    gts = np.zeros((3, 16, 16), np.uint8)
    gts[:, 2:6, 2:6] = 1
    one = score('identity', gts, gts)
    gts[:, 9:14, 9:14] = 2
    two = score('identity', np.zeros_like(gts), gts)
    summary = summarize({'b': one, 'a': two})
    assert list(summary['per_object']) == ['b_1', 'a_1', 'a_2']
    assert summary['per_object']['b_1'] == {'J': [1, 1, 0], 'F': [1, 1, 0]}
    assert summary['J-Mean'] == summary['F-Recall'] == pytest.approx(1 / 3)
    assert summary['J&F'] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match='no object'):
        summarize({})
