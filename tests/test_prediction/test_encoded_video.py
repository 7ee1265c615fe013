# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Kept features save work, and change no bit of a result."""

import numpy as np
import pytest
import torch

from referformer.media.sources import open_source
from referformer.prediction import EncodedVideo, FeatureMemory, Predictor

from ..test_models.helpers import build_model

TEXTS = ['a red circle on the left', 'the dog', 'it']
ENOUGH = 2**30


@pytest.fixture(scope='module')
def model():
    return build_model().eval()


@pytest.fixture
def encoded_frames(model):
    """Frames that the backbone sees, call by call."""
    seen = []
    handle = model.backbone.register_forward_hook(
        lambda module, args, out: seen.append(len(args[0]))
    )
    yield seen
    handle.remove()


def open_video(model, memory, number=10, seed=0, **settings):
    frames = np.random.default_rng(seed).integers(
        0, 256, (number, 32, 48, 3), np.uint8
    )
    predictor = Predictor(window=4).override(**settings)
    source = open_source(frames)
    return EncodedVideo(model, source, lambda i: i, memory, predictor)


def assert_same(one, two):
    one, two = list(one), list(two)
    assert [a.frame.index for a in one] == list(range(len(one)))
    for a, b in zip(one, two, strict=True):
        assert (a.frame.index, a.window) == (b.frame.index, b.window)
        for name in ('scores', 'window_scores', 'boxes', 'points', 'masks'):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def window_bytes(model, **settings):
    video = open_video(model, FeatureMemory(ENOUGH), 4, **settings)
    list(video.predict(TEXTS[:1]))
    return video.num_bytes


@pytest.mark.parametrize(
    ('settings', 'seen'),
    [({}, [4, 4, 2]), ({'link': 'overlap', 'overlap': 2}, [4, 4, 4, 4])],
)
@pytest.mark.parametrize('windows', [0, 1, 2, 9])
def test_any_memory_gives_the_same(
    model, encoded_frames, settings, seen, windows
):
    fresh = [
        list(open_video(model, FeatureMemory(0), **settings).predict([text]))
        for text in TEXTS
    ]
    size = window_bytes(model, **settings)
    memory = FeatureMemory(windows * size + size // 2)
    video = open_video(model, memory, **settings)
    for number, text in enumerate(TEXTS):
        encoded_frames.clear()
        left = video.frames_left
        assert_same(video.predict([text]), fresh[number])
        assert sum(encoded_frames) == left
        assert encoded_frames == (seen[windows:] if number else seen)
        assert video.num_bytes <= memory.max_bytes
    if windows >= len(seen):
        assert video.frames_kept == 10


def test_it_says_what_it_encodes(model):
    video = open_video(model, FeatureMemory(ENOUGH))
    told = []
    assert video.frames_kept == 0
    list(video.predict(TEXTS[:1], told.append))
    assert told == [4, 4, 2]
    assert video.frames_kept == 10
    list(video.predict(TEXTS[1:], told.append))
    assert told == [4, 4, 2]


def test_stopped_early_it_goes_on_where_it_was(model, encoded_frames):
    video = open_video(model, FeatureMemory(ENOUGH))
    results = video.predict(TEXTS[:1])
    for _ in range(5):
        next(results)
    results.close()
    assert video.frames_kept == 8
    encoded_frames.clear()
    fresh = open_video(model, FeatureMemory(0))
    assert_same(video.predict(TEXTS[1:2]), fresh.predict(TEXTS[1:2]))
    assert encoded_frames[0] == 2


def test_the_video_used_longest_ago_makes_room(model):
    size = window_bytes(model)
    memory = FeatureMemory(5 * size)
    one, two, three = (open_video(model, memory, 8, seed) for seed in range(3))
    for video in (one, two):
        list(video.predict(TEXTS[:1]))
    assert memory.num_bytes == 4 * size
    list(one.predict(TEXTS[1:2]))
    list(three.predict(TEXTS[:1]))
    assert [v.frames_kept for v in (one, two, three)] == [8, 0, 8]
    assert memory.num_bytes <= memory.max_bytes
    one.close()
    assert memory.num_bytes == 2 * size
    three.close()
    assert memory.num_bytes == 0


def test_a_video_that_is_too_long_leaves_room_to_others_last(model):
    """It takes what the others had, and never its own."""
    size = window_bytes(model)
    memory = FeatureMemory(2 * size)
    short = open_video(model, memory, 4)
    list(short.predict(TEXTS[:1]))
    long = open_video(model, memory, 20)
    list(long.predict(TEXTS[:1]))
    assert (short.frames_kept, long.frames_kept) == (0, 8)


def test_bytes_are_those_of_the_tensors(model):
    video = open_video(model, FeatureMemory(ENOUGH), 4)
    list(video.predict(TEXTS[:1]))
    fine = video._kept[0].visual.fine.map
    assert video.num_bytes > fine.nbytes + 4 * 32 * 48 * 3
    everything = torch.utils._pytree.tree_leaves(video._kept[0].visual)
    tensors = [t for t in everything if isinstance(t, torch.Tensor)]
    # position encodings are the same for all frames
    assert video.num_bytes < sum(t.nbytes for t in tensors) + 4 * 32 * 48 * 3


def test_masks_are_propagated(model):
    video = open_video(model, FeatureMemory(ENOUGH), 6, propagator='flow')
    fresh = open_video(model, FeatureMemory(0), 6, propagator='flow')
    list(video.predict(TEXTS[:1]))
    assert_same(video.predict(TEXTS[1:2]), fresh.predict(TEXTS[1:2]))
