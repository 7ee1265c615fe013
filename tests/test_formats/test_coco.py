# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Polygons that enclose nothing, by every reader."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from referformer.formats.coco import read_candidates, read_truths
from referformer.formats.refcoco import read_sentences
from referformer.formats.rle import to_rle

SIZE = (20, 30)
SQUARE = [2, 3, 8, 3, 8, 9, 2, 9]
SLIVERS = [[], [2, 3], [2, 3, 8, 9], [1, 2, 3, 4, 5]]


@pytest.fixture
def file(tmp_path):
    def write(segmentation):
        path = tmp_path / 'a.json'
        image = dict(
            id=1,
            file_name='a.jpg',
            caption='a dog',
            height=SIZE[0],
            width=SIZE[1],
        )
        annotation = dict(
            id=4, image_id=1, segmentation=segmentation, bbox=[2, 3, 6, 6]
        )
        content = {'images': [image], 'annotations': [annotation]}
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.mark.parametrize('sliver', SLIVERS)
@pytest.mark.parametrize('others', [[], [SQUARE]])
def test_slivers_add_nothing_for_any_reader(file, tmp_path, sliver, others):
    polygons = [sliver, *others, sliver]
    expected = 36 * len(others)
    mask = mask_utils.decode(to_rle(polygons, *SIZE))
    assert mask.shape == SIZE
    assert mask.sum() == expected
    path = file(polygons)
    truths = read_truths(path)
    assert mask_utils.area(truths[1].rle) == expected
    (sentence,) = read_sentences(path)
    drawn = to_rle(sentence.segmentation, *SIZE)
    assert np.array_equal(mask_utils.decode(drawn), mask)
    preds = tmp_path / 'pred.json'
    entry = {'image_id': 1, 'score': 1, 'segmentation': polygons}
    preds.write_text(json.dumps([entry]))
    (candidate,) = read_candidates(preds, truths)[1]
    assert candidate.area == expected


def test_no_polygon_at_all_is_no_mask():
    with pytest.raises(ValueError, match='no polygon'):
        to_rle([], *SIZE)
