# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Generalised IoU of pairs of boxes, without waiting for the device."""

import torch
from mmengine.model import BaseModule
from torch import Tensor

from referformer.registry import MODELS


def generalized_iou(boxes: Tensor, targets: Tensor, eps: float) -> Tensor:
    """Generalised IoU of each pair of boxes.

    The numbers are those of mmdet's ``bbox_overlaps``, which copies ``eps``
    to the device at every call.

    Args:
        boxes (Tensor): (x1, y1, x2, y2), shape (..., 4).
        targets (Tensor): The other box of each pair; broadcasts.
        eps (float): Smallest area to divide by.

    Returns:
        Tensor: From -1 to 1, shape (...).
    """

    def area(upper_left: Tensor, lower_right: Tensor) -> Tensor:
        width, height = (lower_right - upper_left).clamp(min=0).unbind(-1)
        return width * height

    start, end = boxes[..., :2], boxes[..., 2:]
    target_start, target_end = targets[..., :2], targets[..., 2:]
    overlap = area(
        torch.maximum(start, target_start), torch.minimum(end, target_end)
    )
    union = area(start, end) + area(target_start, target_end) - overlap
    union = union.clamp(min=eps)
    enclosing = area(
        torch.minimum(start, target_start), torch.maximum(end, target_end)
    ).clamp(min=eps)
    return overlap / union - (enclosing - union) / enclosing


@MODELS.register_module()
class GIoULoss(BaseModule):
    """One minus the generalised IoU of each pair of boxes.

    Args:
        eps (float): Smallest area to divide by.
        loss_weight (float): Weight of the loss.
    """

    def __init__(self, eps: float = 1e-6, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.eps = eps
        self.loss_weight = loss_weight

    def forward(
        self,
        boxes: Tensor,
        targets: Tensor,
        avg_factor: Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Losses of n pairs of boxes (x1, y1, x2, y2), or their mean.

        Args:
            boxes (Tensor): Shape (n, 4).
            targets (Tensor): Shape (n, 4).
            avg_factor (Tensor, optional): What the sum is divided by, a
                scalar. None is n.
            reduction_override (str, optional): ``'none'`` to return the n
                losses.
        """
        loss = 1 - generalized_iou(boxes, targets, self.eps)
        loss = self.loss_weight * loss
        if reduction_override == 'none':
            return loss
        return loss.mean() if avg_factor is None else loss.sum() / avg_factor
