# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from referformer.errors import ConfigError, DataError
from referformer.evaluation.functional import sequence_scores
from referformer.evaluation.metrics import ReferSubmission, ReferVOSMetric
from referformer.formats.records import read_records
from referformer.formats.rle import decode_union, to_rle
from referformer.registry import METRICS

from .helpers import ClipSet, make_sample


def build(tmp_path, clips, **kwargs):
    path = clips.write_expressions(tmp_path / 'meta_expressions.json')
    return METRICS.build(
        {
            'type': 'ReferSubmission',
            'ann_file': path,
            'out_dir': str(tmp_path / 'out'),
            **kwargs,
        }
    )


def process(metric, clips, indices=None):
    for index in range(len(clips)) if indices is None else indices:
        metric.process(None, [clips.sample(index)])


def test_round_trip_scores_like_the_metric(tmp_path):
    clips = ClipSet()
    metric = build(tmp_path, clips)
    process(metric, clips)
    assert metric.evaluate(len(clips)) == {}

    reference = ReferVOSMetric()
    process(reference, clips)
    expected = reference.evaluate(len(clips))

    with zipfile.ZipFile(tmp_path / 'out' / 'submission.zip') as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / 'unpacked')
    assert len(names) == sum(map(len, clips.preds))
    assert names[0] == 'Annotations/video0/0/00000.png'
    scores = []
    for (video, expression), gts in zip(clips.keys, clips.gts, strict=True):
        folder = tmp_path / 'unpacked' / 'Annotations' / video / expression
        masks = []
        for path in sorted(folder.iterdir()):
            with Image.open(path) as image:
                assert image.mode == 'L'
                masks.append(np.array(image))
        assert set(np.unique(masks)) <= {0, 255}
        scores.append(sequence_scores(masks, gts))
    j = 100 * np.mean([score.j.mean() for score in scores])
    f = 100 * np.mean([score.f.mean() for score in scores])
    assert expected['refer/J'] == pytest.approx(j, abs=1e-9)
    assert expected['refer/F'] == pytest.approx(f, abs=1e-9)


def test_same_predictions_same_bytes(tmp_path):
    clips = ClipSet(3)
    written = []
    for order in ([0, 1, 2], [2, 0, 1]):
        metric = build(tmp_path, clips)
        process(metric, clips, order)
        metric.evaluate(3)
        written.append(metric.out_file.read_bytes())
    assert written[0] == written[1]
    # No temporary file stays behind.
    assert not list((tmp_path / 'out').rglob('.*'))


@pytest.mark.parametrize('form', ['json', 'jsonl'])
def test_one_file_of_run_length_codes(tmp_path, form):
    clips = ClipSet()
    metric = build(tmp_path, clips, form=form)
    sample = clips.sample(1)
    for frame in sample['video_data_samples']:
        frame.pred_track_instances.scores = np.array([0.25])
    metric.process(None, [sample])
    process(metric, clips, [4, 2, 0, 3])
    metric.evaluate(len(clips))
    entries = read_records(tmp_path / f'out/submission.{form}')
    assert [(e['video_id'], e['exp_id']) for e in entries] == clips.keys
    assert [e.get('score') for e in entries] == [None, 0.25, None, None, None]
    for entry, masks in zip(entries, clips.preds, strict=True):
        for rle, mask in zip(entry['segmentations'], masks, strict=True):
            assert (rle is None) == (not mask.any())
            if rle is not None:
                rle = to_rle(rle, *mask.shape)
                assert np.array_equal(decode_union([rle], mask.shape), mask)
    # Half a video is no prediction, and a file too many no submission.
    metric = build(tmp_path, clips, form=form)
    short = make_sample('video0', '0', clips.preds[0][:1])
    with pytest.raises(DataError, match='1 frames of video0/0 were not'):
        metric.process(None, [short.to_dict()])
    process(metric, clips)
    (tmp_path / 'out/Annotations/video0/9.json').touch()
    with pytest.raises(DataError, match=r'1 files .* do not belong'):
        metric.evaluate(5)
    with pytest.raises(ConfigError, match=r"form must be .* got 'png'"):
        build(tmp_path, clips, form='png')


def test_missing_expression(tmp_path):
    clips = ClipSet(5)
    metric = build(tmp_path, clips)
    process(metric, clips, [0, 1, 3])
    with pytest.raises(
        ValueError, match=r'2 of 5 expressions .* video1/0, video2/0; nothing'
    ):
        metric.evaluate(3)
    assert not metric.out_file.exists()


def test_files_of_an_earlier_run_do_not_fill_gaps(tmp_path):
    clips = ClipSet(3)
    metric = build(tmp_path, clips)
    process(metric, clips)
    metric.evaluate(3)
    process(metric, clips, [0, 2])
    with pytest.raises(DataError, match='were not predicted: video0/1;'):
        metric.evaluate(2)


def test_missing_frame(tmp_path):
    clips = ClipSet(2)
    metric = build(tmp_path, clips)
    process(metric, clips, [1])
    short = make_sample('video0', '0', clips.preds[0][:1])
    metric.process(None, [short.to_dict()])
    with pytest.raises(
        ValueError, match=r'1 frames .* video0/0/00005\.png; nothing'
    ):
        metric.evaluate(2)


def test_expressions_and_frames_nobody_asked_for(tmp_path):
    clips = ClipSet(2)
    metric = build(tmp_path, clips)
    preds = clips.preds[0]
    with pytest.raises(DataError, match='not list the expression video0/9'):
        metric.process(None, [make_sample('video0', '9', preds).to_dict()])
    longer = np.concatenate([preds, preds])
    with pytest.raises(DataError, match='frames 00010, 00015 of video0/1'):
        metric.process(None, [make_sample('video0', '1', longer).to_dict()])
    assert not (tmp_path / 'out').exists()


def test_stale_files(tmp_path):
    clips = ClipSet(2)
    metric = build(tmp_path, clips)
    process(metric, clips)
    stale = tmp_path / 'out' / 'Annotations' / 'old' / '0' / '00000.png'
    stale.parent.mkdir(parents=True)
    stale.touch()
    with pytest.raises(DataError, match=r'1 files in .* do not belong to'):
        metric.evaluate(2)
    assert not metric.out_file.exists()


def test_lost_files(tmp_path):
    clips = ClipSet(2)
    metric = build(tmp_path, clips)
    process(metric, clips)
    (tmp_path / 'out/Annotations/video0/1/00005.png').unlink()
    with pytest.raises(DataError, match='must share the folder'):
        metric.evaluate(2)


def test_excluded_videos(tmp_path):
    clips = ClipSet(5)
    test_file = tmp_path / 'test.json'
    clips.write_expressions(test_file)
    content = json.loads(test_file.read_text())
    content['videos'] = {'video1': content['videos']['video1']}
    test_file.write_text(json.dumps(content))
    metric = build(tmp_path, clips, exclude_ann_file=str(test_file))
    process(metric, clips, [0, 1, 4])
    metric.evaluate(3)
    with zipfile.ZipFile(metric.out_file) as archive:
        videos = {name.split('/')[1] for name in archive.namelist()}
    assert videos == {'video0', 'video2'}


def test_bad_ann_file(tmp_path):
    out = str(tmp_path / 'out')
    with pytest.raises(FileNotFoundError, match=r'none\.json .*not exist'):
        ReferSubmission(str(tmp_path / 'none.json'), out)
    for content, fault in (
        ('{"videos": {"a": {}}}', 'needs a list "frames"'),
        ('{', 'is not valid JSON'),
        ('[]', 'has no table "videos"'),
        ('{"videos": 3}', 'has no table "videos"'),
    ):
        (tmp_path / 'bad.json').write_text(content)
        with pytest.raises(DataError, match=fault):
            ReferSubmission(str(tmp_path / 'bad.json'), out)
