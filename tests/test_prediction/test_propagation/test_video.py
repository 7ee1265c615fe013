# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The way of masks through a video, with a propagator that does nothing."""

import numpy as np
import pytest

from referformer.errors import ConfigError
from referformer.prediction.propagation import (
    FlowPropagator,
    build_propagator,
    read_propagator,
)
from referformer.prediction.propagation.video import cut_spans

from .helpers import (
    SIZE,
    Stay,
    box,
    encoded,
    numbered,
    run,
    video_of,
)


def moving(length, objects=1):
    """Own masks, different in every frame and object, (T, E, H, W)."""
    return np.stack(
        [
            np.stack([box(t + 3 * e, y=4 + 3 * e) for e in range(objects)])
            for t in range(length)
        ]
    )


@pytest.mark.parametrize('key', [0, 3, 6])
def test_the_key_frame_fills_the_video(key):
    own = moving(7)
    scores = np.full((7, 1), 0.5)
    scores[key] = 0.9
    propagator = Stay()
    masks = run(propagator, numbered(7), own, scores)
    np.testing.assert_array_equal(masks, np.repeat(own[key][None], 7, 0))
    steps = [call[1] for call in propagator.calls if call[0] == 'step']
    assert steps == [*range(key + 1, 7), *range(key - 1, -1, -1)]
    starts = [call[1:] for call in propagator.calls if call[0] == 'start']
    # the way back knows the way forward; there is none from the first frame
    assert starts == [(key, False)] + [(key, True)] * (key > 0)
    # neighbours in time follow each other
    pairs = [c[1:] for c in propagator.calls if c[0] == 'encode']
    assert all(b is None or abs(n - b) == 1 for n, b in pairs)


def test_a_video_of_one_frame():
    own = moving(1, 2)
    propagator = Stay()
    masks = run(propagator, numbered(1), own, [[0.1, 0.9]])
    np.testing.assert_array_equal(masks, own)
    assert not [call for call in propagator.calls if call[0] == 'step']


def test_objects_with_different_key_frames():
    own = moving(6, 3)
    scores = np.full((6, 3), 0.3)
    scores[1, 0] = scores[4, 1] = scores[4, 2] = 0.8
    propagator = Stay()
    masks = run(propagator, numbered(6), own, scores)
    for e, key in enumerate((1, 4, 4)):
        for t in range(6):
            np.testing.assert_array_equal(masks[t, e], own[key, e])
    # a frame is encoded once in a direction, for all objects
    encodes = [call[1] for call in propagator.calls if call[0] == 'encode']
    assert encodes == [1, 2, 3, 4, 5, 4, 3, 2, 1, 0]
    # those of one key frame go together
    assert ('step', 5, 2) in propagator.calls
    assert ('step', 5, 1) in propagator.calls


def test_an_object_that_is_never_there():
    own = moving(4, 2)
    own[:, 1] = False
    propagator = Stay()
    masks = run(propagator, numbered(4), own, np.full((4, 2), 0.9))
    assert not masks[:, 1].any()
    assert masks[:, 0].any((1, 2)).all()
    own[:] = False
    propagator = Stay()
    assert not run(propagator, numbered(4), own, np.ones((4, 2))).any()
    assert not propagator.calls  # nothing is read


def test_an_object_that_leaves_and_returns():
    own = moving(8)
    own[3:5] = False
    scores = np.full((8, 1), 0.6)
    scores[3:5] = 0.99  # no key frame, as its mask is empty
    scores[1] = 0.9
    masks = run(Stay(), numbered(8), own, scores)
    assert [mask.any() for mask in masks] == [1, 1, 1, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(masks[7], own[1])
    # as published: every frame gets the mask
    masks = run(Stay(absent_score=None), numbered(8), own, scores)
    np.testing.assert_array_equal(masks, np.repeat(own[1][None], 8, 0))


def test_frames_that_score_low_are_without_the_object():
    own = moving(4)
    scores = np.array([[0.9], [0.3], [0.31], [0.1]])
    masks = run(Stay(absent_score=0.31), numbered(4), own, scores)
    assert [mask.any() for mask in masks] == [1, 0, 1, 0]
    scores[:] = 0.2
    assert not run(Stay(absent_score=0.31), numbered(4), own, scores).any()


def test_the_higher_score_wins():
    own = moving(3)
    scores = [[0.8], [0.5], [0.3]]
    rules = dict(fusion=dict(type='HigherScore'))
    # a propagated mask scores 0.8 * 0.5
    masks = run(Stay(sure=0.5, **rules), numbered(3), own, scores)
    np.testing.assert_array_equal(masks[:, 0], own[[0, 1, 0], 0])


def test_every_frame_takes_its_nearest_key_frame():
    spans = cut_spans(0, [1, 4, 8], 10)
    assert [span[1:] for span in spans] == [(1, 0, 3), (4, 3, 7), (8, 7, 10)]
    own = moving(10)
    scores = np.full((10, 1), 0.5)
    scores[[1, 4, 8]] = 0.9
    rules = dict(key_frames=dict(type='BestKFrames', k=3, distance=3))
    propagator = Stay(**rules)
    masks = run(propagator, numbered(10), own, scores)
    nearest = [1, 1, 1, 4, 4, 4, 4, 8, 8, 8]
    np.testing.assert_array_equal(masks, own[nearest])
    # no step beyond the part of a key frame
    steps = [call[1] for call in propagator.calls if call[0] == 'step']
    assert steps == [2, 5, 6, 9, 7, 3, 0]


def test_overlapping_masks_are_told_apart_by_score():
    from referformer.prediction.propagation import propagate

    own = np.stack([np.stack([box(5), box(9)])] * 2)
    scores = np.array([[0.9, 0.4], [0.5, 0.6]])
    fused = list(
        propagate(Stay(), video_of(numbered(2)), encoded(own), scores, 'cpu')
    )
    both = own[0].all(0)
    for masks, best in zip(fused, (0, 1), strict=True):
        probabilities = masks.probabilities()
        np.testing.assert_array_equal(probabilities > 0.5, masks.to_ndarray())
        assert (probabilities[:, both].argmax(0) == best).all()
        assert masks[1].shape == (1, *SIZE)
        np.testing.assert_array_equal(
            masks[1].probabilities()[0], probabilities[1]
        )


def test_pictures_backward_are_read_in_blocks():
    read = []

    def some(numbers):
        read.append(len(numbers))
        return (frames[i] for i in numbers)

    frames = numbered(10)
    video = video_of(frames, bytes_=256 * 2**20 // 4)._replace(read=some)
    seen = [(t, int(image[0, 0, 0])) for t, image in video.pictures(range(10))]
    assert seen == [(t, t) for t in range(10)]
    seen = list(video.pictures(range(8, 1, -1)))
    assert [t for t, _ in seen] == [8, 7, 6, 5, 4, 3, 2]
    assert [int(image[0, 0, 0]) for _, image in seen] == [t for t, _ in seen]
    assert read == [10, 4, 3]


# -- configs ------------------------------------------------------------------


def test_ways_to_name_a_propagator(tmp_path):
    assert read_propagator('none') is None
    assert read_propagator('flow') == dict(type='FlowPropagator')
    path = tmp_path / 'slow.py'
    path.write_text("propagator = dict(type='FlowPropagator', short_side=64)")
    built = build_propagator(str(path))
    assert isinstance(built, FlowPropagator)
    assert built.short_side == 64
    assert built.cfg == dict(type='FlowPropagator', short_side=64)
    assert build_propagator(built) is built


@pytest.mark.parametrize(
    'wrong',
    ['sam2', {}, dict(short_side=3), dict(type='BestFrame'), 'empty.py'],
)
def test_what_is_no_propagator(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty.py').write_text('model = 1')
    with pytest.raises(ConfigError, match='propagator'):
        build_propagator(wrong)


def test_impossible_absent_score():
    with pytest.raises(ConfigError, match='absent_score'):
        Stay(absent_score=2)
