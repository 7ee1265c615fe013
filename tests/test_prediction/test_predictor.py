# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""All ways of prediction agree, and run the network once."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from torch.utils._python_dispatch import TorchDispatchMode

from referformer.media.sources import open_source
from referformer.prediction import (
    Predictor,
    encode_video,
    predict_video,
    segment_frames,
)
from referformer.registry import MODELS
from referformer.structures import SequencePredictions
from referformer.testing import tiny_model_cfg

from ..test_models.helpers import build_model, randomise

TEXTS = ['the dog', 'a red circle on the left side', 'the small blue square']
SIZE = (32, 48)
EXACT = dict(rtol=0, atol=1e-6)


@pytest.fixture(scope='module')
def model():
    return build_model().eval()


@pytest.fixture(scope='module')
def video():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (9, *SIZE, 3), np.uint8)


def same(image):
    return image


def with_predictor(model, window=None, **settings):
    """The same weights, with a predictor of its own."""
    model = copy.copy(model)
    model.predictor = Predictor(window, **settings)
    return model


def sample_of(video, **facts):
    sample = TrackDataSample(metainfo=facts)
    sample.video_data_samples = [
        DetDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE))
        for _ in video
    ]
    return sample


def predict(model, video, samples):
    clip = torch.from_numpy(video).permute(0, 3, 1, 2)
    data = {'inputs': [clip] * len(samples), 'data_samples': samples}
    return model.test_step(data)


def predict_grouped(model, video, texts):
    facts = [dict(text=text, exp_id=str(e)) for e, text in enumerate(texts)]
    return predict(model, video, [sample_of(video, expressions=facts)])


def predict_ungrouped(model, video, texts):
    return predict(model, video, [sample_of(video, text=t) for t in texts])


def streamed(model, video, texts):
    """What the stream says, as data samples."""
    results = list(
        segment_frames(model, open_source(video), texts, same, model.predictor)
    )
    outputs = []
    for e, text in enumerate(texts):
        sample = sample_of(video, text=text)
        for frame, result in zip(
            sample.video_data_samples, results, strict=True
        ):
            frame.set_metainfo(
                dict(
                    scores=result.window_scores[e],
                    boxes=result.boxes[e],
                    masks=result.masks[e],
                    probabilities=result.soft_masks.probabilities()[e],
                )
            )
        outputs.append(sample)
    return outputs


# -- all ways of prediction agree ---------------------------------------------


@pytest.mark.parametrize('number', [1, 3])
@pytest.mark.parametrize(
    'settings',
    [
        {},
        dict(window=4),
        dict(window=4, batch_frames=64),
        dict(window=4, link='overlap'),
        dict(mask_thr=0.4, score_thr=0.5),
        dict(window=9, mask_thr=0.4),
    ],
    ids=str,
)
def test_all_ways_agree(model, video, settings, number):
    texts = TEXTS[:number]
    model = with_predictor(model, **settings)
    grouped = predict_grouped(model, video, texts)
    ungrouped = predict_ungrouped(model, video, texts)
    stream = streamed(model, video, texts)
    assert [sample.text for sample in grouped] == texts
    limits = torch.tensor([*SIZE[::-1]] * 2)
    for one, two, three in zip(grouped, ungrouped, stream, strict=True):
        for a, b, c in zip(
            one.video_data_samples,
            two.video_data_samples,
            three.video_data_samples,
            strict=True,
        ):
            a, b = a.pred_track_instances, b.pred_track_instances
            torch.testing.assert_close(a.scores, b.scores, **EXACT)
            np.testing.assert_allclose(a.scores[0], c.scores, **EXACT)
            torch.testing.assert_close(
                a.bboxes / limits, b.bboxes / limits, **EXACT
            )
            np.testing.assert_allclose(
                (a.bboxes[0] / limits).clamp(0, 1),
                c.boxes / limits.numpy(),
                **EXACT,
            )
            np.testing.assert_allclose(
                a.masks.probabilities()[0], c.probabilities, **EXACT
            )
            # no pixel lies as close to the threshold as that
            masks = a.masks.to_ndarray()
            assert (masks == b.masks.numpy()).all()
            assert (masks[0] == c.masks).all()
    assert any(
        frame.pred_track_instances.masks.to_ndarray().any()
        for sample in grouped
        for frame in sample.video_data_samples
    )


@pytest.mark.parametrize('topk', [1, 3])
def test_a_video_keeps_all_selected_sequences(video, topk):
    model = MODELS.build(tiny_model_cfg(topk=topk)).eval()
    randomise(model)
    for window in (None, 4):
        cut = with_predictor(model, window)
        for sample in predict_grouped(cut, video, TEXTS):
            for frame in sample.video_data_samples:
                assert frame.pred_track_instances.scores.shape == (topk,)


def test_the_config_sets_the_predictor(video):
    cfg = tiny_model_cfg()
    cfg['predictor'] = dict(window=4, link='overlap')
    model = MODELS.build(cfg).eval()
    seen = []
    model.backbone.register_forward_hook(
        lambda module, args, out: seen.append(len(args[0]))
    )
    predict_ungrouped(model, video, TEXTS[:1])
    assert seen == [4, 4, 3]  # windows share a frame


def test_a_video_shorter_than_the_overlap_is_seen_whole(model, video):
    model = with_predictor(model, link='overlap')
    for length in (1, 2):
        [sample] = predict_ungrouped(model, video[:length], TEXTS[:1])
        assert len(sample) == length
    unlinked = with_predictor(model)
    [expected] = predict_ungrouped(unlinked, video[:2], TEXTS[:1])
    for a, b in zip(sample, expected, strict=True):
        assert torch.equal(
            a.pred_track_instances.masks, b.pred_track_instances.masks
        )


def test_features_can_be_used_again(model, video):
    """Another expression needs no second pass over the frames."""
    calls = Counter()
    hook = model.backbone.register_forward_hook(
        lambda *_: calls.update(['backbone'])
    )
    predictor = Predictor(window=4)
    encoded = list(encode_video(model, open_source(video), same, predictor))
    assert [len(window.frames) for window, _ in encoded] == [4, 4, 1]
    first = list(predict_video(model, encoded, TEXTS[:1], predictor))
    second = list(predict_video(model, encoded, TEXTS[1:2], predictor))
    assert calls['backbone'] == 3
    hook.remove()
    for e, results in enumerate((first, second)):
        expected = segment_frames(
            model, open_source(video), TEXTS[e : e + 1], same, predictor
        )
        for a, b in zip(results, expected, strict=True):
            np.testing.assert_allclose(a.scores, b.scores, **EXACT)
            assert (a.masks == b.masks).all()


# -- cost ---------------------------------------------------------------------


class HostWaits(TorchDispatchMode):
    """Count what makes the host wait for a device.

    Copies to the host are no operations on a CPU, so calls are counted; the
    rest is seen as the operations that depend on values.
    """

    READS = ('_local_scalar_dense', 'nonzero', 'masked_select', 'unique')

    def __init__(self, monkeypatch):
        super().__init__()
        self.counts = Counter()
        for name in ('cpu', 'tolist'):
            monkeypatch.setattr(
                torch.Tensor, name, self._counting(name, monkeypatch)
            )

    def _counting(self, name, monkeypatch):
        original = getattr(torch.Tensor, name)

        def call(tensor, *args, **kwargs):
            self.counts[name] += 1
            return original(tensor, *args, **kwargs)

        return call

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in self.READS:
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


def count_waits(monkeypatch, predict, *args):
    with monkeypatch.context() as patches, HostWaits(patches) as waits:
        predict(*args)
    # transformers looks, once a video, whether words are padded
    assert waits.counts.pop('_local_scalar_dense', 0) <= 1
    return waits.counts


@pytest.mark.parametrize('batch_frames', [None, 64])
@pytest.mark.parametrize('window', [4, 8])
@pytest.mark.parametrize('number', [1, 4])
def test_one_copy_to_the_host_a_window(
    monkeypatch, model, window, number, batch_frames
):
    model = with_predictor(model, window=window, batch_frames=batch_frames)
    video = np.random.default_rng(0).integers(0, 256, (16, *SIZE, 3), np.uint8)
    texts = [f'the dog number {e}' for e in range(number)]
    counts = count_waits(monkeypatch, predict_grouped, model, video, texts)
    assert counts == {'cpu': 16 // window}


def test_the_counter_counts(monkeypatch):
    with monkeypatch.context() as patches, HostWaits(patches) as waits:
        x = torch.ones(3)
        x.sum().item()
        bool(x.any())
        x.cpu()
        x.tolist()
        x[x > 0]
    assert waits.counts['_local_scalar_dense'] == 2
    assert waits.counts['cpu'] == waits.counts['tolist'] == 1


def test_a_batch_of_clips_is_copied_once(monkeypatch, model, video):
    counts = count_waits(monkeypatch, predict_ungrouped, model, video, TEXTS)
    assert counts == {'cpu': 1}


# -- what travels -------------------------------------------------------------


def test_predictions_reach_the_host_as_they_are():
    gen = torch.Generator().manual_seed(0)
    shapes = [(2, 3), (2, 3), (2, 4, 3), (2, 4, 3, 4), (2, 4, 3, 2)]
    parts = [torch.rand(s, generator=gen) for s in [*shapes, (2, 4, 3, 5, 6)]]
    parts[1] = torch.tensor([[0, 64, 1], [2, 3, 99]])
    found = SequencePredictions(*parts)
    host = found._replace(masks=found.masks.bfloat16()).to_host()
    assert host.masks.dtype == torch.float32
    for name, expected in found._asdict().items():
        actual = getattr(host, name)
        assert actual.shape == expected.shape
        if name != 'masks':
            assert torch.equal(actual, expected)
    chosen = host.choose(torch.tensor([2, 0]))
    assert chosen.labels.tolist() == [[1], [2]]
    for name in ('frame_scores', 'boxes', 'points', 'masks'):
        part, whole = getattr(chosen, name), getattr(host, name)
        assert part.shape == (2, 4, 1, *whole.shape[3:])
        assert torch.equal(part[0, :, 0], whole[0, :, 2])
        assert torch.equal(part[1, :, 0], whole[1, :, 0])
