# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-SAV: frames and masks of one moment, from two files."""

import numpy as np
import pytest
from mmengine.config import Config

from referformer.datasets import RefSAVDataset
from tests.fixtures.drawing import draw
from tests.fixtures.ref_sav import TRAIN, prepare_ref_sav

from .helpers import CONFIGS


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return prepare_ref_sav(tmp_path_factory.mktemp('ref_sav'))


@pytest.fixture
def dataset(root):
    pipeline = Config.fromfile(CONFIGS / 'ref-sav.py').train_pipeline
    pipeline[3].transforms[1].prob = 0.0
    return RefSAVDataset(
        'Ref-SAV.json',
        data_root=str(root),
        start_stride=5,
        pipeline=[*pipeline[:4], pipeline[-1]],
    )


def test_training_items(dataset):
    ids = [dataset.item_id(i) for i in range(len(dataset))]
    # 6 annotated frames of 23 and 4 of 16; objects without a sentence are
    # not there
    found = [(i.video_id, i.obj_id, i.start_frame) for i in ids]
    assert found == [
        ('sav_000002', '0', 0),
        ('sav_000002', '0', 5),
        ('sav_000013', '0', 0),
        ('sav_000013', '1', 0),
    ]
    assert dataset.get_data_info(0)['frame_names'][-1] == '00020'


def test_frames_fit_their_masks(dataset):
    checked = 0
    for index in range(len(dataset)):
        item = dataset[index]
        sample = item['data_samples']
        video = TRAIN[sample.video_id]
        mover = video.movers[int(sample.obj_id)]
        frames, _ = draw(video.movers, video.length)
        for image, frame in zip(
            item['inputs'], sample.video_data_samples, strict=True
        ):
            t = 4 * frame.frame_id
            marks = draw([mover], video.length)[1][t] > 0
            (mask,) = frame.gt_instances.masks.masks
            assert np.array_equal(mask.astype(bool), marks)
            # mp4 keeps colours roughly; the channels are B, G, R
            drawn = frames[t][..., ::-1].transpose(2, 0, 1).astype(float)
            error = np.abs(image.numpy() - drawn)
            assert error.mean() < 6
            checked += 1
    assert checked == 20
