# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The linear layer of every part of the model."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from referformer.utils.kept import is_traced

#: Numbers in the input from which the convolution is faster.
_MIN_SIZE = 2**16


def runs_as_convolution(x: Tensor) -> bool:
    """Tell whether linear layers of ``x`` are computed by :func:`multiply`."""
    return (
        x.device.type == 'cpu'
        and not torch.is_autocast_enabled('cpu')
        and x.dtype == torch.float32
        and not is_traced()
        and x.numel() >= _MIN_SIZE
    )


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``F.linear`` as a convolution with a 1x1 kernel.

    Args:
        x (Tensor): Shape (..., C_in).
        weight (Tensor): Shape (C_out, C_in).
        bias (Tensor, optional): Shape (C_out,).

    Returns:
        Tensor: Shape (..., C_out).
    """
    # [..., C] is the memory of an image of one row, channels last
    image = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
    out = F.conv2d(image, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """A linear layer that is fast for many tokens on any processor.

    On CPU it runs as a convolution with a 1x1 kernel, which is the same sum:
    PyTorch hands convolutions to oneDNN but matrix products to MKL, and the
    latter leaves half of the speed of other vendors' processors unused; on
    those of Intel both are equally fast. Products in bfloat16 are oneDNN's in
    any case. A compiler chooses its own kernels, and gets a plain product.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` of shape (..., C_in) to (..., C_out)."""
        if runs_as_convolution(x):
            return multiply(x, self.weight, self.bias)
        return super().forward(x)
