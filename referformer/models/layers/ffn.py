# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Feed-forward networks on many tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from referformer.models.layers.linear import Linear
from referformer.models.layers.memory import call_in_parts


class _ReLUDropoutFunction(torch.autograd.Function):
    """ReLU and dropout that store only their result for the backward pass."""

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


class ReLUDropout(nn.Dropout):
    """ReLU and dropout in place, which keep one tensor between them.

    Args:
        p (float): Dropout rate.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Overwrite ``x`` of any shape with ``dropout(relu(x))``."""
        if not self.training or self.p == 0:
            return F.relu_(x)
        return _ReLUDropoutFunction.apply(x, self.p)


class FFN(nn.Module):
    """Residual network of two layers with ReLU between them.

    The hidden layer is eight times the tokens: in training it is kept once,
    and parts of the tokens are worked on one after another, so that nothing
    else of its size ever exists.

    Args:
        embed_dims (int): Channels C.
        feedforward_channels (int): Channels of the hidden layer.
        dropout (float): Dropout rate of the hidden layer and the result.
    """

    def __init__(
        self, embed_dims: int, feedforward_channels: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Sequential(
                Linear(embed_dims, feedforward_channels), ReLUDropout(dropout)
            ),
            Linear(feedforward_channels, embed_dims),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens ``x`` of shape (..., C)."""
        tokens = x.reshape(-1, x.shape[-1])
        return call_in_parts(self._add, tokens).view_as(x)

    def _add(self, tokens: Tensor) -> Tensor:
        return tokens + self.layers(tokens)
