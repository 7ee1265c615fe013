# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Multi-scale deformable attention of PyTorch's own operators.

It runs on every device and can be traced, compiled and exported.
"""

import torch.nn.functional as F
from torch import Tensor

from referformer.models.ops.levels import FeatureLevels
from referformer.utils.precision import at_least_float32


def sample_levels(
    value: Tensor, levels: FeatureLevels, locations: Tensor, weights: Tensor
) -> Tensor:
    """See :func:`referformer.models.ops.sample_levels`."""
    dtype = value.dtype
    value = at_least_float32(value)
    # [B, tokens, H, D] -> [B * H, D, tokens]
    maps = value.permute(0, 2, 3, 1).flatten(0, 1)
    # [B, Q, H, L, P, 2] -> [B * H, L, Q, P, 2], from -1 to 1 over the map
    grids = locations.to(value.dtype).permute(0, 2, 3, 1, 4, 5) * 2 - 1
    grids = grids.flatten(0, 1)
    # [B, Q, H, L, P] -> [B * H, L, 1, Q, P]
    weights = weights.to(value.dtype).permute(0, 2, 3, 1, 4)
    weights = weights.flatten(0, 1)[:, :, None]
    total = 0.0
    parts = maps.split(levels.areas, 2)
    for i, (part, shape) in enumerate(zip(parts, levels.shapes, strict=True)):
        samples = F.grid_sample(
            part.unflatten(2, shape), grids[:, i], align_corners=False
        )  # [B * H, D, Q, P]
        total = total + (samples * weights[:, i]).sum(-1)
    num_frames = locations.shape[0]
    # [B * H, D, Q] -> [B, Q, H * D]
    out = total.unflatten(0, (num_frames, -1)).flatten(1, 2)
    return out.transpose(1, 2).to(dtype)
