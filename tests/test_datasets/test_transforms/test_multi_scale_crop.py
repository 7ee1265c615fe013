# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The multi-scale crop draws what its spelt-out form draws."""

import random
from collections import Counter

import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from referformer.datasets.transforms import ReferMultiScaleCrop
from referformer.errors import ConfigError
from referformer.registry import TRANSFORMS

# a tenth of the published sizes
SIDES = (28, 32, 35, 39, 41, 44, 48, 51)
CROP_FROM = (40, 50, 60)
CROP = (38, 60)


def seed(value):
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 -- what the transforms draw from


def clip(size=(48, 85), frames=3):
    """Frames whose pixels tell where they come from, and a box in each."""
    height = size[0]
    rng = np.random.default_rng(0)
    results = {'img': [], 'gt_bboxes': [], 'gt_masks': []}
    for t in range(frames):
        mask = np.zeros((1, *size), np.uint8)
        mask[0, 10 : height - 12, 20 + t : 50 + t] = 1
        results['img'].append(rng.integers(0, 256, (*size, 3), np.uint8))
        box = [[20.0 + t, 10, 50 + t, height - 12]]
        results['gt_bboxes'].append(HorizontalBoxes(box))
        results['gt_masks'].append(BitmapMasks(mask, *size))
    results['gt_bboxes_labels'] = [np.zeros(1, np.int64)] * frames
    results['img_shape'] = [size] * frames
    return results


def spelt_out(after=SIDES, after_long=64):
    """The same augmentation out of mmcv's and mmdet's parts."""

    def together(*transforms):
        return [
            dict(
                type='TransformBroadcaster',
                share_random_params=True,
                transforms=list(transforms),
            )
        ]

    return TRANSFORMS.build(
        dict(
            type='RandomChoice',
            transforms=[
                together(
                    dict(
                        type='referformer.ReferResize',
                        short_side=SIDES,
                        max_long_side=64,
                    )
                ),
                together(
                    dict(type='referformer.ReferResize', short_side=CROP_FROM),
                    dict(
                        type='mmdet.RandomCrop',
                        crop_type='absolute_range',
                        crop_size=CROP,
                        allow_negative_crop=True,
                    ),
                    dict(
                        type='referformer.ReferResize',
                        short_side=after,
                        max_long_side=after_long,
                    ),
                ),
            ],
        )
    )


def registered(**kwargs):
    return ReferMultiScaleCrop(
        SIDES,
        max_long_side=64,
        short_side_before_crop=CROP_FROM,
        crop_size=CROP,
        **kwargs,
    )


def draws(transform, count, **kwargs):
    for value in range(count):
        seed(value)
        yield transform(clip(**kwargs))


@pytest.mark.parametrize('size', [(48, 85), (85, 48), (30, 34)])
@pytest.mark.parametrize('own_sizes', [False, True])
def test_same_clips_as_the_spelt_out_form(size, own_sizes):
    after = ((29, 33), 60) if own_sizes else (SIDES, 64)
    ours = registered(
        **dict(short_side_after_crop=after[0], max_long_side_after_crop=60)
        if own_sizes
        else {}
    )
    pairs = zip(
        draws(ours, 25, size=size),
        draws(spelt_out(*after), 25, size=size),
        strict=True,
    )
    shapes = set()
    for one, other in pairs:
        assert one.keys() == other.keys()
        for t in range(3):
            assert np.array_equal(one['img'][t], other['img'][t])
            boxes = one['gt_bboxes'][t].tensor, other['gt_bboxes'][t].tensor
            assert boxes[0].equal(boxes[1])
            masks = one['gt_masks'][t], other['gt_masks'][t]
            assert np.array_equal(masks[0].masks, masks[1].masks)
        shapes.add(one['img'][0].shape)
    assert len(shapes) > 5


def test_branches_sizes_and_crops():
    # at 85 x 48 only the branch without a crop keeps the aspect ratio
    branches, sides = Counter(), set()
    for results in draws(registered(), 200):
        height, width = results['img_shape'][0]
        assert max(height, width) <= 64
        plain = abs(height / width - 48 / 85) < 0.03
        branches[plain] += 1
        if plain:
            sides.add(height)
        # the frame, or a side from the list, or the long side at its limit
        short = min(height, width)
        assert short in SIDES or max(height, width) >= 63
    assert 70 < branches[True] < 130
    # at 85 x 48, sides above 36 meet the limit of the long side
    assert sides == {28, 32, 35, 36}


def test_crop_limits():
    # enlarged fiftyfold, the crop's own sides can be told from its shape
    transform = ReferMultiScaleCrop(
        1000, short_side_before_crop=100, crop_size=(20, 30)
    )
    longest = set()
    for results in draws(transform, 60, size=(100, 170)):
        height, width = results['img_shape'][0]
        assert min(height, width) == 1000
        if (height, width) != (1000, 1700):
            # sides of 20 to 30 pixels: no ratio beyond 3:2
            assert max(height, width) <= 1500
            longest.add(max(height, width))
    assert len(longest) > 10


def test_frames_boxes_and_masks_stay_in_step():
    found = 0
    for results in draws(registered(), 60):
        assert len({image.shape for image in results['img']}) == 1
        height, width = results['img_shape'][0]
        for masks, boxes in zip(
            results['gt_masks'], results['gt_bboxes'], strict=True
        ):
            assert (masks.height, masks.width) == (height, width)
            assert len(masks) == len(boxes)
            if not len(masks) or not masks.masks.any():
                continue
            rows, columns = np.nonzero(masks.masks[0])
            box = boxes.tensor[0].tolist()
            edges = columns.min(), rows.min(), columns.max(), rows.max()
            # nearest neighbour: within two pixels
            assert np.abs(np.subtract(edges, box)).max() <= 2
            found += 1
    assert found > 100


def test_frames_share_the_random_numbers():
    for value in range(20):
        seed(value)
        given = clip(frames=4)
        given['img'] = given['img'][:1] * 4
        images = registered()(given)['img']
        assert all(np.array_equal(images[0], image) for image in images)


def test_same_seed_same_clip():
    runs = [list(draws(registered(), 10)) for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        assert np.array_equal(one['img'], other['img'])
    assert len({results['img'][0].shape for results in runs[0]}) > 3


@pytest.mark.parametrize('crop_size', [(0, 4), (5, 4)])
def test_a_crop_needs_a_range(crop_size):
    with pytest.raises(ConfigError, match='crop_size'):
        ReferMultiScaleCrop(32, crop_size=crop_size)


def test_lengths_are_positive():
    with pytest.raises(ValueError, match='short_side'):
        ReferMultiScaleCrop(32, short_side_before_crop=(0,))


def test_repr_names_both_branches():
    text = repr(registered())
    assert text.startswith('ReferMultiScaleCrop(resize=[ReferResize(')
    assert '(38, 60)' in text
