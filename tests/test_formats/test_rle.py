# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from referformer.formats.rle import decode_union


@pytest.mark.parametrize('number', [0, 1, 3])
def test_union_of_codes(number):
    masks = np.random.default_rng(number).random((number, 9, 14)) < 0.3
    rles = [
        mask_utils.encode(np.asfortranarray(mask, np.uint8)) for mask in masks
    ]
    union = decode_union(rles, (9, 14))
    assert union.dtype == bool
    assert union.flags.c_contiguous
    assert np.array_equal(union, masks.any(axis=0))
