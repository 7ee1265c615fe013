# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""From files to the batch the model sees."""

import json
import random
import re
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import ConcatDataset, pseudo_collate
from mmengine.runner import Runner
from PIL import Image

from referformer.registry import DATASETS, MODELS
from referformer.testing.scenes import MANIFEST

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / 'configs/_base_/datasets/ref-youtube-vos.py'
TRAIN = 'meta_expressions/train/meta_expressions.json'
VALID = 'meta_expressions/valid/meta_expressions.json'


def snippet(path, number):
    """The python block of a document that holds both pipelines."""
    blocks = re.findall(r'```python\n(.*?)```', path.read_text(), re.S)
    names: dict = {}
    exec(blocks[number], {}, names)
    return names


@pytest.fixture(scope='module')
def documented():
    return snippet(REPOSITORY / 'docs/datasets/synthetic.md', 0)


def seed(value):
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 -- what the transforms draw from
    torch.manual_seed(value)


def train_set(root, pipeline, **kwargs):
    return DATASETS.build(
        {
            'type': 'RefYouTubeVOSDataset',
            'data_root': str(root),
            'ann_file': TRAIN,
            'meta_file': 'train/meta.json',
            'start_stride': 4,
            'pipeline': pipeline,
            **kwargs,
        }
    )


def test_set(root, pipeline, **kwargs):
    return train_set(
        root,
        pipeline,
        ann_file=VALID,
        meta_file='valid/meta.json',
        data_prefix={'img': 'valid/JPEGImages', 'mask': 'valid/Annotations'},
        test_mode=True,
        **kwargs,
    )


# The name is a helper's, not a test's.
test_set.__test__ = False


@pytest.fixture
def preprocessor():
    return MODELS.build(
        {
            'type': 'referformer.ReferDataPreprocessor',
            'mean': [123.675, 116.28, 103.53],
            'std': [58.395, 57.12, 57.375],
            'bgr_to_rgb': True,
            'pad_mask': True,
            'pad_size_divisor': 32,
        }
    )


def test_training_batch(synthetic_root, documented, preprocessor):
    seed(0)
    dataset = train_set(synthetic_root, documented['train_pipeline'])
    items = [dataset[i] for i in range(6)]
    batch = preprocessor(pseudo_collate(items), training=True)
    # 48 x 80 rounded up to multiples of 32.
    assert batch['inputs'].shape == (6, 4, 3, 64, 96)
    assert batch['inputs'].dtype == torch.float32
    assert (batch['inputs'][..., 48:, :] == 0).all()
    assert (batch['inputs'][..., 80:] == 0).all()
    for inputs, item, sample in zip(
        batch['inputs'], items, batch['data_samples'], strict=True
    ):
        assert isinstance(sample.text, str)
        assert len(sample) == 4
        assert any(len(f.gt_instances) for f in sample.video_data_samples)
        for frame in sample.video_data_samples:
            truth = frame.gt_instances
            assert frame.img_shape == (48, 80)
            assert frame.batch_input_shape == (64, 96)
            assert truth.masks.masks.shape == (len(truth), 64, 96)
            assert len(truth.bboxes) == len(truth.labels) == len(truth)
        first = item['inputs'][0, [2, 1, 0]].float()
        mean, std = preprocessor.mean[0], preprocessor.std[0]
        torch.testing.assert_close(
            inputs[0, :, :48, :80], (first - mean) / std
        )


def test_prediction_is_not_padded(synthetic_root, documented, preprocessor):
    dataset = test_set(synthetic_root, documented['test_pipeline'])
    batch = preprocessor(pseudo_collate([dataset[0]]), training=False)
    assert batch['inputs'].shape == (1, 8, 3, 48, 80)
    # The setting for training is still there afterwards.
    seed(0)
    dataset = train_set(synthetic_root, documented['train_pipeline'])
    batch = preprocessor(pseudo_collate([dataset[0]]), training=True)
    assert batch['inputs'].shape == (1, 4, 3, 64, 96)


def test_ground_truth_of_test_clips_is_the_file(synthetic_root):
    cfg = Config.fromfile(CONFIG)
    cfg.test_pipeline[1].transforms[1].short_side = 24
    dataset = test_set(synthetic_root, cfg.test_pipeline)
    item = dataset[3]
    sample = item['data_samples']
    assert item['inputs'].shape == (8, 3, 24, 40)
    for frame in sample.video_data_samples:
        path = frame.img_path.replace('JPEGImages', 'Annotations')
        ids = np.asarray(Image.open(path.replace('.jpg', '.png')))
        masks = frame.gt_instances.masks.to_ndarray()
        assert masks.shape[1:] == frame.ori_shape == (48, 80)
        assert (masks.any(axis=0) == (ids == int(sample.obj_id))).all()


def test_documented_augmentation_keeps_flips_true(synthetic_root, documented):
    pipeline = [
        *documented['train_pipeline'][:3],
        documented['train_pipeline'][-1],
    ]
    dataset = train_set(synthetic_root, pipeline)
    videos = json.loads((synthetic_root / TRAIN).read_text())['videos']
    seed(0)
    flipped = {True: 0, False: 0}
    for index in range(len(dataset)):
        item = dataset[index]
        sample = item['data_samples']
        flips = {frame.flip for frame in sample.video_data_samples}
        assert len(flips) == 1
        written = videos[sample.video_id]['expressions'][sample.exp_id]['exp']
        if flips == {True}:
            written = re.sub(
                'left|right',
                lambda m: {'left': 'right', 'right': 'left'}[m.group()],
                written,
            )
        assert sample.text == written
        for pixels, frame in zip(
            item['inputs'], sample.video_data_samples, strict=True
        ):
            flipped[frame.flip] += 1
            image = cv2.imread(frame.img_path).transpose(2, 0, 1)
            if frame.flip:
                image = image[..., ::-1]
            # Two JPEG decoders may differ by a little.
            difference = pixels.numpy().astype(int) - image
            assert np.abs(difference).mean() < 1
    assert min(flipped.values()) > 0.3 * sum(flipped.values())


def test_published_augmentation_agrees_within_a_clip(synthetic_root):
    cfg = Config.fromfile(CONFIG)
    dataset = train_set(synthetic_root, cfg.train_pipeline, start_stride=5)
    seed(0)
    sizes = set()
    for index in range(40):
        item = dataset[index % len(dataset)]
        assert item['inputs'].shape[:2] == (5, 3)
        frames = item['data_samples'].video_data_samples
        assert {f.img_shape for f in frames} == {
            tuple(item['inputs'].shape[-2:])
        }
        assert len({f.flip for f in frames}) == 1
        assert len({tuple(f.scale_factor) for f in frames}) == 1
        sizes.add(frames[0].img_shape)
        for frame in frames:
            truth = frame.gt_instances
            if not len(truth):
                continue
            # The mask is inside its box, but for one pixel of the file (the
            # box ends on the last pixel inside, on either side when
            # flipped), which is up to 16 pixels here.
            mask = truth.masks.masks[0].astype(bool)
            columns = np.flatnonzero(mask.any(axis=0))
            rows = np.flatnonzero(mask.any(axis=1))
            x1, y1, x2, y2 = truth.bboxes[0].tolist()
            if len(columns):
                assert columns[0] >= x1 - 16
                assert columns[-1] <= x2 + 16
                assert rows[0] >= y1 - 16
                assert rows[-1] <= y2 + 16
    # Both branches: at 5:3 the first can only give short sides from a list.
    (resize,) = (
        step
        for step in cfg.train_pipeline
        if step['type'] == 'ReferMultiScaleCrop'
    )
    listed = set(resize.short_side)
    plain = {s for s in sizes if s[0] in listed and s[1] > 1.6 * s[0]}
    assert plain
    assert sizes - plain
    assert all(max(size) <= 640 for size in sizes)


def test_clip_without_the_object_is_replaced(synthetic_root, documented):
    pipeline = [
        *documented['train_pipeline'][:2],
        {
            'type': 'TransformBroadcaster',
            'share_random_params': True,
            'transforms': [
                {'type': 'LoadReferFrame'},
                {'type': 'LoadReferAnnotations'},
                # A sliver of the frame: most clips lose their object.
                {
                    'type': 'mmdet.RandomCrop',
                    'crop_size': (20, 12),
                    'allow_negative_crop': True,
                },
            ],
        },
        {'type': 'PackReferInputs'},
    ]
    seed(0)
    dataset = train_set(synthetic_root, pipeline)
    other = 0
    for index in range(20):
        asked = dataset.get_data_info(index)
        sample = dataset[index]['data_samples']
        other += (asked['video_id'], asked['exp_id']) != (
            sample.video_id,
            sample.exp_id,
        )
        assert any(len(f.gt_instances) for f in sample.video_data_samples)
    assert other > 3


def batches(root, pipeline, workers):
    loader = Runner.build_dataloader(
        {
            'batch_size': 2,
            'num_workers': workers,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'dataset': {
                'type': 'RefYouTubeVOSDataset',
                'data_root': str(root),
                'ann_file': TRAIN,
                'start_stride': 8,
                'pipeline': pipeline,
                'indices': 12,
            },
        },
        seed=7,
    )
    seed(7)
    return [
        (torch.stack(b['inputs']), [s.text for s in b['data_samples']])
        for b in loader
    ]


def test_two_workers_repeat_themselves(synthetic_root, documented):
    pipeline = documented['train_pipeline']
    first = batches(synthetic_root, pipeline, workers=2)
    second = batches(synthetic_root, pipeline, workers=2)
    assert len(first) == 6
    for (inputs, text), (again, text_again) in zip(first, second, strict=True):
        assert torch.equal(inputs, again)
        assert text == text_again


def test_datasets_concatenate(synthetic_root, documented):
    pipeline = documented['train_pipeline']
    both = ConcatDataset([train_set(synthetic_root, pipeline)] * 2)
    assert len(both) == 2 * len(train_set(synthetic_root, pipeline))
    assert both[len(both) - 1]['inputs'].shape == (4, 3, 48, 80)


def test_wrong_expressions_reach_the_sample(synthetic_root, documented):
    dataset = test_set(
        synthetic_root,
        documented['test_pipeline'],
        expression_from='other_object',
    )
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        assert sample.text_obj_id != sample.obj_id


def test_documented_dataset_builds(tmp_path):
    page = REPOSITORY / 'docs/datasets/add_your_own.md'
    code = re.search(
        r"cat > my_set/dataset.py <<'END'\n(.*?)\nEND", page.read_text(), re.S
    )
    (tmp_path / 'frames/zoo').mkdir(parents=True)
    for name in ('0.jpg', '1.jpg'):
        (tmp_path / 'frames/zoo' / name).touch()
    row = 'train,zoo,1,a bear\n'
    (tmp_path / 'sentences.csv').write_text(row + row.replace('train', 'test'))
    names: dict = {}
    try:
        exec(code[1], names)
        dataset = names['MySetDataset'](
            'sentences.csv', split='train', data_root=str(tmp_path)
        )
        assert [i['start_frame'] for i in dataset] == [0, 1]
    finally:
        DATASETS.module_dict.pop('MySetDataset', None)


def test_browse_dataset(synthetic_root, tmp_path, monkeypatch, capsys):
    tool = REPOSITORY / 'tools/analysis_tools/browse_dataset.py'
    command = [str(tool), str(CONFIG), '--out', str(tmp_path), '--num', '2']
    root = f'train_dataloader.dataset.data_root={synthetic_root}'
    monkeypatch.setattr(sys, 'argv', [*command, '--cfg-options', root])
    runpy.run_path(str(tool), run_name='__main__')
    assert 'Drew 2 of' in capsys.readouterr().out
    pictures = sorted(tmp_path.glob('*.png'))
    assert len(pictures) == 2
    assert cv2.imread(str(pictures[0])).std() > 10

    monkeypatch.setattr(sys, 'argv', [*command, '--cfg-options', f'{root}/x'])
    with pytest.raises(SystemExit, match=r'meta_expressions\.json'):
        runpy.run_path(str(tool), run_name='__main__')
    assert (synthetic_root / MANIFEST).is_file()
