# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Training criterion over instance sequences."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmdet.utils import reduce_mean
from mmengine.model import BaseModule
from torch import Tensor

from referformer.errors import ConfigError
from referformer.registry import MODELS, TASK_UTILS
from referformer.structures import ClipPredictions, ClipTargets
from referformer.utils.precision import without_autocast


@MODELS.register_module()
class InstanceSequenceCriterion(BaseModule):
    """Losses of the matched sequence in every decoder layer (Sec. 3.5).

    All sums are divided by the number of visible (clip, frame) pairs of the
    batch, averaged over the processes. Frames without the object count in
    the box and mask terms, with a zero box and a zero mask, as in the
    published code.

    The losses of all layers are computed at once. They take
    ``reduction_override='none'``, as those of mmdet do.

    Args:
        matcher (dict): Config of the matcher.
        loss_cls (dict): Config of the class loss (sigmoid focal).
        loss_bbox (dict): Config of the box L1 loss.
        loss_giou (dict): Config of the box GIoU loss.
        loss_mask (dict): Config of the mask loss (sigmoid focal).
        loss_dice (dict): Config of the Dice loss.
        mask_stride (int): Stride at which masks are compared, in pixels;
            targets are sampled at the centres ``[stride // 2::stride]``.
            That of the predicted masks (4), as published, or a finer one: the
            predictions are then enlarged first, as they are for the result.
        init_cfg (dict, optional): Initialisation config of mmengine.
    """

    def __init__(
        self,
        matcher: dict,
        loss_cls: dict,
        loss_bbox: dict,
        loss_giou: dict,
        loss_mask: dict,
        loss_dice: dict,
        mask_stride: int = 4,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.matcher = TASK_UTILS.build(matcher)
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_giou = MODELS.build(loss_giou)
        self.loss_mask = MODELS.build(loss_mask)
        self.loss_dice = MODELS.build(loss_dice)
        self.mask_stride = mask_stride

    def sample_masks(self, masks: Tensor) -> Tensor:
        """Sample target masks at the positions of the predictions.

        Args:
            masks (Tensor): Shape (N, T, H, W), sides divisible by the stride.

        Returns:
            Tensor: Float32, shape (N, T, h, w).

        Raises:
            ConfigError: If a side is not divisible by the stride.
        """
        stride = self.mask_stride
        if masks.shape[-1] % stride or masks.shape[-2] % stride:
            raise ConfigError(
                f'target masks of {tuple(masks.shape[-2:])} pixels are not '
                f'divisible by {stride}; set '
                'model.data_preprocessor.pad_size_divisor to a multiple of '
                f'{stride}.'
            )
        sampled = masks[..., stride // 2 :: stride, stride // 2 :: stride]
        return sampled.float()

    def forward(
        self,
        preds: ClipPredictions,
        targets: ClipTargets,
        masks_of: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Match every layer and sum up its losses.

        Args:
            preds (ClipPredictions): Of D layers and N clips.
            targets (ClipTargets): Ground truth of the padded frames.
            masks_of (Callable, optional): Computes the masks of the matched
                queries (D, N), shape (D, N, T, 1, h, w), with gradients. Those
                of ``preds`` then need none.

        Returns:
            dict[str, Tensor]: ``loss_cls, loss_bbox, loss_giou, loss_mask,
            loss_dice`` of the last layer, and ``d{i}.loss_*`` of layer ``i``.
        """
        # sums over the pixels of a clip overflow in half precision, and two
        # queries often differ by less than its resolution
        with without_autocast(preds.logits):
            return self._forward(
                ClipPredictions(*(part.float() for part in preds)),
                targets,
                masks_of,
            )

    def _forward(
        self,
        preds: ClipPredictions,
        targets: ClipTargets,
        masks_of: Callable[[Tensor], Tensor] | None,
    ) -> dict[str, Tensor]:
        targets = targets._replace(masks=self.sample_masks(targets.masks))
        size = targets.masks.shape[-2:]
        preds = preds._replace(masks=self._enlarge(preds.masks, size))
        matched = self.matcher(preds, targets)
        # one small reduction, kept on the device
        num_visible = targets.valid.sum().float()
        num_visible = reduce_mean(num_visible).clamp(min=1.0)
        if masks_of is None:
            masks = _pick(preds.masks, matched)
        else:
            masks = self._enlarge(masks_of(matched).float(), size)
        terms = self._terms(preds, targets, matched, masks)
        num_layers = len(preds.logits)
        prefixes = [f'd{i}.' for i in range(num_layers - 1)] + ['']
        losses = {}
        for name, loss in terms.items():
            # [...] of all layers -> one sum a layer
            sums = loss.reshape(num_layers, -1).sum(1) / num_visible
            for prefix, layer in zip(prefixes, sums.unbind(), strict=True):
                losses[prefix + name] = layer
        return losses

    def _enlarge(self, masks: Tensor, size: Sequence[int]) -> Tensor:
        """Bring mask logits (D, N, T, Q, h, w) to the size of the targets.

        Raises:
            ConfigError: If the targets are smaller.
        """
        have, want = tuple(masks.shape[-2:]), tuple(size)
        if have == want:
            return masks
        if have[0] > want[0] or have[1] > want[1]:
            raise ConfigError(
                f'mask_stride={self.mask_stride} is coarser than the '
                f'predicted masks of {have} pixels; set '
                "model.head.criterion.mask_stride to the mask head's stride "
                'or less.'
            )
        large = F.interpolate(
            masks.flatten(0, 2), want, mode='bilinear', align_corners=False
        )
        return large.unflatten(0, masks.shape[:3])

    def _terms(
        self,
        preds: ClipPredictions,
        targets: ClipTargets,
        matched: Tensor,
        masks: Tensor,
    ) -> dict[str, Tensor]:
        """Weighted losses of all layers at once, before they are summed up.

        Args:
            preds (ClipPredictions): Of D layers and N clips.
            targets (ClipTargets): With masks of shape (N, T, h, w).
            matched (Tensor): Matched query, shape (D, N).
            masks (Tensor): Of these queries, shape (D, N, T, 1, h, w).

        Returns:
            dict[str, Tensor]: Five losses, layer by layer.
        """

        def repeat(target: Tensor) -> Tensor:
            # [N, ...] -> [D*N, ...]
            return target.expand(len(matched), *target.shape).flatten(0, 1)

        each = {'reduction_override': 'none'}
        boxes = _pick(preds.boxes, matched).flatten(0, 3)  # [D*N*T, 4]
        target_boxes = repeat(targets.boxes).flatten(0, 1)
        masks = masks.flatten(0, 1).flatten(1)  # [D*N, T*h*w]
        target_masks = repeat(targets.masks).flatten(1)
        return {
            'loss_cls': self.loss_cls(
                preds.logits.flatten(0, 3),
                self._class_targets(preds.logits, targets, matched),
                **each,
            ),
            'loss_bbox': self.loss_bbox(boxes, target_boxes, **each),
            'loss_giou': self.loss_giou(
                bbox_cxcywh_to_xyxy(boxes),
                bbox_cxcywh_to_xyxy(target_boxes),
                **each,
            ),
            'loss_mask': self.loss_mask(masks, target_masks, **each)
            / masks.shape[1],
            'loss_dice': self.loss_dice(masks, target_masks, **each),
        }

    @staticmethod
    def _class_targets(
        logits: Tensor, targets: ClipTargets, matched: Tensor
    ) -> Tensor:
        """Positives: the matched query in visible frames, (D*N*T*Q, K)."""
        onehot = torch.zeros_like(logits)
        clips = torch.arange(matched.shape[1], device=matched.device)
        layers = torch.arange(len(matched), device=matched.device)[:, None]
        valid = targets.valid.to(logits)
        onehot[layers, clips, :, matched, targets.labels] = valid
        return onehot.flatten(0, 3)


def _pick(part: Tensor, matched: Tensor) -> Tensor:
    """Take one query of (D, N, T, Q, ...), shape (D, N, T, 1, ...)."""
    index = matched.view(*matched.shape, *[1] * (part.ndim - 2))
    return part.gather(
        3, index.expand(-1, -1, part.shape[2], -1, *part.shape[4:])
    )
