# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The fastest implementation for the device at hand."""

import warnings
from functools import cache

import torch
from torch import Tensor

from referformer.models.ops import cpu, cuda, grid_sample
from referformer.models.ops.levels import FeatureLevels, is_traced


@cache
def _warn_of_slow_path(device_type: str) -> None:
    warnings.warn(
        'Multi-scale deformable attention runs on grid_sample, which is '
        'slower and takes more memory: mmcv has no compiled operator for '
        f'{device_type} here. On NVIDIA GPUs, install mmcv with its CUDA '
        'operators (docs/cuda.md).',
        stacklevel=3,
    )


def sample_levels(
    value: Tensor, levels: FeatureLevels, locations: Tensor, weights: Tensor
) -> Tensor:
    """Sum up bilinear samples of several feature maps.

    The sampling and summation of multi-scale deformable attention. It is
    computed in float32 or float64, whichever ``value`` comes in.

    Args:
        value (Tensor): Values of B frames, shape (B, tokens, heads, D).
        levels (FeatureLevels): Geometry of the L maps that the tokens are.
        locations (Tensor): (x, y) of the samples, 0 and 1 at the borders of
            a map; outside of it everything is zero.
            Shape (B, Q, heads, L, P, 2).
        weights (Tensor): Weight of each sample, shape (B, Q, heads, L, P).

    Returns:
        Tensor: Shape (B, Q, heads * D), of the dtype of ``value``.
    """
    arguments = (value, levels, locations, weights)
    traced = is_traced(value)
    if value.device.type == 'cpu' and not traced:
        return cpu.sample_levels(*arguments)
    exported = torch.compiler.is_exporting() or torch.jit.is_tracing()
    if value.is_cuda and cuda.is_available() and not exported:
        return cuda.sample_levels(*arguments)
    if not traced:
        _warn_of_slow_path(value.device.type)
    return grid_sample.sample_levels(*arguments)
