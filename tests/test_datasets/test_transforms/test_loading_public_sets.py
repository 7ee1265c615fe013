# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Masks from polygons and run lengths."""

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from referformer.datasets.transforms import LoadCocoReferAnnotations
from referformer.errors import DataError

SHAPE = (20, 30)
LEFT = [2, 3, 8, 3, 8, 9, 2, 9]
RIGHT = [20, 3, 26, 3, 26, 9, 20, 9]


def rectangle(x1, y1, x2, y2):
    mask = np.zeros(SHAPE, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def results(segmentation, **kwargs):
    return dict(
        rles=segmentation,
        ori_bbox=[1.5, 3.0, 8.25, 9.0],
        label=0,
        ori_shape=SHAPE,
        exp_id='4',
        subset='refcoco_val',
        img_path='train2014/a.jpg',
        mask_path=None,
        **kwargs,
    )


def decode(segmentation):
    """The mask that the transform draws, before it is left out if empty."""
    facts = results(segmentation)
    return LoadCocoReferAnnotations().select(SHAPE, facts, facts)


def test_parts_make_one_mask():
    both = rectangle(2, 3, 8, 9) | rectangle(20, 3, 26, 9)
    assert (decode([LEFT, RIGHT]) == both).all()
    # overlapping parts are not cut out of each other
    mask = decode([LEFT, LEFT])
    assert (mask == rectangle(2, 3, 8, 9)).all()


def test_run_lengths_of_either_kind():
    mask = rectangle(4, 2, 9, 17)
    packed = mask_utils.encode(np.asfortranarray(mask, np.uint8))
    text = {**packed, 'counts': packed['counts'].decode()}
    flat = mask.T.ravel()
    runs = np.diff(
        [0, *np.flatnonzero(np.diff(flat.astype(int), prepend=0)), flat.size]
    )
    loose = {'size': list(SHAPE), 'counts': runs.tolist()}
    for segmentation in (packed, text, loose):
        assert (decode(segmentation) == mask).all()


@pytest.mark.parametrize('sliver', [[], [2, 3], [2, 3, 8, 9]])
def test_slivers_add_nothing(sliver):
    """Four numbers are two points, not a box."""
    mask = decode([sliver, LEFT])
    assert (mask == rectangle(2, 3, 8, 9)).all()
    assert not decode([sliver]).any()


@pytest.mark.parametrize(
    ('segmentation', 'reason'),
    [
        ({'size': [30, 20], 'counts': [600]}, r'the image \[20, 30\]'),
        ({'size': [20, 30], 'counts': 5}, 'no "counts"'),
        # would be read from beyond its memory
        ({'size': [20, 30], 'counts': '1'}, 'no run-length code of its size'),
        ({'counts': [600]}, 'the size None'),
        (None, 'neither run-length encoded nor polygons'),
        ([3, 4], 'a polygon that is no list of numbers'),
        ([['a'] * 6], 'a polygon that is not'),
    ],
)
def test_what_is_no_mask_is_named(segmentation, reason):
    with pytest.raises(ValueError, match=f'^Sentence 4 of .*{reason}'):
        LoadCocoReferAnnotations()(results(segmentation))


def test_the_box_is_the_published_one():
    found = LoadCocoReferAnnotations()(results([LEFT]))
    assert found['gt_bboxes'].tensor.tolist() == [[1.5, 3.0, 8.25, 9.0]]
    assert (found['gt_masks'].masks[0] == rectangle(2, 3, 8, 9)).all()
    assert found['gt_bboxes_labels'].tolist() == [0]


def test_all_sentences_about_an_image():
    sentences = [results([LEFT]), results([RIGHT])]
    found = LoadCocoReferAnnotations()(
        dict(
            expressions=sentences,
            ori_shape=SHAPE,
            img_path='a.jpg',
            mask_path=None,
        )
    )
    masks = mask_utils.decode(found['gt_rles'])
    assert masks[5, 5].tolist() == [1, 0]
    assert masks[5, 22].tolist() == [0, 1]


def test_an_image_of_another_size_is_refused():
    frame = results([LEFT], ann_shape=(3, 4))
    with pytest.raises(DataError, match='but 4x3') as error:
        LoadCocoReferAnnotations().transform(frame)
    assert error.value.code == 'image-size-differs'
    frame['ann_shape'] = frame['ori_shape']
    assert len(LoadCocoReferAnnotations().transform(frame)['gt_masks']) == 1
