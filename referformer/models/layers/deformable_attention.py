# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Multi-scale deformable attention: project, sample, project."""

import math

import torch
from torch import Tensor, nn

from referformer.models.layers.linear import Linear
from referformer.models.ops import FeatureLevels, sample_levels
from referformer.utils.kept import is_traced
from referformer.utils.precision import at_least_float32, without_autocast

#: Queries to work on at a time on a CPU.
_QUERIES_PER_PART = 2**12


class MultiScaleDeformableAttention(nn.Module):
    """Attention to a few points around a reference on each feature level.

    `Deformable DETR <https://arxiv.org/abs/2010.04159>`_, with the parameters
    of mmcv's module of this name. :mod:`referformer.models.ops` samples.

    Args:
        embed_dims (int): Channels C.
        num_heads (int): Heads; divides ``embed_dims``.
        num_levels (int): Feature levels L.
        num_points (int): Sampling points P of each head and level.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, num_levels: int, num_points: int
    ) -> None:
        super().__init__()
        self.points = (num_heads, num_levels, num_points)
        num_samples = math.prod(self.points)
        self.sampling_offsets = Linear(embed_dims, num_samples * 2)
        self.attention_weights = Linear(embed_dims, num_samples)
        self.value_proj = Linear(embed_dims, embed_dims)
        self.output_proj = Linear(embed_dims, embed_dims)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Give each head a direction, and each of its points a distance.

        Head ``i`` of n starts at the angle ``2 pi i / n``; its ``k``-th point
        lies ``k`` cells away along the longer axis.
        """
        num_heads, num_levels, num_points = self.points
        angles = torch.arange(num_heads) * (2 * math.pi / num_heads)
        ring = torch.stack((angles.cos(), angles.sin()), -1)
        ring = ring / ring.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, num_points + 1)[:, None]
        offsets = (ring[:, None, None] * steps).repeat(1, num_levels, 1, 1)
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        references: Tensor,
        levels: FeatureLevels,
        padding_mask: Tensor | None,
    ) -> Tensor:
        """Attend, in float32 under any autocast.

        Args:
            query (Tensor): With its position, shape (B, Q, C).
            value (Tensor): Tokens of all levels, shape (B, tokens, C).
            references (Tensor): Points (x, y) or boxes (x, y, w, h) relative
                to each level, float32, shape (B, Q, L, 2 or 4).
            levels (FeatureLevels): Geometry of the tokens.
            padding_mask (Tensor, optional): True where a token is padding,
                shape (B, tokens). None where nothing is padded.

        Returns:
            Tensor: Shape (B, Q, C).
        """
        # where to look at needs more digits than half precision has
        with without_autocast(query):
            return self._attend(
                *map(at_least_float32, (query, value)),
                references,
                levels,
                padding_mask,
            )

    def _attend(
        self,
        query: Tensor,
        value: Tensor,
        references: Tensor,
        levels: FeatureLevels,
        padding_mask: Tensor | None,
    ) -> Tensor:
        num_heads = self.points[0]
        value = self.value_proj(value)
        if padding_mask is not None:
            value = value.masked_fill(padding_mask[..., None], 0)
        value = value.unflatten(-1, (num_heads, -1))
        if query.device.type != 'cpu' or is_traced():
            return self._read(query, value, references, levels)
        frames = max(1, _QUERIES_PER_PART // query.shape[1])
        if frames >= len(value):
            return self._read(query, value, references, levels)
        # frames do not meet: work on as many as the cache holds
        references = references.expand(len(value), -1, -1, -1)
        parts = (x.split(frames) for x in (query, value, references))
        return torch.cat(
            [self._read(*part, levels) for part in zip(*parts, strict=True)]
        )

    def _read(
        self,
        query: Tensor,
        value: Tensor,
        references: Tensor,
        levels: FeatureLevels,
    ) -> Tensor:
        """Read values (B, tokens, heads, D) where queries point to."""
        num_heads, num_levels, num_points = self.points
        weights = self.attention_weights(query).unflatten(-1, (num_heads, -1))
        weights = weights.softmax(-1)
        weights = weights.unflatten(-1, (num_levels, num_points))

        def of_all_points(per_level: Tensor) -> Tensor:
            # [..., L, 2] -> [..., L * P * 2]; long rows are fast to work on
            shape = (*per_level.shape[:-1], num_points, 2)
            return per_level.unsqueeze(-2).expand(shape).flatten(-3)

        # in cells of a level around a point, in half sizes around a box
        offsets = self.sampling_offsets(query).unflatten(-1, (num_heads, -1))
        if references.shape[-1] == 2:
            extents = of_all_points(1 / levels.sizes.flip(-1))
        else:
            sizes = references[..., 2:] * (0.5 / num_points)
            extents = of_all_points(sizes)[:, :, None]
        locations = torch.addcmul(
            of_all_points(references[..., :2])[:, :, None],
            offsets,
            extents,
        ).unflatten(-1, (num_levels, num_points, 2))
        return self.output_proj(
            sample_levels(value, levels, locations, weights)
        )
