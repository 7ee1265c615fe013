# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Dynamic convolutions: each query predicts the filters of its mask."""

from typing import NamedTuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.models.layers import MaskFeatures, filter_maps
from referformer.registry import MODELS
from referformer.utils.precision import at_least_float32, without_autocast


class DynamicFilters(NamedTuple):
    """Weights of the three 1x1 convolutions of each query, H hidden channels.

    Attributes:
        feat_weight (Tensor): First layer on mask features, (B, Q, H, C_mask).
        coord_weight (Tensor): First layer on relative (x, y), (B, Q, H, 2).
        bias0 (Tensor): Shape (B, Q, H).
        weight1 (Tensor): Shape (B, Q, H, H).
        bias1 (Tensor): Shape (B, Q, H).
        weight2 (Tensor): Shape (B, Q, 1, H).
        bias2 (Tensor): Shape (B, Q, 1).
    """

    feat_weight: Tensor
    coord_weight: Tensor
    bias0: Tensor
    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor


@MODELS.register_module()
class DynamicMaskHead(BaseModule):
    """Conditional segmentation head (paper Sec. 3.3, dynamic convolution).

    The first convolution reads the mask features and the position of each
    pixel relative to the query's box centre. It is linear, so both parts are
    computed apart and added: the features are never repeated per query, and
    the coordinate part is an outer sum of a row and a column.

    Args:
        embed_dims (int): Channels C of the query states.
        mask_channels (int): Channels of the mask features.
        hidden_channels (int): Channels between the dynamic convolutions.
        stride (int): Stride of the mask features in pixels.
        init_cfg (dict, optional): Initialisation config of mmengine.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        mask_channels: int = 256,
        hidden_channels: int = 8,
        stride: int = 4,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.mask_channels = mask_channels
        self.hidden_channels = hidden_channels
        self.stride = stride
        hidden = hidden_channels
        # order fixed by the published checkpoints: weights, then biases
        self.split_sizes = (
            hidden * (mask_channels + 2),
            hidden * hidden,
            hidden,
            hidden,
            hidden,
            1,
        )
        self.controller = nn.Sequential(
            nn.Linear(embed_dims, embed_dims),
            nn.ReLU(inplace=True),
            nn.Linear(embed_dims, embed_dims),
            nn.ReLU(inplace=True),
            nn.Linear(embed_dims, sum(self.split_sizes)),
        )

    def init_weights(self) -> None:
        """Xavier weights and zero biases in the controller."""
        super().init_weights()
        for layer in self.controller:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def parse_dynamic_params(self, params: Tensor) -> DynamicFilters:
        """Split the controller's output (B, Q, P) into views of it."""
        hidden = self.hidden_channels
        w0, w1, w2, b0, b1, b2 = params.split(self.split_sizes, -1)
        w0 = w0.unflatten(-1, (hidden, self.mask_channels + 2))
        return DynamicFilters(
            feat_weight=w0[..., :-2],
            coord_weight=w0[..., -2:],
            bias0=b0,
            weight1=w1.unflatten(-1, (hidden, hidden)),
            bias1=b1,
            weight2=w2.unflatten(-1, (1, hidden)),
            bias2=b2,
        )

    def _coordinate_part(
        self, filters: DynamicFilters, centers: Tensor, height: int, width: int
    ) -> Tensor:
        """First layer on relative coordinates, (B, Q, H, h, w)."""
        start = self.stride // 2
        cols = torch.arange(width, device=centers.device) * self.stride + start
        rows = (
            torch.arange(height, device=centers.device) * self.stride + start
        )
        rel_x = centers[..., 0, None] - cols  # [B, Q, w]
        rel_y = centers[..., 1, None] - rows  # [B, Q, h]
        weight = filters.coord_weight
        part_x = weight[..., 0, None] * rel_x[:, :, None]  # [B, Q, H, w]
        part_y = weight[..., 1, None] * rel_y[:, :, None]  # [B, Q, H, h]
        part_y = part_y + filters.bias0[..., None]
        return part_y[..., :, None] + part_x[..., None, :]

    def forward(
        self,
        mask_feats: Tensor | MaskFeatures,
        hidden: Tensor,
        references: Tensor,
        frame_sizes: Tensor,
    ) -> Tensor:
        """Cut the masks of the given queries.

        Args:
            mask_feats (Tensor | MaskFeatures): Shape (B, C_mask, h, w).
            hidden (Tensor): Query states, shape (B, Q, C). Queries of
                several decoder layers may be put side by side along Q.
            references (Tensor): Refined (cx, cy, ...) in [0, 1] of the same
                queries, shape (B, Q, 2 or 4).
            frame_sizes (Tensor): Unpadded (height, width) in pixels of each
                frame, shape (B, 2).

        Returns:
            Tensor: Mask logits, float32, shape (B, Q, h, w).
        """
        # products over many channels and distances in pixels need more
        # digits than half precision has
        with without_autocast(hidden):
            return self._cut(
                mask_feats,
                *map(at_least_float32, (hidden, references)),
                frame_sizes,
            )

    def _cut(
        self,
        mask_feats: Tensor | MaskFeatures,
        hidden: Tensor,
        references: Tensor,
        frame_sizes: Tensor,
    ) -> Tensor:
        num_frames, num_queries = hidden.shape[:2]
        height, width = mask_feats.shape[-2:]
        filters = self.parse_dynamic_params(self.controller(hidden))
        centers = references[..., :2] * frame_sizes.flip(-1)[:, None]
        weight = filters.feat_weight.flatten(1, 2)
        if isinstance(mask_feats, MaskFeatures):
            x = mask_feats.filter(weight)
        else:
            x = filter_maps(at_least_float32(mask_feats), weight)
        x = x.view(num_frames, num_queries, -1, height, width)
        x = x + self._coordinate_part(filters, centers, height, width)
        x = x.relu().flatten(3)
        x = (filters.weight1 @ x + filters.bias1[..., None]).relu()
        x = filters.weight2 @ x + filters.bias2[..., None]
        return x.view(num_frames, num_queries, height, width)
