# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import numpy as np

from referformer.datasets.transforms import ReferPhotoMetricDistortion


def distort(image, **kwargs):
    transform = ReferPhotoMetricDistortion(**kwargs)
    return transform({'img': image.copy()})['img']


def test_output_is_bytes_and_does_not_wrap_around():
    np.random.seed(0)  # noqa: NPY002 -- what the transform draws from
    bright = np.full((8, 8, 3), 250, np.uint8)
    for _ in range(50):
        out = distort(bright)
        assert out.dtype == np.uint8
        assert out.flags['C_CONTIGUOUS']
        # Contrast is halved at most: wrapping would give nearly black.
        assert out.min() > 80


def test_channels_stay_when_told_so():
    np.random.seed(0)  # noqa: NPY002
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 2] = 200
    kept = {'swap_channels': False, 'hue_delta': 0}
    outs = [distort(red, **kept).argmax(axis=-1) for _ in range(60)]
    assert all((o == 2).all() for o in outs)
    outs = [distort(red, hue_delta=0).argmax(axis=-1) for _ in range(60)]
    assert {int(o[0, 0]) for o in outs} == {0, 1, 2}
