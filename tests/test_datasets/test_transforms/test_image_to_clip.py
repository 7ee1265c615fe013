# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Pseudo clips."""

import random

import cv2
import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from referformer.datasets.transforms import ImageToClip
from referformer.datasets.transforms.image_to_clip import motion_blur_kernel
from referformer.datasets.transforms.loading import mask_to_box

HEIGHT, WIDTH = 60, 90
STILL = dict(
    rotation=0,
    translation=0,
    perspective=0,
    brightness=0,
    hue_saturation=0,
    blur_prob=0,
)


def results(area=np.s_[20:40, 30:50], colour=(30, 60, 220)):
    """An image with one object, loaded as a clip of one frame."""
    mask = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    mask[0][area] = 1
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[mask[0] > 0] = colour
    return dict(
        img=[image],
        gt_masks=[BitmapMasks(mask, HEIGHT, WIDTH)],
        gt_bboxes=[HorizontalBoxes(np.array([[1.0, 2, 3, 4]], np.float32))],
        gt_bboxes_labels=[np.array([0])],
        frame_id=[0],
        text=['the red one'],
        video_id=['a'],
        ori_shape=[(HEIGHT, WIDTH)],
    )


def make(seed=0, num_frames=5, source=None, **kwargs):
    random.seed(seed)
    transform = ImageToClip(num_frames, **kwargs)
    return transform(results() if source is None else source)


def only(**kwargs):
    """Everything off but this."""
    return {**STILL, **kwargs}


def masks_of(clip):
    return [each.masks[0] for each in clip['gt_masks']]


def test_lists_of_length_t():
    clip = make()
    assert {len(values) for values in clip.values()} == {5}
    assert clip['text'] == ['the red one'] * 5
    assert clip['frame_id'] == [0, 1, 2, 3, 4]
    assert all(image.dtype == np.uint8 for image in clip['img'])


def test_the_image_itself_is_among_them_anywhere():
    image = results()['img'][0]
    places = set()
    for seed in range(40):
        same = [(frame == image).all() for frame in make(seed)['img']]
        assert sum(same) == 1
        places.add(same.index(True))
    assert places == set(range(5))


def test_one_frame_is_the_image():
    source = results()
    clip = make(num_frames=1, source=results())
    assert (clip['img'][0] == source['img'][0]).all()
    assert (clip['gt_masks'][0].masks == source['gt_masks'][0].masks).all()


@pytest.mark.parametrize('seed', range(10))
def test_masks_stay_on_the_object(seed):
    """Pixels of the mask are red, others are not, up to the outline."""
    clip = make(seed, brightness=0, hue_saturation=0, blur_prob=0)
    for image, mask in zip(clip['img'], masks_of(clip), strict=True):
        red = image[..., 2].astype(int) - image[..., 0]
        kernel = np.ones((3, 3), np.uint8)
        inside = cv2.erode(mask, kernel).astype(bool)
        outside = ~cv2.dilate(mask, kernel).astype(bool)
        assert inside.any()
        # 190 on the object, 0 elsewhere
        assert (red[inside] > 95).all()
        assert (red[outside] < 95).all()


def test_boxes_are_those_of_the_masks():
    clip = make()
    for mask, boxes in zip(masks_of(clip), clip['gt_bboxes'], strict=True):
        assert (boxes.tensor.numpy() == mask_to_box(mask)).all()


def test_an_object_that_left_is_absent():
    corner = results(np.s_[0:3, 0:3])
    counts = set()
    for seed in range(30):
        clip = make(seed, source=dict(corner), num_frames=3)
        for masks, boxes, labels in zip(
            clip['gt_masks'],
            clip['gt_bboxes'],
            clip['gt_bboxes_labels'],
            strict=True,
        ):
            assert len(masks) == len(boxes) == len(labels)
            assert masks.masks.shape[1:] == (HEIGHT, WIDTH)
            counts.add(len(masks))
    assert counts == {0, 1}


def test_no_object_is_no_error():
    clip = make(source=results(np.s_[0:0, 0:0]))
    assert [len(masks) for masks in clip['gt_masks']] == [0] * 5


def centre(mask):
    return np.array(np.nonzero(mask)).mean(axis=1)[::-1]


def test_rotation_about_the_centre():
    """By 20 degrees at most, to both sides, and without a change of size."""
    disk = results()
    disk['gt_masks'][0].masks[0] = 0
    disk['gt_masks'][0].masks[0, 29:31, 70:72] = 1
    middle = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    angles = []
    for seed in range(60):
        clip = make(seed, 3, dict(disk), **only(rotation=20))
        for mask in masks_of(clip):
            x, y = centre(mask) - middle
            assert np.hypot(x, y) == pytest.approx(26, abs=1)
            angles.append(np.degrees(np.arctan2(y, x)))
    assert max(np.abs(angles)) < 20 + 2
    assert min(angles) < -15
    assert max(angles) > 15


def test_shift_along_the_diagonal():
    """By a tenth of either side at most, the same share of both."""
    shifts = []
    for seed in range(60):
        clip = make(seed, 3, **only(translation=0.1))
        start = centre(results()['gt_masks'][0].masks[0])
        shifts += [
            (centre(mask) - start) / (WIDTH, HEIGHT) for mask in masks_of(clip)
        ]
    shifts = np.array(shifts)
    assert np.abs(shifts).max() < 0.1 + 0.02
    assert shifts.min() < -0.07
    assert shifts.max() > 0.07
    assert np.abs(shifts[:, 0] - shifts[:, 1]).max() < 0.02


def test_beyond_the_border_is_black():
    clip = make(1, **only(translation=0.1))
    frames = np.array(clip['img'])
    assert (frames.reshape(5, -1, 3).max(axis=-1) == 0).any(axis=1).any()


def test_perspective_only_enlarges():
    """Corners come from inside: nothing is black, nothing gets smaller."""
    for seed in range(20):
        clip = make(seed, 3, **only(perspective=0.08))
        assert min(frame.min() for frame in clip['img']) >= 30
        area = results()['gt_masks'][0].masks.sum()
        assert all(mask.sum() >= area - 40 for mask in masks_of(clip))


def test_colours_change_a_little():
    original = results()['img'][0].astype(int)
    bright, colour = [], []
    for seed in range(40):
        clip = make(seed, 2, **only(brightness=40))
        bright += [int((f - original)[0, 0, 0]) for f in clip['img']]
        clip = make(seed, 2, **only(hue_saturation=5))
        colour += [int(np.abs(f - original).max()) for f in clip['img']]
    assert max(np.abs(bright)) <= 40
    assert min(bright) < -25
    assert max(bright) > 25
    # a variation may draw a change of 0
    assert 0 < max(colour) < 30
    assert len(set(colour)) > 3


def test_brightness_does_not_wrap_around():
    white = results(colour=(255, 255, 255))
    for seed in range(10):
        clip = make(seed, 3, dict(white), **only(brightness=40))
        assert min(frame[25, 35].min() for frame in clip['img']) >= 215


def test_motion_blur_kernels():
    for size in (9, 11):
        for angle in (0, 33, 90, 200):
            for direction in (-1, 0, 0.6):
                kernel = motion_blur_kernel(size, angle, direction)
                assert kernel.sum() == pytest.approx(1, abs=1e-5)
                assert kernel.min() >= 0
    # an even movement up and down, and one from left to right
    upright = motion_blur_kernel(9, 0, 0)
    assert upright[:, 4] == pytest.approx(np.full(9, 1 / 9))
    assert motion_blur_kernel(9, 90, 0)[4] == pytest.approx(
        np.full(9, 1 / 9), abs=0.01
    )


def test_blur_is_as_frequent_as_told():
    blurred = 0
    for seed in range(100):
        clip = make(seed, 2, **only(blur_prob=0.25))
        image = results()['img'][0]
        blurred += any((frame != image).any() for frame in clip['img'])
    assert 12 <= blurred <= 40


def test_videos_are_refused():
    source = {key: values * 2 for key, values in results().items()}
    with pytest.raises(ValueError, match='got 2 frames of a'):
        make(source=source)
    with pytest.raises(ValueError, match='num_frames is 0'):
        ImageToClip(0)
