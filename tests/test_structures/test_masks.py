# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from referformer.structures import FrameGeometry, RLEMasks, SoftMasks


def soft_masks(num=2, resize='direct'):
    torch.manual_seed(0)
    logits = torch.randn(num, 16, 24)
    return SoftMasks(
        logits, FrameGeometry((38, 57), (77, 115), 4), resize=resize
    )


def test_the_padding_is_left_behind():
    """A small clip beside a large one is enlarged from its own part."""
    logits = torch.full((1, 16, 24), 9.0)
    logits[:, :10, :15] = -9.0  # the clip: 38 x 57 pixels, rounded up
    for resize in ('direct', 'two_step'):
        masks = SoftMasks(
            logits, FrameGeometry((38, 57), (76, 114), 4), resize=resize
        )
        assert masks.shape == (1, 76, 114)
        assert masks.to_ndarray().shape == masks.shape
        assert not masks.to_ndarray().any()


def test_probabilities_agree_with_masks():
    masks = soft_masks()
    probabilities = masks.probabilities()
    assert probabilities.dtype == np.float32
    assert 0 < probabilities.min() < 0.5 < probabilities.max() < 1
    np.testing.assert_array_equal(probabilities > 0.5, masks.to_ndarray())


def test_two_steps_end_in_blocks():
    """The second step only repeats pixels of the network's input."""
    geometry = FrameGeometry((40, 60), (80, 120), 4)
    torch.manual_seed(0)
    logits = torch.randn(1, 10, 15)
    two_step = SoftMasks(logits, geometry, resize='two_step').to_ndarray()
    small = FrameGeometry((40, 60), (40, 60), 4)
    coarse = SoftMasks(logits, small).to_ndarray()
    np.testing.assert_array_equal(
        two_step, coarse.repeat(2, axis=1).repeat(2, axis=2)
    )
    direct = SoftMasks(logits, geometry).to_ndarray()
    assert (direct != two_step).any()


def test_soft_masks_are_instances():
    masks = soft_masks(3)
    instances = InstanceData(masks=masks, scores=torch.rand(3))
    assert len(instances[:2].masks) == 2
    chosen = instances.masks[torch.tensor([2, 0])].to_ndarray()
    np.testing.assert_array_equal(chosen, masks.to_ndarray()[[2, 0]])
    assert masks[1].shape == (1, 77, 115)


def test_a_threshold():
    geometry = FrameGeometry((40, 60), (40, 60), 4)
    logits = torch.full((1, 10, 15), 1.0)
    assert SoftMasks(logits, geometry, 0.9).to_ndarray().all()
    assert not SoftMasks(logits, geometry, 1.1).to_ndarray().any()


def test_rle_masks():
    truth = np.zeros((2, 9, 13), np.uint8)
    truth[0, 2:5, 3:8] = 1
    masks = RLEMasks(
        mask_utils.encode(np.asfortranarray(truth.transpose(1, 2, 0))), (9, 13)
    )
    assert masks.shape == (2, 9, 13)
    np.testing.assert_array_equal(masks.to_ndarray(), truth.astype(bool))
    np.testing.assert_array_equal(masks[1].to_ndarray(), truth[1:] > 0)
    np.testing.assert_array_equal(masks[:1].to_ndarray(), truth[:1] > 0)
    assert RLEMasks([], (9, 13)).to_ndarray().shape == (0, 9, 13)
    assert InstanceData(masks=masks).masks.height == 9


@pytest.mark.parametrize('index', [5, -4])
def test_beyond_the_last(index):
    with pytest.raises(IndexError):
        soft_masks(2)[index]
