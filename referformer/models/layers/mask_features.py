# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Mask features whose last convolution waits for the filters."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from referformer.models.layers.plain import is_plain
from referformer.utils.kept import is_traced
from referformer.utils.precision import at_least_float32, without_autocast


class MaskFeatures(NamedTuple):
    """Mask features, given as the convolution that computes them.

    All that is done with mask features are products with dynamic filters. A
    convolution is linear as well, so filters and kernel can be multiplied
    first: for 8 filters, a convolution to 8 channels replaces one to 256.

    Attributes:
        maps (Tensor): What the convolution reads, shape (B, C, h, w).
        conv (nn.Conv2d): To C_mask channels; keeps height and width.
    """

    maps: Tensor
    conv: nn.Conv2d

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mask features, (B, C_mask, h, w)."""
        num_frames, _, height, width = self.maps.shape
        return num_frames, self.conv.out_channels, height, width

    def compute(self) -> Tensor:
        """The mask features."""
        return self.conv(self.maps)

    def filter(self, weight: Tensor) -> Tensor:
        """Multiply P filters of each frame with its features, in float32.

        Args:
            weight (Tensor): Shape (B, P, C_mask).

        Returns:
            Tensor: Shape (B, P, h, w).
        """
        conv = self.conv
        num_frames, num_filters, channels = weight.shape
        with without_autocast(weight):
            maps = at_least_float32(self.maps)
            if num_filters >= channels:
                return filter_maps(conv(maps), weight)
            # [B * P, C_mask] times [C_mask, C * 3 * 3] and [C_mask, 1]
            rows = weight.flatten(0, 1)
            kernels = (rows @ conv.weight.flatten(1)).view(
                num_frames, num_filters, *conv.weight[0].shape
            )
            biases = (rows @ conv.bias[:, None]).view(num_frames, -1)
            # faster than one convolution in groups
            return torch.cat(
                [
                    F.conv2d(*frame, padding=conv.padding)
                    for frame in zip(
                        maps.split(1), kernels, biases, strict=True
                    )
                ]
            )


def filter_maps(maps: Tensor, weight: Tensor) -> Tensor:
    """Multiply filters (B, P, C) with maps (B, C, h, w) of the same frame."""
    return (weight @ maps.flatten(2)).unflatten(2, maps.shape[-2:])


def make_mask_features(maps: Tensor, conv: nn.Conv2d) -> Tensor | MaskFeatures:
    """Convolve maps, now or once the filters are known.

    It waits on CPUs in float32, where products take the time, and where the
    convolution is nothing but its weights: hooks, adapters and compilers see
    the convolution itself.

    Args:
        maps (Tensor): Shape (B, C, h, w).
        conv (nn.Conv2d): Convolution to C_mask channels.
    """
    waits = (
        maps.device.type == 'cpu'
        and maps.dtype == torch.float32
        and not torch.is_autocast_enabled('cpu')
        and not is_traced(maps)
        and is_plain(nn.Conv2d, conv)
    )
    return MaskFeatures(maps, conv) if waits else conv(maps)
