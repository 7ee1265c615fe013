# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Long-RVOS: a folder of masks per object, and none where it is away."""

import shutil

import numpy as np
import pytest
from mmengine.config import Config

from referformer.datasets import LongRVOSDataset
from referformer.errors import ConfigError, MissingDataError
from tests.fixtures.drawing import draw
from tests.fixtures.long_rvos import VIDEOS, prepare_long_rvos

from .helpers import CONFIGS


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return prepare_long_rvos(tmp_path_factory.mktemp('long_rvos'))


def build(root, split='valid', masks=True, **kwargs):
    prefix = {'img': f'{split}/JPEGImages'}
    if masks:
        prefix['mask'] = f'{split}/Annotations'
    return LongRVOSDataset(
        f'{split}/meta_expressions.json',
        data_root=str(root),
        data_prefix=prefix,
        **kwargs,
    )


def test_masks_and_types(root):
    pipeline = Config.fromfile(CONFIGS / 'long-rvos.py').test_pipeline
    pipeline[1].transforms[1].short_side = 24
    dataset = build(root, test_mode=True, pipeline=pipeline)
    absent = 0
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        video = VIDEOS['valid'][sample.video_id]
        mover = video.movers[int(sample.obj_id) - 1]
        drawn = draw([mover], video.length)[1]
        for frame, marks in zip(sample.video_data_samples, drawn, strict=True):
            truth = frame.gt_instances.masks
            assert len(truth) == marks.any()
            absent += not len(truth)
            if len(truth):
                assert np.array_equal(truth.to_ndarray()[0] > 0, marks > 0)
    assert absent == 2
    kinds = [item['attributes']['type'] for item in dataset.items]
    assert kinds == ['static', 'dynamic', 'static', 'dynamic', 'hybrid']


def test_without_ground_truth(root):
    dataset = build(root, 'test', masks=False, test_mode=True)
    assert dataset[0]['obj_id'] is None
    assert dataset[0]['mask_dir'] is None
    with pytest.raises(ConfigError, match='needs "img"'):
        LongRVOSDataset('a.json', data_prefix={})


def test_a_missing_folder_is_no_object_out_of_sight(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / 'copy')
    shutil.rmtree(copy / 'train/Annotations/0102096b4c/2')
    with pytest.raises(MissingDataError, match=r'1 of 3 objects of .*json'):
        build(copy, 'train')
