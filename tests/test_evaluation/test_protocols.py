# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json

import numpy as np
import pytest
from PIL import Image

from referformer.errors import DataError
from referformer.evaluation.functional import (
    PROTOCOLS,
    TrueLabels,
    sequence_scores,
    summarize,
)
from referformer.evaluation.functional.protocols import (
    remark_on_late_objects,
)

from .helpers import GOLDEN, random_masks


def score(protocol, preds, gts):
    protocol = PROTOCOLS[protocol]
    return protocol.combine(
        [
            TrueLabels(gt).compare(pred, protocol.every_pair)
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
    with pytest.raises(DataError, match=r'has id 2 but .* up to 1'):
        score('identity', preds, gts)
    # 255 is nobody's id, also in a prediction.
    preds[1, 5, 5] = 255
    assert score('identity', preds, gts).j.tolist() == [[1, 1]]


def test_unsupervised_counts_the_objects_of_the_first_frame():
    gts = np.zeros((4, 20, 30), np.uint8)
    gts[:, 2:8, 2:8] = 1
    gts[2:, 10:16, 10:16] = 2
    gts[3, 17:19, 20:28] = 4
    perfect = score('unsupervised', np.where(gts == 1, 1, 0), gts)
    # 1.0 officially; the object that comes late is background.
    assert perfect.j.tolist() == perfect.f.tolist() == [[1, 1, 1, 1]]
    assert (perfect.gt_ids, perfect.not_scored) == ([1], [2, 4])
    # A proposal for it is free to be there, and is of no use.
    again = score('unsupervised', gts, gts)
    assert again.j.tolist() == [[1, 1, 1, 1]]
    remark = remark_on_late_objects('cat', again)
    assert 'first frame of cat has ids up to 1' in remark
    assert 'show id 2, 4;' in remark
    # The order of time decides, and identity counts them all.
    backwards = score('unsupervised', gts[::-1], gts[::-1])
    assert len(backwards.j) == 4
    assert (backwards.never_seen, backwards.not_scored) == ([3], [])
    assert remark_on_late_objects('cat', backwards) is None
    assert len(score('identity', gts, gts).j) == 4


def test_unsupervised_without_object_in_the_first_frame():
    gts = np.zeros((2, 8, 8), np.uint8)
    gts[1, :3, :3] = 1
    nothing = score('unsupervised', gts, gts)
    assert nothing.j.shape == (0, 2)
    assert 'cat shows no object, but' in remark_on_late_objects('cat', nothing)
    assert score('unsupervised', gts * 0, gts).j.shape == (0, 2)


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
    with pytest.raises(DataError, match=r'id 21 .* 20 proposals'):
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
    with pytest.raises(DataError, match='no object'):
        summarize({})
