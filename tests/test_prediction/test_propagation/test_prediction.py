# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Propagation as a part of prediction: streams, data samples, memory."""

import copy
import gc
import tracemalloc
import weakref

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample

from referformer.errors import ConfigError
from referformer.media.sources import open_source
from referformer.prediction import Predictor, segment_frames
from referformer.prediction.propagation import (
    FlowPropagator,
    Video,
    propagate,
)

from ...test_models.helpers import build_model
from .helpers import Stay, box, encoded, textured

SIZE = (32, 48)
TEXTS = ['the dog', 'a red circle']
FLOW = dict(type='FlowPropagator', short_side=32)


@pytest.fixture(scope='module')
def model():
    return build_model().eval()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder of seven pictures."""
    path = tmp_path_factory.mktemp('frames')
    masks = np.stack([box(3 * t, size=SIZE) for t in range(7)])
    for t, image in enumerate(textured(masks)):
        cv2.imwrite(str(path / f'{t:05d}.png'), image)
    return path


def same(image):
    return image


def stream(model, folder, **settings):
    source = open_source(str(folder))
    predictor = Predictor(**settings)
    return list(segment_frames(model, source, TEXTS, same, predictor))


def samples(model, folder, grouped, **settings):
    """The same by data samples, masks (E, T, H, W) and boxes (E, T, 4)."""
    model = copy.copy(model)
    model.predictor = Predictor(**settings)
    paths = sorted(folder.iterdir())
    clip = np.stack([cv2.imread(str(path)) for path in paths])
    clip = torch.from_numpy(clip).permute(0, 3, 1, 2)

    def sample(**facts):
        sample = TrackDataSample(metainfo=facts)
        sample.video_data_samples = [
            DetDataSample(
                metainfo=dict(
                    img_shape=SIZE, ori_shape=SIZE, img_path=str(path)
                )
            )
            for path in paths
        ]
        return sample

    if grouped:
        facts = [dict(text=text, exp_id=text) for text in TEXTS]
        clips = [sample(expressions=facts)]
    else:
        clips = [sample(text=text) for text in TEXTS]
    batch = {'inputs': [clip] * len(clips), 'data_samples': clips}
    found = [
        [frame.pred_track_instances for frame in each.video_data_samples]
        for each in model.test_step(batch)
    ]
    masks = [
        [
            each.masks.to_ndarray()[0]
            if hasattr(each.masks, 'to_ndarray')
            else each.masks[0].numpy()
            for each in of
        ]
        for of in found
    ]
    boxes = [[each.bboxes[0].numpy() for each in of] for of in found]
    return np.array(masks), np.array(boxes)


@pytest.mark.parametrize(
    'settings',
    [
        dict(window=9),
        dict(window=3),
        dict(window=4, link='overlap', overlap=2),
    ],
)
@pytest.mark.parametrize('grouped', [True, False])
def test_streams_and_tests_agree(model, folder, settings, grouped):
    settings = dict(settings, propagator=FLOW)
    results = stream(model, folder, **settings)
    assert [r.frame.image is not None for r in results] == [True] * 7
    masks, boxes = samples(model, folder, grouped, **settings)
    streamed = np.stack([r.masks for r in results], 1)
    np.testing.assert_array_equal(streamed, masks)
    streamed = np.stack([r.boxes for r in results], 1)
    np.testing.assert_allclose(
        streamed, boxes.clip(0, [48, 32] * 2), atol=1e-4
    )


def test_the_scores_stay_and_the_boxes_move(model, folder):
    before = stream(model, folder, window=9)
    after = stream(model, folder, window=9, propagator=Stay())
    filled = np.stack([r.masks.any((1, 2)) for r in before])
    best = np.where(filled, [r.scores for r in before], -1).argmax(0)
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.scores, two.scores)
        np.testing.assert_array_equal(one.frame.image, two.frame.image)
        for e, key in enumerate(best):
            mask = before[key].masks[e]
            if not one.masks[e].any():
                assert not two.masks[e].any()
            elif one is not before[key]:
                np.testing.assert_array_equal(two.masks[e], mask)
                y, x = mask.nonzero()
                around = x.min(), y.min(), x.max() + 1, y.max() + 1
                if (one.masks[e] != mask).any():
                    np.testing.assert_array_equal(two.boxes[e], around)


def test_frames_that_come_once_are_refused(model, folder):
    frames = iter(open_source(str(folder)))
    results = segment_frames(
        model, frames, TEXTS, same, Predictor(propagator='flow')
    )
    with pytest.raises(ConfigError, match='open_source'):
        next(results)


def test_settings_are_told_as_text():
    settings = Predictor(propagator=FLOW).settings()
    assert settings['propagator'] == FLOW
    assert Predictor().settings()['propagator'] is None
    assert Predictor(propagator='flow').override(propagator='none') == (
        Predictor()
    )


# -- memory -------------------------------------------------------------------


@pytest.mark.parametrize('number', [40, 160])
def test_pictures_alive_do_not_depend_on_the_length(number):
    alive, most = weakref.WeakSet(), 0

    class Picture(np.ndarray):
        """An array that can be counted."""

        __hash__ = object.__hash__

    def read(numbers):
        nonlocal most
        for t in numbers:
            image = np.full((*SIZE, 3), t % 256, np.uint8).view(Picture)
            alive.add(image)
            most = max(most, len(alive))
            yield image

    own = encoded(np.stack([box(9, size=SIZE)[None]] * number))
    scores = np.full((number, 1), 0.5)
    scores[number // 2] = 0.9
    # room for eight pictures
    video = Video(number, read, 2**25)
    flow = FlowPropagator(short_side=32)
    list(propagate(flow, video, own, scores, 'cpu'))
    gc.collect()
    assert most <= 8 + 8 + 4
    assert len(alive) <= 1


@pytest.mark.slow
def test_two_thousand_frames():
    """Four objects and 2 000 frames take no more than 200 frames do."""
    peaks = []
    for number in (200, 2000):
        masks = np.stack([box(t % 36, size=SIZE) for t in range(number)])
        frames = textured(masks[:50])
        own = encoded(np.stack([masks] * 4, 1))
        scores = np.full((number, 4), 0.5)
        scores[number // 2] = 0.9

        def read(numbers, frames=frames):
            return (frames[t % 50] for t in numbers)

        video = Video(number, read, 2**25)
        tracemalloc.start()
        flow = FlowPropagator(short_side=48)
        for fused in propagate(flow, video, own, scores, 'cpu'):
            del fused
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        del own
    # encoded masks and scores, about 700 bytes for an object in a frame
    assert peaks[1] - peaks[0] < 8e6, peaks
