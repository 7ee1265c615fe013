# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-DAVIS17: converted, read, one annotator at a time."""

import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from pycocotools import mask as rle

from referformer.datasets import RefDAVISDataset
from tests.fixtures.drawing import draw
from tests.fixtures.ref_davis import VIDEOS, expression, prepare_ref_davis

from .helpers import CONFIGS

CONFIG = CONFIGS / 'ref-davis.py'
TABLE = 'meta_expressions/{}/meta_expressions.json'


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
    return prepare_ref_davis(tmp_path_factory.mktemp('davis'))


def build(root, split='valid', **kwargs):
    return RefDAVISDataset(
        TABLE.format(split),
        data_root=str(root),
        data_prefix={
            'img': f'{split}/JPEGImages',
            'mask': f'{split}/Annotations',
        },
        **{'test_mode': split == 'valid', **kwargs},
    )


def test_one_item_a_video_with_all_annotators(converted):
    dataset = build(converted, group_by_video=True)
    assert [item['video_id'] for item in dataset] == ['blackswan', 'gold-fish']
    assert 'annotator' not in dataset[0]
    for item in dataset:
        for said in item['expressions']:
            assert said['annotator'] == int(said['exp_id']) % 4
            assert said['text'] == expression(
                said['annotator'], item['video_id'], int(said['obj_id'])
            )
    # Numbered in the order of strings, not of numbers.
    objects = [e['obj_id'] for e in item['expressions'][::4]]
    assert objects == sorted(objects)
    assert objects[1] == '10'


def test_masks_of_ten_and_more_objects_and_void(converted):
    """An object is what was drawn, less what is void."""
    cfg = Config.fromfile(CONFIG)
    dataset = build(converted, group_by_video=True, pipeline=cfg.test_pipeline)
    for index, name in enumerate(('blackswan', 'gold-fish')):
        video = VIDEOS['val'][name]
        ids = draw(video.movers, video.length)[1]
        sample = dataset[index]['data_samples']
        for t, frame in enumerate(sample.video_data_samples):
            expected = ids[t].copy()
            expected[-3:, -20:] = 255
            for said, code in zip(
                sample.expressions, frame.gt_rles, strict=True
            ):
                mask = expected == int(said['obj_id'])
                assert mask.any()
                assert (rle.decode(code) == mask).all()


def test_the_training_split_can_be_trained_on(converted):
    dataset = build(
        converted,
        'train',
        meta_file='train/meta.json',
        with_category=True,
        start_stride=5,
    )
    # Videos of 6, 5 and 7 frames.
    assert len(dataset) == 4 * (2 * 2 + 1 + 2)
    classes = dataset.metainfo['classes']
    assert len(set(classes)) == 78
    assert list(classes) == sorted(classes)
    names = {classes[item['label']] for item in dataset}
    assert names == {'car', 'dog', 'motorcycle'}


@pytest.mark.parametrize(
    'damage',
    [
        # Not four of an object.
        lambda said: said.pop('3'),
        # Four, but of two objects.
        lambda said: said['3'].update(obj_id='2'),
        # Four of an object, one annotator twice.
        lambda said: said.update({'03': said.pop('2')}),
        # Names of another set.
        lambda said: said.update(a=said.pop('3')),
    ],
)
def test_another_numbering_is_refused(converted, tmp_path, damage):
    root = shutil.copytree(converted, tmp_path / 'copy')
    path = root / TABLE.format('valid')
    content = json.loads(path.read_text())
    damage(content['videos']['blackswan']['expressions'])
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'video blackswan .*davis_to_ytvos'):
        build(root)


def test_another_number_of_videos_is_refused(converted):
    with pytest.raises(ValueError, match=r'2 videos, expected 30.*convert'):
        build(converted, expected_videos=30)


def test_links_lead_to_the_original_masks(converted):
    dataset = build(converted)
    folder = Path(dataset[0]['mask_dir'])
    assert folder.is_symlink()
    assert 'Annotations_unsupervised' in str(folder.resolve())
    assert len(list(folder.iterdir())) == 4
