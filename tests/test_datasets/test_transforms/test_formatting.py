# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks

from referformer.datasets.transforms import PackReferInputs


def make_clip(boxes, **kwargs):
    """One frame per entry of ``boxes``; ``None`` = object absent."""
    frames = len(boxes)
    clip = {
        'img': [np.full((6, 8, 3), i, np.uint8) for i in range(frames)],
        'text': ['a dog'] * frames,
        'video_id': ['v'] * frames,
        'exp_id': ['0'] * frames,
        'obj_id': ['1'] * frames,
        'video_length': [9] * frames,
        'frame_name': [f'{i:05d}' for i in range(frames)],
        'frame_id': list(range(frames)),
        'ori_shape': [(12, 16)] * frames,
        'img_shape': [(6, 8)] * frames,
    }
    if kwargs.pop('annotated', True):
        clip['gt_bboxes'] = [
            HorizontalBoxes(
                np.array([] if b is None else [b], np.float32).reshape(-1, 4)
            )
            for b in boxes
        ]
        clip['gt_masks'] = [
            BitmapMasks(
                [] if b is None else np.ones((1, 6, 8), np.uint8), 6, 8
            )
            for b in boxes
        ]
        clip['gt_bboxes_labels'] = [
            np.zeros(0 if b is None else 1, np.int64) for b in boxes
        ]
    return {**clip, **kwargs}


def test_packs_a_clip():
    packed = PackReferInputs()(make_clip([(1, 1, 4, 4), None]))
    assert packed['inputs'].shape == (2, 3, 6, 8)
    assert packed['inputs'].dtype == torch.uint8
    assert packed['inputs'][1].unique().tolist() == [1]
    sample = packed['data_samples']
    assert sample.text == 'a dog'
    assert sample.video_length == 9
    assert 'text_obj_id' not in sample.metainfo_keys()
    assert [len(f.gt_instances) for f in sample.video_data_samples] == [1, 0]
    seen, absent = sample.video_data_samples
    assert seen.frame_name == '00000'
    assert absent.frame_id == 1
    assert seen.gt_instances.bboxes.tolist() == [[1, 1, 4, 4]]
    assert type(seen.gt_instances.bboxes) is torch.Tensor
    assert absent.gt_instances.bboxes.shape == (0, 4)
    assert absent.gt_instances.labels.dtype == torch.int64
    assert absent.gt_instances.masks.masks.shape == (0, 6, 8)


def test_text_of_t_letters_survives():
    clip = make_clip([(1, 1, 4, 4)] * 5, text=['a dog'] * 5)
    assert PackReferInputs()(clip)['data_samples'].text == 'a dog'


def test_frame_whose_box_vanished_is_invalid():
    clip = make_clip([(1, 1, 4, 4), (3, 2, 3, 5)])
    frames = PackReferInputs()(clip)['data_samples'].video_data_samples
    assert [len(f.gt_instances) for f in frames] == [1, 0]
    assert len(frames[1].gt_instances.masks) == 0
    # Ground truth that is to be scored is not touched.
    kept = PackReferInputs(test_mode=True)(clip)['data_samples']
    assert len(kept.video_data_samples[1].gt_instances) == 1


@pytest.mark.parametrize('boxes', [[None, None], [None, (2, 2, 2, 2)]])
def test_clip_without_object_is_drawn_again(boxes):
    assert PackReferInputs()(make_clip(boxes)) is None
    assert PackReferInputs(test_mode=True)(make_clip(boxes)) is not None


def test_without_ground_truth():
    clip = make_clip([None, None], annotated=False)
    packed = PackReferInputs(test_mode=True)(clip)
    frames = packed['data_samples'].video_data_samples
    assert all('gt_instances' not in f for f in frames)


def test_errors():
    clip = make_clip([(1, 1, 4, 4)] * 2, text=['a left dog', 'a right dog'])
    with pytest.raises(ValueError, match="disagree on 'text'"):
        PackReferInputs()(clip)
    clip = make_clip([(1, 1, 4, 4)] * 2)
    clip['img'][1] = np.zeros((6, 9, 3), np.uint8)
    with pytest.raises(ValueError, match='video v differ in size'):
        PackReferInputs()(clip)
