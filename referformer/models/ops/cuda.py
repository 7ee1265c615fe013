# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Multi-scale deformable attention by mmcv's compiled CUDA operator.

The operator is registered with PyTorch, shapes of its results included, so
that fake tensors and ``torch.compile`` work.
"""

from functools import cache
from typing import Any

import torch
from mmcv.ops.multi_scale_deform_attn import ext_module
from torch import Tensor

from referformer.models.ops.levels import FeatureLevels
from referformer.utils.mmcv_extension import has_compiled_operators
from referformer.utils.precision import at_least_float32

#: Frames that one launch takes at most.
_MAX_FRAMES_PER_LAUNCH = 64


@cache
def is_available() -> bool:
    """Tell whether mmcv was compiled with CUDA operators."""
    if not has_compiled_operators():
        return False
    from mmcv.ops import get_compiling_cuda_version

    return get_compiling_cuda_version() != 'not available'


def frames_per_launch(num_frames: int) -> int:
    """The largest divisor of the number of frames that is not above 64.

    The operator works through the frames in equal parts and stops with an
    error where they do not come out even: with its default of 64, a video of
    70 frames or a batch of 16 clips of five.
    """
    largest = min(num_frames, _MAX_FRAMES_PER_LAUNCH)
    return next(n for n in range(largest, 0, -1) if num_frames % n == 0)


@torch.library.custom_op('referformer::sample_levels', mutates_args=())
def _forward(
    value: Tensor,
    sizes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
) -> Tensor:
    # mmcv launches on the current device, whichever holds the tensors
    with torch.cuda.device_of(value):
        return ext_module.ms_deform_attn_forward(
            value,
            sizes,
            starts,
            locations,
            weights,
            im2col_step=frames_per_launch(len(value)),
        )


@_forward.register_fake
def _(
    value: Tensor,
    sizes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
) -> Tensor:
    return value.new_empty(*locations.shape[:2], value[0, 0].numel())


@torch.library.custom_op(
    'referformer::sample_levels_backward', mutates_args=()
)
def _backward(
    value: Tensor,
    sizes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    grads = tuple(map(torch.zeros_like, (value, locations, weights)))
    with torch.cuda.device_of(value):
        ext_module.ms_deform_attn_backward(
            value,
            sizes,
            starts,
            locations,
            weights,
            grad,
            *grads,
            im2col_step=frames_per_launch(len(value)),
        )
    return grads


@_backward.register_fake
def _(
    value: Tensor,
    sizes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(map(torch.empty_like, (value, locations, weights)))


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    value, locations, weights = _backward(
        *ctx.saved_tensors, grad.contiguous()
    )
    return value, None, None, locations, weights


_forward.register_autograd(_differentiate, setup_context=_save)


def sample_levels(
    value: Tensor, levels: FeatureLevels, locations: Tensor, weights: Tensor
) -> Tensor:
    """See :func:`referformer.models.ops.sample_levels`."""
    dtype = value.dtype
    # bfloat16 has no kernel, and the backward pass of float16 accumulates in
    # it: both lose what attention is made of
    value = at_least_float32(value).contiguous()
    return _forward(
        value,
        levels.sizes,
        levels.starts,
        locations.to(value.dtype).contiguous(),
        weights.to(value.dtype).contiguous(),
    ).to(dtype)
