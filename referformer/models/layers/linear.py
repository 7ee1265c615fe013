# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Linear layers and feed-forward networks on many tokens."""

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN as _MMCVFFN
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def tokens_per_part(x: Tensor) -> int:
    """Tell how many tokens to work on at a time where each is on its own.

    On CPU what follows from them then stays in the cache, on CUDA it stays
    below 1 GiB.

    Args:
        x (Tensor): The tokens; only their device matters.

    Returns:
        int: Tokens per part.
    """
    return 2**11 if x.device.type == 'cpu' else 2**16


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer to tokens.

    On CPU it runs as a convolution with a 1x1 kernel, which is the same sum:
    PyTorch hands convolutions to oneDNN but matrix products to MKL, and the
    latter leaves half of the speed of other vendors' processors unused.

    Args:
        x (Tensor): Tokens, shape (..., C_in).
        weight (Tensor): Shape (C_out, C_in).
        bias (Tensor, optional): Shape (C_out,).

    Returns:
        Tensor: Shape (..., C_out).
    """
    if x.device.type != 'cpu' or x.numel() < 2**16:
        return F.linear(x, weight, bias)
    # [..., C] is the memory of an image of one row, channels last
    image = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
    out = F.conv2d(image, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class _ReLUDropout(torch.autograd.Function):
    """Dropout of rectified values that keeps its result and nothing else."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, rate: float) -> Tensor:
        ctx.scale = 1 / (1 - rate)
        kept = torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - rate)
        out = x.relu_().mul_(kept).mul_(ctx.scale)
        ctx.mark_dirty(x)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        # what is positive was positive before, and was kept
        (out,) = ctx.saved_tensors
        return (grad * ctx.scale).mul_(out > 0), None


def relu_dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Rectify and drop out, in place.

    Args:
        x (Tensor): Any shape; overwritten.
        rate (float): Dropout rate.
        training (bool): Whether to drop anything.

    Returns:
        Tensor: ``dropout(relu(x), rate, training)``.
    """
    if not training or rate == 0:
        return F.relu_(x)
    return _ReLUDropout.apply(x, rate)


class FFN(_MMCVFFN):
    """mmcv's network of two layers and ReLU, in less memory.

    The hidden layer is eight times the tokens: in training it is kept once,
    and parts of the tokens are worked on one after another, so that nothing
    else of its size ever exists.

    Args:
        embed_dims (int): Channels C.
        feedforward_channels (int): Channels of the hidden layer.
        ffn_drop (float): Dropout rate of the hidden layer and the result.
    """

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        ffn_drop: float = 0.0,
    ) -> None:
        super().__init__(embed_dims, feedforward_channels, ffn_drop=ffn_drop)

    def _residual(self, x: Tensor) -> Tensor:
        (expand, _, drop), contract, out_drop = self.layers
        hidden = linear(x, expand.weight, expand.bias)
        hidden = relu_dropout(hidden, drop.p, self.training)
        return out_drop(linear(hidden, contract.weight, contract.bias))

    def forward(self, x: Tensor, identity: Tensor | None = None) -> Tensor:
        """Transform tokens.

        Args:
            x (Tensor): Shape (..., C).
            identity (Tensor, optional): What to add to the result; ``x``
                when None.

        Returns:
            Tensor: Shape (..., C).
        """
        identity = x if identity is None else identity
        parts = x.reshape(-1, x.shape[-1]).split(tokens_per_part(x))
        out = torch.cat([self._residual(part) for part in parts])
        return out.view_as(identity) + identity
