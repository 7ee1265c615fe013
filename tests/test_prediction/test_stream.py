# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Frames are read as they come, in bounded memory."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample

from referformer.media.sources import Frame, open_source
from referformer.prediction import Predictor, segment_frames
from referformer.prediction.background import BackgroundWriter, queue_depth
from referformer.utils import precision

from ..test_models.helpers import build_model

TEXTS = ['a red circle on the left', 'the dog', 'the small blue square']


def same(image):
    return image


@pytest.fixture(scope='module')
def model():
    return build_model().eval()


def noise(number, height=32, width=48):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (number, height, width, 3), np.uint8)


def threads():
    return {t.name for t in threading.enumerate()} & {'prefetch', 'write'}


# -- memory -------------------------------------------------------------------


@pytest.mark.parametrize('number', [40, 200])
def test_frames_alive_do_not_depend_on_the_length(model, number):
    window, most = 4, 0
    alive = weakref.WeakSet()

    def frames():
        nonlocal most
        for i, image in enumerate(noise(4) for _ in range(number)):
            frame = Frame(i, str(i), i / 6, (32, 48), image[0].copy())
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    def write(result):
        time.sleep(0.001)

    predictor = Predictor(window=window)
    depth = queue_depth(window, 1)
    with BackgroundWriter(write, depth) as writer:
        for result in segment_frames(
            model, frames(), TEXTS[:1], same, predictor
        ):
            writer.put(result)
            del result
    gc.collect()
    # a window, both queues, and one in the hands of each of the three
    assert most <= window + 2 * depth + 3
    assert len(alive) <= 1


# -- the network --------------------------------------------------------------


def run(model, video, texts, **options):
    return list(
        segment_frames(
            model, open_source(video), texts, same, Predictor(**options)
        )
    )


def assert_equal_results(one, two, rows=slice(None)):
    """``one`` holds the expressions ``rows`` of ``two``."""
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        for name in ('scores', 'window_scores', 'boxes', 'points'):
            np.testing.assert_allclose(
                getattr(a, name), getattr(b, name)[rows], rtol=1e-5, atol=1e-5
            )
        np.testing.assert_allclose(
            a.soft_masks.probabilities(),
            b.soft_masks[rows].probabilities(),
            rtol=1e-5,
            atol=1e-5,
        )


@pytest.mark.parametrize('backbone', ['resnet', 'video-swin'])
@pytest.mark.parametrize('batch_frames', [None, 8, 64])
def test_frames_are_seen_once_for_all_expressions(backbone, batch_frames):
    model = build_model(backbone=backbone).eval()
    frames, texts = [], []
    handles = [
        model.backbone.register_forward_hook(
            # (N, T, 3, H, W) or (B, 3, H, W)
            lambda module, args, out: frames.append(args[0].shape[:-3].numel())
        ),
        model.text_encoder.register_forward_hook(
            lambda module, args, out: texts.append(len(args[0].ids))
        ),
    ]
    video = noise(10)
    together = run(model, video, TEXTS, window=4, batch_frames=batch_frames)
    for handle in handles:
        handle.remove()
    assert frames == [4, 4, 2]  # once a window
    assert texts == [len(TEXTS)]
    for e, text in enumerate(TEXTS):
        alone = run(model, video, [text], window=4)
        assert_equal_results(alone, together, rows=[e])


def test_it_is_what_predict_says(monkeypatch, model):
    """Windows, masks and boxes are those of the model on a data set."""
    video = noise(6, 32, 48)
    results = run(model, video, TEXTS[1:2], window=4)
    monkeypatch.setattr(model, 'predictor', Predictor(window=4))
    sample = TrackDataSample(metainfo=dict(text=TEXTS[1]))
    sample.video_data_samples = [
        DetDataSample(metainfo=dict(img_shape=(32, 48), ori_shape=(32, 48)))
        for _ in video
    ]
    clip = torch.from_numpy(video).permute(0, 3, 1, 2)
    with torch.no_grad():
        [predicted] = model.test_step(
            {'inputs': [clip], 'data_samples': [sample]}
        )
    for result, frame in zip(
        results, predicted.video_data_samples, strict=True
    ):
        instances = frame.pred_track_instances
        assert (result.masks == instances.masks.numpy()).all()
        np.testing.assert_allclose(
            result.window_scores, instances.scores, rtol=1e-5
        )
        np.testing.assert_allclose(
            result.boxes,
            instances.bboxes.clamp(min=0).clamp(
                max=torch.tensor([48.0, 32, 48, 32])
            ),
            atol=1e-3,
        )


def test_scores_of_frames_average_to_that_of_the_window(model):
    results = run(model, noise(6), TEXTS, window=3)
    for window in range(2):
        part = [r for r in results if r.window == window]
        np.testing.assert_allclose(
            np.mean([r.scores for r in part], 0),
            part[0].window_scores,
            rtol=1e-5,
        )


def test_linked_windows_choose_among_all_queries(model):
    seen = []
    hook = model.head.mask_head.register_forward_hook(
        lambda module, args, out: seen.append(args[1].shape[1])
    )
    results = run(model, noise(10), TEXTS, window=4, link='overlap')
    hook.remove()
    assert len(results) == 10
    assert set(seen) == {model.queries.num_queries}
    # one window has nothing to be linked with
    alone = run(model, noise(4), TEXTS, window=4)
    linked = run(model, noise(4), TEXTS, window=4, link='overlap')
    assert_equal_results(alone, linked)


def test_thresholds(model):
    video = noise(3)
    plain = run(model, video, TEXTS)
    none = run(model, video, TEXTS, score_thr=1.0)
    assert not any(r.masks.any() for r in none)
    low, high = (
        sum(r.masks.sum() for r in run(model, video, TEXTS, mask_thr=thr))
        for thr in (0.01, 0.99)
    )
    assert high <= sum(r.masks.sum() for r in plain) <= low
    assert high < low


@pytest.mark.parametrize('half', ['bf16', 'fp16'])
def test_low_precision(model, half):
    video = noise(4)
    exact = run(model, video, TEXTS)
    rough = run(model, video, TEXTS, precision=half)
    for a, b in zip(exact, rough, strict=True):
        assert b.scores.dtype == np.float32
        np.testing.assert_allclose(a.scores, b.scores, atol=0.05)
        assert (a.scores != b.scores).any()


@pytest.mark.parametrize('amx', [False, True])
def test_precision_by_processor(model, monkeypatch, amx):
    precision._fastest_precision.cache_clear()
    monkeypatch.setattr(precision, 'has_amx', lambda: amx)
    chosen = Predictor(precision='auto').resolved(torch.device('cpu'))
    assert chosen.precision == ('bf16' if amx else 'fp32')
    video = noise(4)
    assert_equal_results(
        run(model, video, TEXTS, precision='auto'),
        run(model, video, TEXTS, precision=chosen.precision),
    )
    precision._fastest_precision.cache_clear()


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (dict(window=0), 'window must be at least 1'),
        (dict(link='both'), "link must be one of .* got 'both'"),
        (dict(precision='int8'), 'precision must be one of'),
        (dict(mask_thr=1.0), 'mask_thr must be in'),
        (dict(score_thr=2.0), 'score_thr must be in'),
        (dict(overlap=3), "link='overlap' only"),
        (dict(window=4, link='overlap', overlap=4), '4 frames cannot be link'),
        (dict(window=1, link='overlap'), '1 frames cannot be linked'),
    ],
)
def test_options_are_checked(model, options, reason):
    with pytest.raises(ValueError, match=reason):
        Predictor(**options).resolved(torch.device('cpu'))


def test_an_interrupt_ends_all_threads(model):
    results = segment_frames(
        model, open_source(noise(50)), TEXTS[:1], same, Predictor(window=2)
    )
    next(results)
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert not threads()
