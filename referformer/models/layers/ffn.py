# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Feed-forward networks on many tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from referformer.models.layers.linear import (
    Linear,
    multiply,
    runs_as_convolution,
)
from referformer.models.layers.memory import call_in_parts
from referformer.models.layers.plain import is_plain


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


class _TwoLayersFunction(torch.autograd.Function):
    """Linear, ReLU, dropout, linear on a CPU, without copies between them.

    The tokens and the hidden layer are kept. Gradients of weights are plain
    products: the convolution's own are slower.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        rate: float,
    ) -> Tensor:
        ctx.scale = 1 / (1 - rate)
        hidden = multiply(x, weight1, bias1).relu_()
        if rate > 0:
            kept = torch.empty_like(hidden).bernoulli_(1 - rate)
            hidden.mul_(kept.mul_(ctx.scale))
        ctx.save_for_backward(x, weight1, weight2, hidden)
        return multiply(hidden, weight2, bias2)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight1, weight2, hidden = ctx.saved_tensors
        grad = grad.contiguous()
        inner = multiply(grad, weight2.t() * ctx.scale)
        # what is positive was positive before, and was kept
        torch.ops.aten.threshold_backward.grad_input(
            inner, hidden, 0, grad_input=inner
        )
        needed = ctx.needs_input_grad
        return (
            multiply(inner, weight1.t()) if needed[0] else None,
            inner.t() @ x if needed[1] else None,
            inner.sum(0) if needed[2] else None,
            grad.t() @ hidden if needed[3] else None,
            grad.sum(0) if needed[4] else None,
            None,
        )


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
        return tokens + self._map(tokens)

    def _map(self, tokens: Tensor) -> Tensor:
        """The layers on tokens (P, C)."""
        first, second, dropout = self.layers
        linear, activation = first
        if not (
            torch.is_grad_enabled()
            and runs_as_convolution(tokens)
            and is_plain(nn.Sequential, self.layers, first)
            and is_plain(Linear, linear, second)
            and is_plain(ReLUDropout, activation)
        ):
            return self.layers(tokens)
        return dropout(
            _TwoLayersFunction.apply(
                tokens,
                linear.weight,
                linear.bias,
                second.weight,
                second.bias,
                activation.p if activation.training else 0.0,
            )
        )
