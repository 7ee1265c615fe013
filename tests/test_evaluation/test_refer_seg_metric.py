# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json
import os

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from referformer.errors import ConfigError, DataError
from referformer.evaluation.functional.segm import (
    expression_scores,
    sentence_scores,
)
from referformer.evaluation.metrics import ReferSegMetric
from referformer.formats.coco import (
    read_candidates,
    read_truths,
)
from referformer.structures.masks import FrameGeometry, RLEMasks, SoftMasks

from .helpers import SHAPE, random_masks

NUM = 7


def box_of(mask):
    rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    x, y, w, h = mask_utils.toBbox(rle).tolist()
    return [x, y, x + w, y + h]


class Sentences:
    """Clips of three frames of which the middle one is annotated."""

    def __init__(self, num=NUM, queries=3, seed=0, num_frames=3):
        rng = np.random.default_rng(seed)
        self.num_frames = num_frames
        self.truths, self.preds, self.scores = [], [], []
        for index in range(num):
            truth = random_masks(rng, 1)[0]
            near = np.roll(truth, rng.integers(0, 6), axis=1)
            masks = random_masks(rng, queries)
            masks[index % 2] = near
            self.truths.append(truth)
            self.preds.append(masks)
            self.scores.append(np.sort(rng.random(queries))[::-1].copy())

    def __len__(self):
        return len(self.truths)

    def sample(self, index, subset=None, boxes=False):
        frames = [
            DetDataSample(metainfo={'ori_shape': SHAPE})
            for _ in range(self.num_frames)
        ]
        truth, masks = self.truths[index], self.preds[index]
        frame = frames[self.num_frames // 2]
        frame.gt_instances = InstanceData(
            masks=BitmapMasks(
                truth[None].astype(np.uint8)[: int(truth.any())], *SHAPE
            )
        )
        frame.pred_track_instances = InstanceData(
            masks=torch.from_numpy(masks),
            scores=torch.from_numpy(self.scores[index]).float(),
            bboxes=torch.tensor([box_of(mask) for mask in masks]).float(),
        )
        facts = {
            'video_id': f'video{index // 2}',
            'exp_id': str(index),
            'text': 'a thing',
            'image_id': f'v_{index}',
        }
        if self.num_frames > 1:
            facts['annotated_position'] = self.num_frames // 2
        if boxes:
            facts['ori_bbox'] = box_of(truth)
        if subset:
            facts['subset'] = subset
        sample = TrackDataSample(metainfo=facts)
        sample.video_data_samples = frames
        return sample.to_dict()

    def write_truths(self, path):
        images, annotations = [], []
        for index, truth in enumerate(self.truths):
            rle = mask_utils.encode(np.asfortranarray(truth, np.uint8))
            rle = {'size': list(SHAPE), 'counts': rle['counts'].decode()}
            x1, y1, x2, y2 = box_of(truth)
            name = f'v_{index}'
            images.append({'id': name, 'height': SHAPE[0], 'width': SHAPE[1]})
            annotations.append(
                {
                    'id': index,
                    'image_id': name,
                    'segmentation': rle,
                    'area': int(truth.sum()),
                    'bbox': [x1, y1, x2 - x1, y2 - y1],
                }
            )
        path.write_text(
            json.dumps({'images': images, 'annotations': annotations})
        )
        return path


def run(metric, samples):
    samples = list(samples)
    for sample in samples:
        metric.process(None, [sample])
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('queries', ['all', 'best'])
def test_predictions_from_the_file_score_the_same(tmp_path, queries):
    clips = Sentences()
    outfile = tmp_path / 'predictions.json'
    metric = ReferSegMetric('a2d', queries=queries, outfile=str(outfile))
    scores = run(metric, map(clips.sample, range(NUM)))
    truths = read_truths(clips.write_truths(tmp_path / 'gt.json'))
    again = sentence_scores(truths, read_candidates(outfile, truths), queries)
    # "none of this size" is left out
    again = {f'refer/{k}': 100 * v for k, v in again.items() if v >= 0}
    assert scores == again
    assert 0 < scores['refer/mAP 0.5:0.95'] < 100
    assert not any('bbox' in name for name in scores)


def test_refcoco_from_the_file_too(tmp_path):
    clips = Sentences(num_frames=1)
    outfile = tmp_path / 'predictions.json'
    metric = ReferSegMetric('refcoco', outfile=str(outfile))
    scores = run(metric, (clips.sample(i, boxes=True) for i in range(NUM)))
    truths = read_truths(clips.write_truths(tmp_path / 'gt.json'))
    again = expression_scores(truths, read_candidates(outfile, truths))
    assert scores == {f'refer/{k}': 100 * v for k, v in again.items()}
    assert 0 < scores['refer/REC P@0.5'] < 100
    assert 0 < scores['refer/RIS overall_iou'] < 100


def test_through_the_evaluator_and_in_one_batch():
    clips = Sentences()
    expected = run(ReferSegMetric('jhmdb'), map(clips.sample, range(NUM)))
    metric = ReferSegMetric('jhmdb')
    metric.process(None, [clips.sample(i) for i in range(NUM)][::-1])
    # One entry a batch, so that gathering may count items.
    assert len(metric.results) == 1
    assert metric.evaluate(NUM) == expected
    evaluator = Evaluator({'type': 'ReferSegMetric', 'kind': 'a2d'})
    for index in range(NUM):
        evaluator.process([clips.sample(index)])
    assert evaluator.evaluate(NUM) == expected


@pytest.mark.parametrize('kind', ['a2d', 'refcoco'])
def test_results_go_through_json(tmp_path, kind):
    # That is how an interrupted test is taken up again.
    clips = Sentences(num_frames=1)
    files = []
    scores = []
    for name, note in (('one', lambda x: x), ('two', json.dumps)):
        metric = ReferSegMetric(kind, outfile=str(tmp_path / name))
        for index in range(NUM):
            metric.process(None, [clips.sample(index, 'part', boxes=True)])
        noted = note(metric.results)
        if isinstance(noted, str):
            metric.results = json.loads(noted)
        scores.append(metric.evaluate(NUM))
        files.append((tmp_path / name).read_bytes())
    assert scores[0] == scores[1]
    assert files[0] == files[1]


def test_only_the_annotated_frame_counts():
    clips = Sentences(1)
    sample = clips.sample(0)
    expected = run(ReferSegMetric('a2d'), [sample])
    blank = InstanceData(
        masks=torch.ones(3, *SHAPE, dtype=torch.bool), scores=torch.ones(3)
    )
    sample['video_data_samples'][0].pred_track_instances = blank
    assert run(ReferSegMetric('a2d'), [sample]) == expected
    sample['annotated_position'] = 0
    with pytest.raises(ConfigError, match='no ground truth masks'):
        run(ReferSegMetric('a2d'), [sample])
    del sample['annotated_position']
    with pytest.raises(
        ConfigError, match="3 frames but no 'annotated_position'"
    ):
        run(ReferSegMetric('a2d'), [sample])


def test_lazy_masks_score_the_same():
    clips = Sentences(num_frames=1)
    samples = [clips.sample(i, boxes=True) for i in range(NUM)]
    expected = run(ReferSegMetric('refcoco'), samples)
    for index, sample in enumerate(samples):
        frame = sample['video_data_samples'][0]
        rle = mask_utils.encode(
            np.asfortranarray(clips.truths[index][..., None], np.uint8)
        )
        frame.gt_instances = InstanceData(masks=RLEMasks(rle, SHAPE))
        logits = torch.from_numpy(clips.preds[index]).float() - 0.5
        frame.pred_track_instances.masks = SoftMasks(
            logits, FrameGeometry(SHAPE, SHAPE, 1)
        )
    assert run(ReferSegMetric('refcoco'), samples) == expected


def test_nothing_found_counts_as_empty():
    clips = Sentences(2)
    samples = [clips.sample(0), clips.sample(1)]
    frame = samples[1]['video_data_samples'][1]
    frame.pred_track_instances = frame.pred_track_instances[:0]
    scores = run(ReferSegMetric('a2d'), samples)
    alone = run(ReferSegMetric('a2d'), samples[:1])
    assert alone['refer/mean_iou'] > 1
    assert scores['refer/mean_iou'] == pytest.approx(
        alone['refer/mean_iou'] / 2, abs=1e-3
    )


def best_only(sample):
    """The sample of a model that keeps its best prediction."""
    for frame in sample['video_data_samples']:
        found = frame.get('pred_track_instances')
        if found is not None:
            frame.pred_track_instances = found[:1]
    return sample


@pytest.mark.parametrize('kind', ['a2d', 'jhmdb'])
def test_one_prediction_is_not_all_of_them(kind):
    clips = Sentences()
    samples = [best_only(clips.sample(i)) for i in range(NUM)]
    with pytest.raises(ConfigError, match=r"selector\.topk=5.*queries='best'"):
        run(ReferSegMetric(kind), samples)
    # The other protocol wants no more; nor does RefCOCO, which has no AP.
    run(ReferSegMetric(kind, queries='best'), samples)
    samples = [best_only(clips.sample(i, boxes=True)) for i in range(NUM)]
    run(ReferSegMetric('refcoco'), samples)
    # One sentence with two is enough: it is not the model that keeps one.
    run(ReferSegMetric(kind), [*samples[1:], clips.sample(0)])


def test_a_long_test_with_one_prediction_stops_early():
    sample = best_only(Sentences(1).sample(0))
    metric = ReferSegMetric('a2d')
    for index in range(49):
        metric.process(None, [{**sample, 'exp_id': str(index)}])
    with pytest.raises(ConfigError, match="queries='all'"):
        metric.process(None, [{**sample, 'exp_id': 'last'}])


def test_subsets_are_scored_apart(tmp_path):
    one, two = Sentences(4, num_frames=1), Sentences(3, seed=1, num_frames=1)
    # The same names in both: they are different sentences all the same.
    samples = [one.sample(i, 'refcoco_val', boxes=True) for i in range(4)]
    samples += [two.sample(i, 'refcoco+_val', boxes=True) for i in range(3)]
    metric = ReferSegMetric('refcoco', outfile=str(tmp_path / 'out.json'))
    scores = run(metric, samples)
    for clips, subset in ((one, 'refcoco_val'), (two, 'refcoco+_val')):
        alone = run(
            ReferSegMetric('refcoco'),
            (clips.sample(i, boxes=True) for i in range(len(clips))),
        )
        for name, value in alone.items():
            name = name.removeprefix('refer/')
            assert scores[f'refer/{subset}/{name}'] == value
        entries = json.loads((tmp_path / f'out.{subset}.json').read_text())
        assert len(entries) == 3 * len(clips)


def test_repeats_count_once(caplog):
    clips = Sentences(3)
    samples = [clips.sample(i) for i in range(3)]
    expected = run(ReferSegMetric('a2d'), samples)
    assert run(ReferSegMetric('a2d'), [*samples, samples[0]]) == expected


def test_wrong_input_is_named():
    clips = Sentences(2)
    for kwargs, message in (
        ({'kind': 'coco'}, 'kind'),
        ({'kind': 'a2d', 'queries': 'some'}, 'queries'),
    ):
        with pytest.raises(ConfigError, match=message):
            ReferSegMetric(**kwargs)
    with pytest.raises(DataError, match='no samples'):
        ReferSegMetric('a2d').compute_metrics([])
    sample = clips.sample(0)
    frame = sample['video_data_samples'][1]
    frame.pred_track_instances.scores[1] = float('nan')
    with pytest.raises(DataError, match=r'nan.*diverged'):
        run(ReferSegMetric('a2d'), [sample])
    samples = [clips.sample(0), clips.sample(1)]
    samples[1]['image_id'] = samples[0]['image_id']
    with pytest.raises(DataError, match='image_id'):
        run(ReferSegMetric('a2d'), samples)
    with pytest.raises(ConfigError, match='0 true boxes'):
        run(ReferSegMetric('refcoco'), [clips.sample(0)])


def evaluate(clips):
    metric = ReferSegMetric('a2d', outfile='predictions.json')
    # round_up repeats the first clips until all processes have equally many.
    for index in DefaultSampler(clips, shuffle=False, round_up=True):
        metric.process(None, [clips.sample(index)])
    return metric.evaluate(len(clips))


def run_rank(rank, world_size, folder):
    os.chdir(folder)
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=world_size,
    )
    scores = evaluate(Sentences())
    (folder / f'rank{rank}.json').write_text(json.dumps(scores))
    dist.destroy_process_group()


def test_two_processes_score_like_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alone = evaluate(Sentences())
    predictions = (tmp_path / 'predictions.json').read_bytes()
    (tmp_path / 'two').mkdir()
    arguments = (2, tmp_path / 'two')
    mp.start_processes(run_rank, arguments, 2, start_method='fork')
    for rank in range(2):
        text = (tmp_path / 'two' / f'rank{rank}.json').read_text()
        assert json.loads(text) == alone
    assert (tmp_path / 'two/predictions.json').read_bytes() == predictions
