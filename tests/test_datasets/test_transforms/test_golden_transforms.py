# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Transforms against numbers recorded from the published implementation."""

import numpy as np
import pytest
from mmcv.transforms import TransformBroadcaster
from mmdet.datasets.transforms import RandomCrop
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from referformer.datasets.transforms import (
    PackReferInputs,
    ReferRandomFlip,
    ReferResize,
)

SIZES = (
    (720, 1280),
    (480, 854),
    (1080, 607),
    (360, 640),
    (240, 320),
    (300, 1000),
)
MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
BOXES = [(30, 20, 89, 59), (100, 10, 189, 49), None]
AREAS = [np.s_[20:60, 30:90], np.s_[10:50, 100:190]]


@pytest.fixture(scope='module')
def golden(golden_dir):
    with np.load(golden_dir / 'transforms.npz') as content:
        return dict(content)


def spread(values, count=512):
    flat = values.reshape(-1)
    return flat[np.linspace(0, flat.size - 1, count).astype(np.int64)]


@pytest.mark.parametrize('cap', [640, 0])
@pytest.mark.parametrize('index', range(len(SIZES)))
def test_resize(golden, index, cap):
    height, width = SIZES[index]
    rng = np.random.default_rng(index)
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    resize = ReferResize(360, max_long_side=cap or None)
    # Channels are resized one by one: BGR in, BGR out.
    out = resize({'img': rgb[..., ::-1]})['img'][..., ::-1]
    key = f'resize/{height}x{width}/cap{cap}'
    assert out.shape[:2] == tuple(golden[f'{key}/size'])
    assert (spread(out) == golden[f'{key}/sample']).all()
    assert out.mean() == pytest.approx(float(golden[f'{key}/mean']), abs=1e-9)


def make_clip():
    """The clip of the recording, as lists of three frames."""
    masks = [np.zeros((1, 120, 200), np.uint8) for _ in AREAS]
    for mask, area in zip(masks, AREAS, strict=True):
        mask[0][area] = 1
    boxes = [np.array([b], np.float32) for b in BOXES[:2]]
    boxes.append(np.zeros((0, 4), np.float32))
    rgb = [
        np.random.default_rng(50 + i).integers(
            0, 256, (120, 200, 3), dtype=np.uint8
        )
        for i in range(3)
    ]
    return {
        'img': [np.ascontiguousarray(image[..., ::-1]) for image in rgb],
        'img_shape': [(120, 200)] * 3,
        'video_id': ['v'] * 3,
        'text': ['the left dog right of the left cat'] * 3,
        'gt_bboxes': [HorizontalBoxes(b) for b in boxes],
        'gt_masks': [
            BitmapMasks(m, 120, 200) for m in [*masks, np.zeros((0, 120, 200))]
        ],
        'gt_bboxes_labels': [np.zeros(len(b), np.int64) for b in boxes],
    }


def crop_at(top, left):
    crop = RandomCrop(
        crop_size=(100, 60), crop_type='absolute', allow_negative_crop=True
    )
    crop._rand_offset = lambda margin: (top, left)
    return crop


OPERATIONS = {
    'resize96': lambda: ReferResize(96),
    'hflip': lambda: ReferRandomFlip(prob=1.0),
    'crop': lambda: crop_at(15, 40),
    'crop_drops_object': lambda: crop_at(5, 95),
}


@pytest.mark.parametrize('name', OPERATIONS)
def test_clip(golden, name):
    share = not name.startswith('crop')  # the crop's draw is replaced
    broadcast = TransformBroadcaster(
        [OPERATIONS[name]()], share_random_params=share
    )
    packed = PackReferInputs()(broadcast(make_clip()))
    sample = packed['data_samples']
    want = {
        key.split('/')[-1]: value
        for key, value in golden.items()
        if key.startswith(f'clip/{name}/')
    }

    pixels = packed['inputs'].numpy()[:, ::-1].astype(np.float32) / 255
    assert pixels.shape == tuple(want['shape'])
    np.testing.assert_allclose(
        spread((pixels - MEAN) / STD), want['sample'], atol=1e-6
    )
    assert sample.text == str(want['caption'])

    height, width = pixels.shape[-2:]
    boxes = np.zeros((3, 4), np.float32)
    masks = np.zeros((3, height, width), bool)
    valid = np.zeros(3, int)
    for t, frame in enumerate(sample.video_data_samples):
        truth = frame.gt_instances
        valid[t] = len(truth)
        if len(truth):
            x1, y1, x2, y2 = truth.bboxes[0].numpy()
            boxes[t] = (
                (x1 + x2) / 2 / width,
                (y1 + y2) / 2 / height,
                (x2 - x1) / width,
                (y2 - y1) / height,
            )
            masks[t] = truth.masks.masks[0]
    assert valid.tolist() == want['valid'].tolist()
    np.testing.assert_allclose(boxes, want['boxes'], atol=1e-6)
    packed_masks = np.packbits(masks.reshape(-1))
    assert masks.shape == tuple(want['mask_shape'])
    assert (packed_masks == want['masks']).all()
