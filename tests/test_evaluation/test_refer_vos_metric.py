# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from referformer.errors import ConfigError, DataError
from referformer.evaluation.functional import sequence_scores
from referformer.evaluation.metrics import ReferVOSMetric, predicted_clip
from referformer.formats.rle import decode_union
from referformer.registry import METRICS
from referformer.structures.masks import RLEMasks

from .helpers import SHAPE, ClipSet, make_sample, random_masks


def run(metric, samples):
    for sample in samples:
        metric.process(None, [sample])
    return metric.evaluate(len(samples))


def expected_scores(clips):
    pairs = [
        sequence_scores(pred, gt)
        for pred, gt in zip(clips.preds, clips.gts, strict=True)
    ]
    j = 100 * np.mean([scores.j.mean() for scores in pairs])
    f = 100 * np.mean([scores.f.mean() for scores in pairs])
    t_iou, v_iou = [], []
    for pred, gt, scores in zip(clips.preds, clips.gts, pairs, strict=True):
        shown, found = (masks.any(axis=(1, 2)) for masks in (gt, pred))
        t_iou.append((shown & found).sum() / (shown | found).sum())
        v_iou.append(scores.j[shown & found].sum() / (shown | found).sum())
    return {
        'refer/J&F': (j + f) / 2,
        'refer/J': j,
        'refer/F': f,
        'refer/tIoU': 100 * np.mean(t_iou),
        'refer/vIoU': 100 * np.mean(v_iou),
    }


def test_mean_over_expressions():
    clips = ClipSet()
    samples = [clips.sample(index) for index in range(len(clips))]
    scores = run(ReferVOSMetric(), samples)
    assert scores == pytest.approx(expected_scores(clips))
    # Neither the order of the samples nor the batches matter.
    metric = ReferVOSMetric()
    metric.process(None, samples[3:])
    metric.process(None, samples[2::-1])
    assert metric.evaluate(len(clips)) == scores


def test_through_the_evaluator():
    clips = ClipSet(2)
    evaluator = Evaluator({'type': 'referformer.ReferVOSMetric'})
    for key, pred, gt in zip(clips.keys, clips.preds, clips.gts, strict=True):
        evaluator.process([make_sample(*key, pred, gt)])
    assert evaluator.evaluate(2) == pytest.approx(expected_scores(clips))


def test_registered_and_prefix():
    metric = METRICS.build({'type': 'ReferVOSMetric', 'prefix': 'val'})
    clips = ClipSet(1)
    assert set(run(metric, [clips.sample(0)])) == {
        'val/J&F',
        'val/J',
        'val/F',
        'val/tIoU',
        'val/vIoU',
    }


def test_absent_object():
    gts = np.zeros((2, *SHAPE), bool)
    preds = gts.copy()
    preds[1, 3:9, 3:9] = True
    # Nothing predicted where nothing is: right. Something: wrong.
    sample = make_sample('v', '0', preds, gts).to_dict()
    assert run(ReferVOSMetric(), [sample])['refer/J&F'] == 50


def test_no_prediction_is_an_empty_mask():
    gts = random_masks(np.random.default_rng(0), 3)
    sample = make_sample('v', '0', gts, gts)
    for frame in sample.video_data_samples:
        frame.pred_track_instances = InstanceData(
            masks=torch.zeros(0, *SHAPE, dtype=torch.bool)
        )
    empty = make_sample('v', '0', np.zeros_like(gts), gts)
    assert run(ReferVOSMetric(), [sample.to_dict()]) == run(
        ReferVOSMetric(), [empty.to_dict()]
    )


def test_only_the_best_prediction_counts():
    rng = np.random.default_rng(1)
    gts = random_masks(rng, 2)
    sample = make_sample('v', '0', gts, gts)
    for frame in sample.video_data_samples:
        masks = frame.pred_track_instances.masks
        frame.pred_track_instances = InstanceData(
            masks=torch.cat([masks, ~masks])
        )
    assert run(ReferVOSMetric(), [sample.to_dict()])['refer/J&F'] == 100


def test_several_objects_are_one_referent():
    gts = np.zeros((1, *SHAPE), bool)
    gts[0, 2:10, 2:10] = True
    gts[0, 20:30, 30:50] = True
    sample = make_sample('v', '0', gts, gts)
    instances = sample.video_data_samples[0].gt_instances
    parts = np.stack([gts[0], gts[0]]).astype(np.uint8)
    parts[0, 15:], parts[1, :15] = 0, 0
    sample.video_data_samples[0].gt_instances = InstanceData(
        masks=type(instances.masks)(parts, *SHAPE)
    )
    assert run(ReferVOSMetric(), [sample.to_dict()])['refer/J&F'] == 100


def test_masks_are_not_kept():
    metric = ReferVOSMetric()
    metric.process(None, [ClipSet(1).sample(0)])
    # Nor does anything else that JSON, hence a resumed test, cannot hold.
    assert len(json.dumps(metric.results)) < 400


def encoded(sample):
    """The sample with run-length encoded truth, as test sets have it."""
    for frame in sample['video_data_samples']:
        masks = frame.gt_instances.masks
        rles = [
            mask_utils.encode(np.asfortranarray(mask))
            for mask in masks.to_ndarray()
        ]
        frame.gt_instances = InstanceData(masks=RLEMasks(rles, SHAPE))
    return sample


def test_expressions_of_one_object_share_its_outlines(monkeypatch):
    rng = np.random.default_rng(3)
    gts = [random_masks(rng, 4), random_masks(rng, 4)]
    samples = [
        encoded(
            make_sample(
                'v', str(e), random_masks(rng, 4), gts[e % 2]
            ).to_dict()
        )
        for e in range(6)
    ]
    alone = run(ReferVOSMetric(), samples)
    decoded = []

    def decode(rles, shape):
        decoded.append(rles)
        return decode_union(rles, shape)

    monkeypatch.setattr(predicted_clip, 'decode_union', decode)
    metric = ReferVOSMetric()
    metric.process(None, samples)
    # Two objects in four frames at most; absent ones are not decoded.
    assert 4 < len(decoded) <= 2 * 4
    assert metric.evaluate(6) == alone


def test_samples_repeated_by_the_sampler_are_dropped():
    clips = ClipSet(3)
    samples = [clips.sample(index) for index in (0, 1, 2, 0)]
    metric = ReferVOSMetric()
    metric.process(None, samples)
    assert metric.evaluate(3) == pytest.approx(expected_scores(clips))
    # Even if they get through, an expression counts once.
    metric.process(None, samples)
    assert metric.evaluate(4) == pytest.approx(expected_scores(clips))


def test_table(tmp_path):
    clips = ClipSet(3)
    path = tmp_path / 'new' / 'table.json'
    samples = [clips.sample(index) for index in range(3)]
    scores = run(ReferVOSMetric(outfile=str(path)), samples)
    table = json.loads(path.read_text())
    assert table['J&F'] == scores['refer/J&F']
    assert table['num_expressions'] == 3
    rows = table['per_expression']
    assert list(rows) == ['video0/0', 'video0/1', 'video1/0']
    assert np.mean([row['J&F'] for row in rows.values()]) == pytest.approx(
        table['J&F']
    )
    assert rows['video1/0']['num_frames'] == 3
    assert rows['video1/0']['text'] == 'a thing'


def described(sample, **attributes):
    """The sample with attributes of its expression."""
    return {**sample, 'attributes': attributes}


def test_means_by_attribute(tmp_path):
    clips = ClipSet()
    kinds = ['static', 'dynamic', 'static', 'static', 'dynamic']
    samples = [
        described(clips.sample(index), type=kind)
        for index, kind in enumerate(kinds)
    ]
    path = tmp_path / 'table.json'
    scores = run(ReferVOSMetric(group_by='type', outfile=str(path)), samples)
    assert scores == run(ReferVOSMetric(group_by=['type']), samples[::-1])
    for kind in ('static', 'dynamic'):
        chosen = [
            sample
            for sample, value in zip(samples, kinds, strict=True)
            if value == kind
        ]
        for name, value in run(ReferVOSMetric(), chosen).items():
            name = name.removeprefix('refer/')
            assert scores[f'refer/type={kind}/{name}'] == value
    assert scores['refer/mean over type/J'] == pytest.approx(
        (scores['refer/type=static/J'] + scores['refer/type=dynamic/J']) / 2
    )
    rows = json.loads(path.read_text())['per_expression']
    assert rows['video0/1']['attributes'] == {'type': 'dynamic'}
    assert run(ReferVOSMetric(group_by=None), samples) == run(
        ReferVOSMetric(), samples
    )
    with pytest.raises(ConfigError, match='They have type; group by one of'):
        run(ReferVOSMetric(group_by='kind'), samples)
    for sample in samples:
        sample.pop('attributes')
    with pytest.raises(ConfigError, match='none at all; group by nothing'):
        run(ReferVOSMetric(group_by='kind'), samples)


def test_expressions_without_target():
    nothing = np.zeros((2, *SHAPE), bool)
    something = nothing.copy()
    something[1, 3:9, 3:9] = True
    samples = [
        make_sample('v', str(e), pred, gt).to_dict()
        for e, (pred, gt) in enumerate(
            [
                (nothing, nothing),
                (something, nothing),
                (something, something),
                (something, something),
                (nothing, something),
            ]
        )
    ]
    scores = run(ReferVOSMetric(), samples)
    assert scores['refer/N-acc'] == 50
    assert scores['refer/T-acc'] == pytest.approx(200 / 3)


def test_robustness_needs_the_whole_video():
    clips = ClipSet(2)
    samples = [clips.sample(index) for index in range(2)]
    metric = ReferVOSMetric(robustness=True)
    metric.process(None, samples)
    found = metric.evaluate(2)['refer/R']
    robust = []
    for own in range(2):
        for t, pred in enumerate(clips.preds[own]):
            false = (pred & ~clips.gts[own][t]).sum()
            objects = (clips.gts[0][t] | clips.gts[1][t]).sum()
            robust.append(max(1 - false / (objects + 1e-6), 0))
    assert found == pytest.approx(100 * np.mean(robust))
    with pytest.raises(ConfigError, match='group_by_video=True'):
        run(ReferVOSMetric(robustness=True), samples)


def test_no_ground_truth():
    clip = ClipSet(1)
    sample = make_sample('v', '7', clip.preds[0])
    message = r'of v/7 .*obj_id.* use ReferSubmission'
    with pytest.raises(ConfigError, match=message):
        ReferVOSMetric().process(None, [sample.to_dict()])
    # mmdet packs an instance container even without annotations.
    for frame in sample.video_data_samples:
        frame.gt_instances = InstanceData()
    with pytest.raises(ConfigError, match='use ReferSubmission'):
        ReferVOSMetric().process(None, [sample.to_dict()])


def test_bad_samples():
    clip = ClipSet(1)
    preds, gts = clip.preds[0], clip.gts[0]

    sample = make_sample('v', '0', preds, gts)
    sample.video_data_samples[0].pred_track_instances = InstanceData(
        masks=torch.rand(1, *SHAPE)
    )
    with pytest.raises(TypeError, match='v/0 are float32; threshold'):
        ReferVOSMetric().process(None, [sample.to_dict()])

    sample.video_data_samples[0].pred_track_instances = InstanceData(
        masks=torch.ones(1, 8, 9, dtype=torch.bool)
    )
    with pytest.raises(DataError, match=r'is 9 x 8 .* frame is 60 x 40'):
        ReferVOSMetric().process(None, [sample.to_dict()])

    sample = make_sample('v', '0', preds, gts)
    frame = sample.video_data_samples[1]
    frame.set_metainfo({'ori_shape': (80, 120)})
    frame.pred_track_instances = InstanceData(
        masks=torch.ones(1, 80, 120, dtype=torch.bool)
    )
    with pytest.raises(DataError, match='true mask of frame 1 of v/0'):
        ReferVOSMetric().process(None, [sample.to_dict()])

    sample = make_sample('v', '0', preds, gts)
    del sample.video_data_samples[0].pred_track_instances
    with pytest.raises(ConfigError, match='pred_track_instances'):
        ReferVOSMetric().process(None, [sample.to_dict()])

    sample = make_sample('v', '0', preds, gts).to_dict()
    del sample['exp_id']
    with pytest.raises(ConfigError, match='exp_id'):
        ReferVOSMetric().process(None, [sample])


def test_no_samples():
    with pytest.raises(DataError, match='no samples'):
        ReferVOSMetric().evaluate(0)
