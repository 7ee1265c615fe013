# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from PIL import Image
from pycocotools import mask as mask_utils

from referformer.errors import ConfigError, DataError, MissingDataError
from referformer.evaluation.functional import merge_objects
from referformer.evaluation.metrics import RefDAVISMetric
from referformer.registry import METRICS
from referformer.structures.masks import FrameGeometry, RLEMasks, SoftMasks

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools'))
import eval_masks

SHAPE = (40, 60)
NUM_FRAMES = 3


def save(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette(list(range(256)) * 3)
    image.save(path)


class Videos:
    """Two videos: true label maps with void, soft predictions of 4 people."""

    def __init__(self, root, num_objects=(1, 3)):
        rng = np.random.default_rng(0)
        self.root = root
        # One lies deeper, as the videos of ReVOS do.
        self.names = ['video0', 'set/video1'][: len(num_objects)]
        self.truths, self.logits, expressions = {}, {}, {}
        for name, number in zip(self.names, num_objects, strict=True):
            maps = np.zeros((NUM_FRAMES, *SHAPE), np.uint8)
            # One object more than anybody describes.
            for k in range(number + 1):
                for t in range(NUM_FRAMES):
                    top, left = rng.integers(0, 25, 2)
                    maps[t, top : top + 14, left : left + 18] = k + 1
            maps[:, -3:, -9:] = 255
            self.truths[name] = maps
            for t, labels in enumerate(maps):
                save(self.mask_path(name, t), labels)
            self.logits[name] = rng.normal(
                0, 1, (4 * number, NUM_FRAMES, *SHAPE)
            ).astype(np.float32)
            for e, logits in enumerate(self.logits[name]):
                logits += np.where(maps == e // 4 + 1, 1.5, -1.5)
            expressions[name] = {
                'frames': [f'{t:05d}' for t in range(NUM_FRAMES)],
                'expressions': {
                    str(e): {'exp': 'a thing', 'obj_id': str(e // 4 + 1)}
                    for e in range(4 * number)
                },
            }
        path = root / 'meta_expressions/valid/meta_expressions.json'
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({'videos': expressions}))

    def mask_path(self, name, t):
        return self.root / f'valid/Annotations/{name}/{t:05d}.png'

    def samples(self, name):
        """One video as the model hands it over: all its expressions."""
        return [
            self.sample(name, e).to_dict()
            for e in range(len(self.logits[name]))
        ]

    def sample(self, name, e):
        frames = []
        for t, logits in enumerate(self.logits[name][e]):
            frame = DetDataSample(
                metainfo={
                    'frame_name': f'{t:05d}',
                    'ori_shape': SHAPE,
                    'mask_path': str(self.mask_path(name, t)),
                }
            )
            truth = self.truths[name][t] == e // 4 + 1
            rle = mask_utils.encode(np.asfortranarray(truth, np.uint8))
            frame.gt_instances = InstanceData(masks=RLEMasks([rle], SHAPE))
            frame.pred_track_instances = InstanceData(
                masks=SoftMasks(
                    torch.from_numpy(logits)[None],
                    FrameGeometry(SHAPE, SHAPE, 1),
                )
            )
            frames.append(frame)
        sample = TrackDataSample(
            metainfo={'video_id': name, 'exp_id': str(e), 'text': 'a thing'}
        )
        sample.video_data_samples = frames
        return sample

    def evaluate(self, names=None, **kwargs):
        metric = METRICS.build({'type': 'RefDAVISMetric', **kwargs})
        for name in names or self.names:
            metric.process(None, self.samples(name))
        return metric.evaluate(len(names or self.names))


@pytest.fixture
def videos(tmp_path):
    return Videos(tmp_path / 'data')


def tool(videos, pred, protocol, out):
    args = ['ref-davis', '--gt', videos.root, '--pred', pred, '--jobs', 1]
    args += ['--protocol', protocol, '--out', out]
    eval_masks.main(list(map(str, args)))
    return json.loads(out.read_text())


def flat(scores):
    """Scores of the tool in the words of the metric."""
    parts = {'': scores}
    parts |= {f'{k}/': v for k, v in scores['per_annotator'].items()}
    return {
        f'refer/{prefix}{key}': 100 * part[key]
        for prefix, part in parts.items()
        for key in ('J&F', 'J', 'F', 'tIoU', 'vIoU')
        if key in part
    }


def test_published_protocol_scores_like_the_files_it_writes(videos, tmp_path):
    scores = videos.evaluate(
        protocol='published',
        out_dir=str(tmp_path / 'pred'),
        outfile=str(tmp_path / 'table.json'),
    )
    written = tool(videos, tmp_path / 'pred', 'published', tmp_path / 'o.json')
    assert scores == flat(written)
    assert len(scores) == 15
    assert len(set(scores.values())) > 10
    assert 20 < scores['refer/J&F'] < 95
    table = json.loads((tmp_path / 'table.json').read_text())
    assert table['protocol'] == 'published'
    assert table['per_annotator'] == written['per_annotator']
    with Image.open(tmp_path / 'pred/anno_3/set/video1/00002.png') as image:
        assert image.mode == 'P'
        assert set(np.unique(image)) == {0, 1, 2, 3}
        assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_objects_that_come_late_are_background(
    videos, tmp_path, caplog, monkeypatch
):
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'handlers', [caplog.handler])
    maps = videos.truths['video0']
    maps[0][maps[0] == 2] = 0
    save(videos.mask_path('video0', 0), maps[0])
    scores = videos.evaluate(
        protocol='published',
        out_dir=str(tmp_path / 'pred'),
        outfile=str(tmp_path / 'table.json'),
    )
    assert 'frame of video0 has ids up to 1, but later' in caplog.text
    assert 'video1' not in caplog.text
    written = tool(videos, tmp_path / 'pred', 'published', tmp_path / 'o.json')
    assert scores == flat(written)
    objects = written['per_annotator']['anno_0']['per_object']
    assert [name for name in objects if 'video0' in name] == ['video0_1']


@pytest.mark.parametrize('form', ['json', 'jsonl'])
def test_label_maps_in_one_file_for_each_annotator(videos, tmp_path, form):
    scores = videos.evaluate(
        protocol='published', out_dir=str(tmp_path / 'pred'), form=form
    )
    written = {path.name for path in (tmp_path / 'pred').iterdir()}
    assert written == {'parts', *(f'anno_{i}.{form}' for i in range(4))}
    found = tool(videos, tmp_path / 'pred', 'published', tmp_path / 'o.json')
    assert scores == flat(found)
    with pytest.raises(ConfigError, match=r"form must be .* got 'gif'"):
        RefDAVISMetric('published', form='gif')


def test_per_expression_protocol_scores_like_files(videos, tmp_path):
    scores = videos.evaluate(protocol='per-expression')
    for name, expressions in videos.logits.items():
        for e, logits in enumerate(expressions):
            for t, values in enumerate(logits):
                mask = (values > 0).astype(np.uint8) * 255
                path = tmp_path / f'pred/{name}/{e}/{t:05d}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(path)
    written = tool(
        videos, tmp_path / 'pred', 'per-expression', tmp_path / 'o.json'
    )
    assert scores == pytest.approx(flat(written), abs=1e-10)
    assert scores['refer/J&F'] != videos.evaluate(protocol='published')


def test_swapped_objects_are_forgiven_by_one_protocol_only(videos):
    before = {
        protocol: videos.evaluate(protocol=protocol)['refer/J&F']
        for protocol in ('published', 'per-expression')
    }
    logits = videos.logits['set/video1']
    videos.logits['set/video1'] = np.concatenate(
        [logits[4:8], logits[:4], logits[8:]]
    )
    after = {
        protocol: videos.evaluate(protocol=protocol)['refer/J&F']
        for protocol in before
    }
    assert after['published'] == pytest.approx(before['published'], abs=1e-9)
    assert after['per-expression'] < before['per-expression'] - 10


def test_objects_compete_for_pixels():
    # Columns: nobody, below the threshold, one, the likelier, a tie, at it.
    first = np.array([[0.0, 0.49, 0.6, 0.7, 0.8, 0.5]], np.float32)
    second = np.array([[0.0, 0.3, 0.1, 0.9, 0.8, 0.2]], np.float32)
    labels = merge_objects([first, second])
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 0, 1, 2, 1, 1]]
    # What the protocol says, step by step.
    rng = np.random.default_rng(0)
    objects = rng.random((4, 30, 50), np.float32)
    silenced = np.where(objects < 0.5, 0, objects)
    background = np.full((1, 30, 50), 0.1, np.float32)
    expected = np.concatenate([background, silenced]).argmax(axis=0)
    assert np.array_equal(merge_objects(objects), expected)


def test_one_batch_of_all_and_repeats(videos, caplog):
    expected = videos.evaluate(protocol='published')
    metric = RefDAVISMetric('published')
    samples = [s for name in videos.names for s in videos.samples(name)]
    metric.process(None, samples)
    assert len(metric.results) == 1
    metric.process(None, videos.samples('video0'))
    assert metric.evaluate(3) == expected


def test_nothing_found(videos):
    samples = videos.samples('video0')
    for sample in samples:
        for frame in sample['video_data_samples']:
            frame.pred_track_instances = frame.pred_track_instances[:0]
    metric = RefDAVISMetric('published')
    metric.process(None, samples)
    assert metric.evaluate(1)['refer/J'] == 0


def test_errors(videos):
    with pytest.raises(
        ConfigError, match=r"protocol must be one of .* got 'expression'"
    ):
        RefDAVISMetric('expression')
    with pytest.raises(ConfigError, match='add a ReferSubmission'):
        RefDAVISMetric('per-expression', out_dir='out')
    metric = RefDAVISMetric('published')
    samples = videos.samples('set/video1')
    with pytest.raises(ConfigError, match='set group_by_video=True'):
        metric.process(None, samples[:1])
    with pytest.raises(ConfigError, match='set group_by_video=True'):
        metric.process(None, samples[1:5])
    frame = samples[0]['video_data_samples'][1]
    frame.set_metainfo({'mask_path': None})
    with pytest.raises(
        ConfigError, match=r'1 of set/video1/0 has no .mask_path'
    ):
        metric.process(None, samples)
    frame.set_metainfo({'mask_path': str(videos.root / 'gone.png')})
    with pytest.raises(MissingDataError, match=r'gone\.png does not exist'):
        metric.process(None, samples)
    with pytest.raises(DataError, match='got no samples'):
        RefDAVISMetric('published').compute_metrics([])
    masks = np.zeros((1, *SHAPE), bool)
    frame = videos.samples('video0')[0]
    frame['video_data_samples'][0].pred_track_instances.masks = masks
    with pytest.raises(ConfigError, match='group_by_video=True'):
        metric.process(None, [frame, *videos.samples('video0')[1:]])
