# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""MeViS: unions of objects, masks that stay on disk."""

import json
import pickle
import shutil

import numpy as np
import pytest
from mmengine.config import Config
from pycocotools import mask as rle

from referformer.datasets import MeViSDataset
from referformer.formats.mask_dict import open_mask_table
from tests.fixtures.drawing import draw
from tests.fixtures.mevis import VIDEOS, make_mevis

from .helpers import CONFIGS

CONFIG = CONFIGS / 'mevis.py'
NO_TARGET = sum(() in video.meant for video in VIDEOS['train'].values())


@pytest.fixture(scope='module')
def original(tmp_path_factory):
    return make_mevis(tmp_path_factory.mktemp('mevis'))


@pytest.fixture
def root(original, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(original, tmp_path / 'mevis')


def build(root, split='train', **kwargs):
    return MeViSDataset(
        f'{split}/meta_expressions.json',
        data_root=str(root),
        img_dir=f'{split}/JPEGImages',
        **{'mask_file': f'{split}/mask_dict.json', **kwargs},
    )


def drawn(split, video_id, exp_id, t):
    """The union of the objects meant, as they were drawn."""
    video = VIDEOS[split][video_id]
    meant = [video.movers[k] for k in video.meant[int(exp_id)]]
    union = np.zeros((48, 80), dtype=bool)
    for mover in meant:
        union |= draw([mover], video.length)[1][t] > 0
    return union


def test_training_items(original):
    dataset = build(original, start_stride=5)
    items = list(dataset)
    # Neither the video of one frame nor an expression without target.
    assert {item['video_id'] for item in items} == {
        '0ab4afe7fb46',
        '0fea0cb75a25',
    }
    assert NO_TARGET == 1
    assert len(items) == 2 * (5 - NO_TARGET) + 2 * 2
    assert [item['start_frame'] for item in items[:4]] == [0, 5, 0, 5]
    item = items[4]
    assert item['text'] == 'The red and blue box going  right'
    assert item['obj_id'] == '0,2'
    assert item['anno_ids'] == ('0', '2')
    everything = build(original, min_frames=1)
    assert '2a6bf9f4ccde' in {item['video_id'] for item in everything}


def test_masks_are_not_carried_around(original):
    """Neither by the dataset nor by its items."""
    dataset = build(original)
    table = open_mask_table(str(original / 'train/mask_dict.json'))
    for carried in (dataset, dataset[0]):
        assert table['0'][0]['counts'].encode() not in pickle.dumps(carried)


def test_training_masks_are_the_unions(original):
    pipeline = Config.fromfile(CONFIG).train_pipeline
    pipeline[2].transforms[2].prob = 0.0
    dataset = build(
        original, start_stride=5, pipeline=[*pipeline[:3], pipeline[-1]]
    )
    absent = 0
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        for frame in sample.video_data_samples:
            expected = drawn(
                'train', sample.video_id, sample.exp_id, frame.frame_id
            )
            truth = frame.gt_instances
            absent += not len(truth)
            assert len(truth) == expected.any()
            if len(truth):
                assert (truth.masks.masks[0] == expected).all()
    # A null in the file, and frames that were never drawn.
    assert absent > 0


def test_videos_with_all_expressions(original):
    pipeline = Config.fromfile(CONFIG).test_pipeline
    pipeline[2].transforms[1].short_side = 24
    dataset = build(
        original,
        'valid_u',
        pipeline=pipeline,
        test_mode=True,
        group_by_video=True,
    )
    assert len(dataset) == 2
    for index in range(2):
        item = dataset[index]
        sample = item['data_samples']
        assert item['inputs'].shape[2:] == (24, 40)
        video = VIDEOS['valid_u'][sample.video_id]
        assert len(sample.expressions) == len(video.meant)
        for t, frame in enumerate(sample.video_data_samples):
            for e, code in enumerate(frame.gt_rles):
                expected = drawn('valid_u', sample.video_id, e, t)
                assert (rle.decode(code) == expected).all()
    # The last expression has no target: nothing to be seen, which is truth.
    assert sample.expressions[-1]['obj_id'] == ''
    assert not expected.any()


def test_valid_has_no_ground_truth(original):
    kwargs = {'mask_file': None}
    dataset = build(original, 'valid', test_mode=True, **kwargs)
    assert dataset[0]['obj_id'] is None
    assert dataset[0]['masks_file'] is None
    pipeline = Config.fromfile(CONFIG).test_pipeline
    for group in (False, True):
        dataset = build(
            original,
            'valid',
            test_mode=True,
            group_by_video=group,
            pipeline=pipeline,
            **kwargs,
        )
        frame = dataset[0]['data_samples'].video_data_samples[0]
        assert 'gt_rles' not in frame
        assert 'gt_instances' not in frame
    with pytest.raises(ValueError, match='has no ground truth'):
        build(original, 'valid', **kwargs)
    with pytest.raises(FileNotFoundError, match=r'mask_dict\.json does not'):
        build(original, 'valid', test_mode=True)
    with pytest.raises(ValueError, match='needs lists "obj_id"'):
        build(original, 'valid', mask_file='train/mask_dict.json')


def edit(path, change):
    content = json.loads(path.read_text())
    change(content['videos']['0ab4afe7fb46'])
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda v: v['frames'].reverse(), 'out of order'),
        (lambda v: v['frames'].clear(), 'needs a list "frames"'),
        (lambda v: v['frames'].append('../x'), r"'\.\./x', which is no"),
        (lambda v: v['frames'].append(9), 'expression 9, which is no name'),
        (
            lambda v: v['expressions'].update({'2': 'the bird'}),
            'expression 2 is no table',
        ),
        (
            lambda v: v['expressions']['2'].update(exp=' '),
            'expression 2 is empty',
        ),
        (
            lambda v: v['expressions']['2'].update(anno_id=[0]),
            'expression 2 needs lists .* of one length',
        ),
        (
            lambda v: v['expressions']['2'].update(anno_id=[0, 99]),
            'expression 2 names annotation 99, which',
        ),
    ],
)
def test_bad_entries_are_named(root, change, message):
    edit(root / 'train/meta_expressions.json', change)
    with pytest.raises(ValueError, match=message) as error:
        build(root)
    assert 'train/meta_expressions.json: video 0ab4afe7fb46' in str(
        error.value
    )


def test_missing_frames_are_named(root):
    shutil.rmtree(root / 'train/JPEGImages/0fea0cb75a25')
    with pytest.raises(FileNotFoundError, match=r"1 of 3.*'0fea0cb75a25'"):
        build(root)
