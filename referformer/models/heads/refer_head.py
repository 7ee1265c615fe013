# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Prediction head: classes, boxes and masks of the decoded queries."""

import math
from collections.abc import Callable

import torch
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from referformer.models.layers import MaskFeatures
from referformer.models.transformers.decoder import refine_boxes
from referformer.registry import MODELS, TASK_UTILS
from referformer.structures import (
    ClipPredictions,
    ClipTargets,
    DecodedQueries,
    SelectedSequences,
)
from referformer.utils.precision import at_least_float32, without_autocast
from referformer.utils.sizes import of_all_frames


@MODELS.register_module()
class ReferHead(BaseModule):
    """Class, box and mask predictions with their losses (paper Sec. 3.3-3.5).

    Every decoder layer has its own class and box branch; the mask head is
    shared. In training all layers and queries are predicted at once; at
    prediction the sequence is selected first, and only its masks of the last
    layer are computed.

    Args:
        mask_head (dict): Config of the mask head.
        criterion (dict): Config of the training criterion.
        selector (dict): Config of the choice among queries.
        num_classes (int): Classes K; 1 is "referred or not".
        embed_dims (int): Channels C.
        num_layers (int): Decoder layers D.
        prior_prob (float): Initial probability of a positive, the bias of
            the class branches (focal loss).
        init_cfg (dict, optional): Initialisation config of mmengine.
    """

    def __init__(
        self,
        mask_head: dict,
        criterion: dict,
        selector: dict,
        num_classes: int = 1,
        embed_dims: int = 256,
        num_layers: int = 4,
        prior_prob: float = 0.01,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.prior_prob = prior_prob
        self.cls_branches = ModuleList(
            nn.Linear(embed_dims, num_classes) for _ in range(num_layers)
        )
        self.reg_branches = ModuleList(
            nn.Sequential(
                nn.Linear(embed_dims, embed_dims),
                nn.ReLU(inplace=True),
                nn.Linear(embed_dims, embed_dims),
                nn.ReLU(inplace=True),
                nn.Linear(embed_dims, 4),
            )
            for _ in range(num_layers)
        )
        self.mask_head = MODELS.build(mask_head)
        self.criterion = MODELS.build(criterion)
        self.selector = TASK_UTILS.build(selector)

    def init_weights(self) -> None:
        """Focal prior for classes; boxes start as small ones at the point."""
        super().init_weights()
        bias = -math.log((1 - self.prior_prob) / self.prior_prob)
        for branch in self.cls_branches:
            nn.init.constant_(branch.bias, bias)
        for branch in self.reg_branches:
            nn.init.zeros_(branch[-1].weight)
            nn.init.zeros_(branch[-1].bias)
        nn.init.constant_(self.reg_branches[0][-1].bias[2:], -2.0)

    def _logits_and_boxes(
        self, decoded: DecodedQueries, layer: int
    ) -> tuple[Tensor, Tensor]:
        """Predictions of one layer in float32: (B, Q, K) and (B, Q, 4)."""
        layer = range(len(self.cls_branches))[layer]
        hidden = decoded.hidden[layer]
        # a layer refines the reference that entered it
        reference = decoded.init_reference
        if layer > 0:
            reference = decoded.references[layer - 1]
        boxes = refine_boxes(self.reg_branches[layer], hidden, reference)
        with without_autocast(hidden):
            logits = self.cls_branches[layer](at_least_float32(hidden))
        return logits, boxes

    def forward(
        self,
        decoded: DecodedQueries,
        mask_feats: Tensor | MaskFeatures,
        sizes: Tensor,
    ) -> ClipPredictions:
        """Predict every layer and query.

        Args:
            decoded (DecodedQueries): Of B = N * T frames.
            mask_feats (Tensor | MaskFeatures): Shape (B, C_mask, h, w).
            sizes (Tensor): Unpadded (height, width) of the clips, (N, 2).

        Returns:
            ClipPredictions: Stacked over the D layers.
        """
        return ClipPredictions(
            *self._all_logits_and_boxes(decoded, sizes),
            self._all_masks(decoded, mask_feats, sizes),
        )

    def _all_logits_and_boxes(
        self, decoded: DecodedQueries, sizes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of all layers: (D, N, T, Q, K) and (D, N, T, Q, 4)."""
        shape = (sizes.shape[0], -1)
        num_layers = len(decoded.hidden)
        pairs = [self._logits_and_boxes(decoded, i) for i in range(num_layers)]
        logits = torch.stack([p[0] for p in pairs])
        boxes = torch.stack([p[1] for p in pairs])
        return logits.unflatten(1, shape), boxes.unflatten(1, shape)

    def _all_masks(
        self,
        decoded: DecodedQueries,
        mask_feats: Tensor | MaskFeatures,
        sizes: Tensor,
    ) -> Tensor:
        """Masks of all layers, (D, N, T, Q, h, w)."""
        num_layers, _, num_queries = decoded.hidden.shape[:3]
        # queries of all layers side by side: [D, B, Q, .] -> [B, D*Q, .]
        masks = self.mask_head(
            mask_feats,
            decoded.hidden.transpose(0, 1).flatten(1, 2),
            decoded.references.transpose(0, 1).flatten(1, 2),
            self._frame_sizes(sizes, mask_feats),
        )
        masks = masks.unflatten(1, (num_layers, num_queries)).transpose(0, 1)
        return masks.unflatten(1, (sizes.shape[0], -1))

    @staticmethod
    def _frame_sizes(
        sizes: Tensor, mask_feats: Tensor | MaskFeatures
    ) -> Tensor:
        # [N, 2] -> [B, 2]
        num_frames = mask_feats.shape[0] // sizes.shape[0]
        return of_all_frames(sizes, num_frames)

    def loss(
        self,
        decoded: DecodedQueries,
        mask_feats: Tensor | MaskFeatures,
        sizes: Tensor,
        targets: ClipTargets,
    ) -> dict[str, Tensor]:
        """Weighted losses by name; see :meth:`forward` and the criterion."""
        # most queries match nothing: their masks need no gradients
        with torch.no_grad():
            masks = self._all_masks(decoded, mask_feats, sizes)
        preds = ClipPredictions(
            *self._all_logits_and_boxes(decoded, sizes), masks
        )

        def masks_of(matched: Tensor) -> Tensor:
            # [D, N] -> [D, B, 1, 1]; queries [D, B, Q, X] -> [D, B, 1, X]
            num_frames = decoded.hidden.shape[1] // len(sizes)
            index = matched.repeat_interleave(num_frames, 1)[..., None, None]
            hidden, references = (
                part.gather(2, index.expand(-1, -1, -1, part.shape[-1]))
                for part in (decoded.hidden, decoded.references)
            )
            picked = decoded._replace(hidden=hidden, references=references)
            return self._all_masks(picked, mask_feats, sizes)

        return self.criterion(preds, targets, masks_of)

    def predict(
        self,
        decoded: DecodedQueries,
        mask_feats: Tensor | MaskFeatures,
        sizes: Tensor,
        selector: Callable[[Tensor], SelectedSequences] | None = None,
    ) -> tuple[SelectedSequences, Tensor, Tensor]:
        """Select the referred sequence, then compute its boxes and masks.

        Args:
            decoded (DecodedQueries): Of B = N * T frames.
            mask_feats (Tensor | MaskFeatures): Shape (B, C_mask, h, w).
            sizes (Tensor): Unpadded (height, width) of the clips, (N, 2).
            selector (Callable, optional): Chooses in place of the head's
                own selector.

        Returns:
            tuple: ``(selected, boxes, masks)``: the k selected sequences,
            their boxes (cx, cy, w, h) in [0, 1] of shape (N, T, k, 4), and
            their mask logits of shape (N, T, k, h, w).
        """
        shape = (sizes.shape[0], -1)
        logits, boxes = self._logits_and_boxes(decoded, -1)
        selector = selector or self.selector
        selected = selector(logits.unflatten(0, shape))

        def pick(per_query: Tensor) -> Tensor:
            # [B, Q, X] -> [B, k, X]
            index = of_all_frames(
                selected.query, per_query.shape[0] // shape[0]
            )
            index = index[..., None].expand(-1, -1, per_query.shape[-1])
            return per_query.gather(1, index)

        masks = self.mask_head(
            mask_feats,
            pick(decoded.hidden[-1]),
            pick(decoded.references[-1]),
            self._frame_sizes(sizes, mask_feats),
        )
        return (
            selected,
            pick(boxes).unflatten(0, shape),
            masks.unflatten(0, shape),
        )
