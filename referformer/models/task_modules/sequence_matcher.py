# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Instance-sequence matching: which query is the referred object."""

import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

from referformer.models.losses.giou_loss import generalized_iou
from referformer.registry import TASK_UTILS
from referformer.structures import ClipPredictions, ClipTargets
from referformer.utils.precision import without_autocast


def class_cost(
    logits: Tensor,
    labels: Tensor,
    valid: Tensor,
    alpha: float = 0.25,
    gamma: float = 2.0,
    eps: float = 1e-8,
) -> Tensor:
    """Focal cost of calling a sequence the target class.

    Args:
        logits (Tensor): Shape (D, N, T, Q, K).
        labels (Tensor): Target classes, shape (N,).
        valid (Tensor): Frames where the object is visible, shape (N, T).
        alpha (float): Weight of positives.
        gamma (float): Focusing exponent.
        eps (float): Keeps the logarithms finite.

    Returns:
        Tensor: Mean over the visible frames, shape (D, N, Q).
    """
    index = labels.view(1, -1, 1, 1, 1).expand(*logits.shape[:-1], 1)
    prob = logits.gather(-1, index)[..., 0].sigmoid()  # [D, N, T, Q]
    positive = alpha * (1 - prob) ** gamma * -(prob + eps).log()
    negative = (1 - alpha) * prob**gamma * -(1 - prob + eps).log()
    weight = valid.to(prob)[None, ..., None]
    return ((positive - negative) * weight).sum(2) / weight.sum(2)


def box_l1_cost(boxes: Tensor, targets: Tensor) -> Tensor:
    """Mean L1 distance over the frames, shape (D, N, Q).

    Args:
        boxes (Tensor): Normalised (cx, cy, w, h), shape (D, N, T, Q, 4).
        targets (Tensor): Likewise, shape (N, T, 4).
    """
    return (boxes - targets[None, :, :, None]).abs().sum(-1).mean(2)


def box_giou_cost(boxes: Tensor, targets: Tensor) -> Tensor:
    """Negative generalised IoU; arguments as of :func:`box_l1_cost`."""
    giou = generalized_iou(
        bbox_cxcywh_to_xyxy(boxes),
        bbox_cxcywh_to_xyxy(targets)[None, :, :, None],
        eps=1e-6,
    )
    return -giou.mean(2)


def mask_focal_cost(
    masks: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Focal cost of the mask of a whole sequence.

    Args:
        masks (Tensor): Logits, shape (D, N, Q, P) with P = T*h*w pixels.
        targets (Tensor): 0/1 masks, shape (N, P).
        alpha (float): Weight of foreground pixels.
        gamma (float): Focusing exponent.

    Returns:
        Tensor: Mean over pixels, shape (D, N, Q).
    """
    prob = masks.sigmoid()
    softplus = torch.nn.functional.softplus
    positive = alpha * (1 - prob) ** gamma * softplus(-masks)
    negative = (1 - alpha) * prob**gamma * softplus(masks)
    # sum_p [t * pos + (1 - t) * neg], as one product with the target
    cost = torch.einsum('dnqp,np->dnq', positive - negative, targets)
    return (cost + negative.sum(-1)) / masks.shape[-1]


def mask_dice_cost(masks: Tensor, targets: Tensor) -> Tensor:
    """Negative smoothed Dice coefficient; see :func:`mask_focal_cost`."""
    prob = masks.sigmoid()
    overlap = torch.einsum('dnqp,np->dnq', prob, targets)
    total = prob.sum(-1) + targets.sum(-1)[None, :, None]
    return -(2 * overlap + 1) / (total + 1)


@TASK_UTILS.register_module()
class InstanceSequenceMatcher:
    """Match the referred object to the query of least cost (Sec. 3.5).

    There is one object per clip, so the bipartite matching is an argmin. The
    cost is a property of the whole sequence: each term is taken over all
    frames, except the class term, which skips frames without the object.
    All layers and clips are matched at once, without a host sync.

    Args:
        weight_class (float): Weight of the class cost.
        weight_bbox (float): Weight of the L1 cost.
        weight_giou (float): Weight of the GIoU cost.
        weight_mask (float): Weight of the mask focal cost.
        weight_dice (float): Weight of the Dice cost.
        alpha (float): Alpha of both focal costs.
        gamma (float): Gamma of both focal costs.
    """

    def __init__(
        self,
        weight_class: float = 2.0,
        weight_bbox: float = 5.0,
        weight_giou: float = 2.0,
        weight_mask: float = 2.0,
        weight_dice: float = 5.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        self.weight_class = weight_class
        self.weight_bbox = weight_bbox
        self.weight_giou = weight_giou
        self.weight_mask = weight_mask
        self.weight_dice = weight_dice
        self.alpha = alpha
        self.gamma = gamma

    @torch.no_grad()
    def cost(self, preds: ClipPredictions, targets: ClipTargets) -> Tensor:
        """Cost of every query, in full precision under any autocast.

        Args:
            preds (ClipPredictions): Of D layers and N clips.
            targets (ClipTargets): Ground truth with masks already at the
                resolution of the predicted ones, shape (N, T, h, w).

        Returns:
            Tensor: Shape (D, N, Q), float32.
        """
        logits, boxes, masks = (part.float() for part in preds)
        # [D, N, T, Q, h, w] -> [D, N, Q, T*h*w]
        masks = masks.transpose(2, 3).flatten(3)
        mask_targets = targets.masks.flatten(1)
        focal = {'alpha': self.alpha, 'gamma': self.gamma}
        with without_autocast(masks):
            return (
                self.weight_class
                * class_cost(logits, targets.labels, targets.valid, **focal)
                + self.weight_bbox * box_l1_cost(boxes, targets.boxes)
                + self.weight_giou * box_giou_cost(boxes, targets.boxes)
                + self.weight_mask
                * mask_focal_cost(masks, mask_targets, **focal)
                + self.weight_dice * mask_dice_cost(masks, mask_targets)
            )

    def __call__(self, preds: ClipPredictions, targets: ClipTargets) -> Tensor:
        """Matched query of each layer and clip, int64, shape (D, N)."""
        return self.cost(preds, targets).argmin(-1)
