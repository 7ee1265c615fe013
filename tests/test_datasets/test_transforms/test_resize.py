# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from referformer.datasets.transforms import ReferResize
from referformer.datasets.transforms.resize import size_with_aspect_ratio


@pytest.mark.parametrize(
    ('size', 'short', 'cap', 'expected'),
    [
        # 640.5 is cut off, mmcv would round to 641 with other settings.
        ((854, 480), 360, None, (640, 360)),
        ((480, 854), 360, None, (360, 640)),
        ((1000, 300), 360, 640, (640, 192)),
        ((1000, 300), 360, None, (1200, 360)),
        ((640, 360), 360, 640, (640, 360)),
        ((500, 500), 288, 640, (288, 288)),
    ],
)
def test_size_rule(size, short, cap, expected):
    assert size_with_aspect_ratio(size, short, cap) == expected


def test_boxes_and_masks_follow_the_image():
    mask = np.zeros((1, 40, 60), np.uint8)
    mask[0, 10:20, 30:60] = 1
    results = ReferResize(20)(
        {
            'img': np.zeros((40, 60, 3), np.uint8),
            'gt_bboxes': HorizontalBoxes([[30.0, 10, 59, 19]]),
            'gt_masks': BitmapMasks(mask, 40, 60),
        }
    )
    assert results['img'].shape == (20, 30, 3)
    assert results['scale_factor'] == (0.5, 0.5)
    assert results['gt_bboxes'].tensor.tolist() == [[15, 5, 29.5, 9.5]]
    expected = np.zeros((1, 20, 30))
    expected[0, 5:10, 15:30] = 1
    assert (results['gt_masks'].masks == expected).all()


def test_no_instance_stays_no_instance():
    results = ReferResize(20)(
        {
            'img': np.zeros((40, 60, 3), np.uint8),
            'gt_bboxes': HorizontalBoxes(np.zeros((0, 4), np.float32)),
            'gt_masks': BitmapMasks([], 40, 60),
        }
    )
    assert len(results['gt_masks']) == 0
    assert results['gt_masks'].height == 20


def test_draws_all_lengths():
    resize = ReferResize((16, 24))
    image = {'img': np.zeros((32, 32, 3), np.uint8)}
    heights = {resize(dict(image))['img_shape'][0] for _ in range(40)}
    assert heights == {16, 24}


@pytest.mark.parametrize('short_side', [(), 0, (16, -1)])
def test_errors(short_side):
    with pytest.raises(ValueError, match='short_side'):
        ReferResize(short_side)
