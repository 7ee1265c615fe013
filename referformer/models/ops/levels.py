# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Sizes and places of several feature maps laid out as one row of tokens."""

from typing import NamedTuple

import torch
from torch import Tensor

from referformer.utils.kept import is_traced, kept
from referformer.utils.sizes import Size, as_tensor
from referformer.utils.transfer import send

Shapes = tuple[tuple[Size, Size], ...]


class FeatureLevels(NamedTuple):
    """Geometry of L feature maps, finest first.

    Attributes:
        shapes (tuple[tuple[int, int]]): (height, width) of each level.
        sizes (Tensor): The same on the device, int64, shape (L, 2).
        starts (Tensor): First token of each level, int64, shape (L,).
        centers (tuple[Tensor]): (x, y) of the tokens of each level, 0 and 1
            at the borders of the map, float32, shape (h * w, 2) each.
    """

    shapes: Shapes
    sizes: Tensor
    starts: Tensor
    centers: tuple[Tensor, ...]

    @property
    def areas(self) -> list[int]:
        """Number of tokens of each level."""
        return [height * width for height, width in self.shapes]


def _describe(shapes: Shapes, device: torch.device) -> FeatureLevels:
    areas = [height * width for height, width in shapes]
    centers = []
    for height, width in shapes:
        x = (torch.arange(width, device=device) + 0.5) / width
        y = (torch.arange(height, device=device) + 0.5) / height
        grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), -1)
        centers.append(grid.flatten(0, 1))
    starts = [sum(areas[:i]) for i in range(len(areas))]
    return FeatureLevels(
        shapes,
        as_tensor(shapes, device),
        as_tensor(starts, device),
        tuple(centers),
    )


@kept(maxsize=512)
def _describe_once(shapes: Shapes, device: torch.device) -> FeatureLevels:
    _, sizes, starts, centers = _describe(shapes, torch.device('cpu'))
    return FeatureLevels(
        shapes,
        send(sizes, device),
        send(starts, device),
        tuple(send(part, device) for part in centers),
    )


def describe_levels(shapes: Shapes, like: Tensor) -> FeatureLevels:
    """Describe feature maps of the given shapes.

    The result is kept. Training at several scales sees some 160 combinations
    of shapes.

    Args:
        shapes (tuple[tuple[int, int]]): (height, width) of the L levels.
        like (Tensor): A tensor on the device in question.

    Returns:
        FeatureLevels: On that device.
    """
    if is_traced(like):
        return _describe(shapes, like.device)
    return _describe_once(shapes, like.device)
