# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import numpy as np
import pytest

from referformer.errors import ConfigError, DataError
from referformer.evaluation.functional import (
    boundary_accuracy,
    region_similarity,
)
from referformer.evaluation.functional.kernel import tolerance_radius

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


def test_inputs_are_left_alone():
    pred, gt, void = random_masks(np.random.default_rng(2), 3)
    before = pred.copy(), gt.copy(), void.copy()
    boundary_accuracy(pred, gt, void)
    for array, copy in zip((pred, gt, void), before, strict=True):
        assert np.array_equal(array, copy)


def test_wrong_shapes_are_refused():
    mask = np.zeros((4, 5), bool)
    with pytest.raises(DataError, match=r'\(5, 4\).*\(4, 5\)'):
        region_similarity(mask.T, mask)
    with pytest.raises(DataError, match='void has shape'):
        boundary_accuracy(mask, mask, mask.T)
    with pytest.raises(DataError, match='expected one mask'):
        region_similarity(mask[None], mask[None])


def test_tolerance():
    assert tolerance_radius((480, 854)) == 8
    assert tolerance_radius((1080, 1920)) == 18
    assert tolerance_radius((480, 854), 3) == 3
    with pytest.raises(ConfigError, match='whole number'):
        tolerance_radius((480, 854), 1.5)
    with pytest.raises(ConfigError, match='greater than 0'):
        tolerance_radius((480, 854), 0)
