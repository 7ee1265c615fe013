# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch
from mmdet.models import GIoULoss as MMDetGIoULoss
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_overlaps

from referformer.models import GIoULoss
from referformer.models.losses.giou_loss import generalized_iou


def boxes(*shape):
    return bbox_cxcywh_to_xyxy(torch.rand(*shape, 4))


def test_values_are_mmdets():
    first, second = boxes(3, 200), boxes(3, 200)
    second[0, :9] = first[0, :9]  # the same box
    second[1, :9] = 0.0  # an absent object
    expected = bbox_overlaps(first, second, mode='giou', is_aligned=True)
    assert torch.equal(generalized_iou(first, second, 1e-6), expected)
    assert expected.min() < -0.5
    assert expected[0, 0] == 1


def test_loss_and_gradient_are_mmdets():
    results = []
    first, second = boxes(200), boxes(200)
    for cls in (GIoULoss, MMDetGIoULoss):
        leaf = first.clone().requires_grad_()
        loss = cls(loss_weight=2.0)(leaf, second, avg_factor=torch.tensor(7.0))
        loss.backward()
        results.append((loss, leaf.grad))
    torch.testing.assert_close(*results)


def test_the_gradient_of_an_empty_overlap_pulls():
    box = torch.tensor([[0.0, 0.0, 0.2, 0.2]], requires_grad=True)
    target = torch.tensor([[0.5, 0.5, 0.9, 0.9]])
    GIoULoss()(box, target, torch.tensor(1.0)).backward()
    assert (box.grad < 0).all()


@pytest.mark.parametrize('shape', [(0,), (2, 0)])
def test_no_boxes(shape):
    assert generalized_iou(boxes(*shape), boxes(*shape), 1e-6).shape == shape
